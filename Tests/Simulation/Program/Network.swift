import Formats
import Linux
import ReplicationLog

/// The network between the hosts, and on each the event loop that its links' users are called on.
///
/// A connection keeps what is sent in order, as TCP does; two connections do not wait for each other. Faults: it is cut at
/// any byte; one end hears of it and the other only by the silence; a frame comes twice; bytes of a batch are changed (TLS
/// would end the connection before; here the batch's own checksum has to see it).
///
/// `@unchecked Sendable` holds because only the thread with the world's baton touches it.
final class Network: LinkDialer, @unchecked Sendable {
    let world: World
    private var listeners: [String: (host: Host, makeUser: () -> any LinkUser)] = [:]
    /// Those that are open.
    private(set) var links: [SimulatedLink] = []
    private var all: [SimulatedLink] = []
    /// Every frame that a host sends, before it is lost or changed.
    var tap: (Host, SimulatedLink, [UInt8]) -> Void = { _, _, _ in }
    /// For mutations: what is to be sent instead, and what is done when something has come.
    var received: (Host, Message, Link) -> Void = { _, _, _ in }
    var rewrite: (Host, [UInt8]) -> [UInt8] = { $1 }
    /// What has come to a host, and been taken by it.
    var taken: (Host, SimulatedLink, Message) -> Void = { _, _, _ in }
    /// Nobody reaches anybody.
    var isDown = false
    /// Frames that come twice, or are damaged: one in so many; nothing: none.
    var badFrameOneIn: Int?

    init(_ world: World) { self.world = world }

    func listen(_ host: Host, _ makeUser: @escaping () -> any LinkUser) { listeners[host.name] = (host, makeUser) }
    func stopListening(_ host: Host) { listeners[host.name] = nil }

    func dial(_ address: Address, user: any LinkUser) async throws {
        guard let from = world.current.host else { preconditionFailure("nobody dials") }
        try await withCheckedThrowingContinuation { (opened: CheckedContinuation<Void, any Error>) in
            let dialing = Dialing(opened)
            from.loop.after(delay()) { [self] in
                guard !isDown, !from.isDead, let target = listeners[address.host], !target.host.isDead else {
                    return dialing.end(LinkFailure(why: "connect: \(address): nobody listens"))
                }
                let (near, far) = SimulatedLink.pair(self, from, target.host)
                links += [near, far]
                all += [near, far]
                far.user = target.makeUser()
                near.user = user
                world.note("\(from.name): link \(near.number) to \(target.host.name) is open")
                dialing.end(nil)
                far.open()
                near.open()
            }
        }
    }

    func delay() -> Duration {
        world.isLucky(1, in: 12) ? .milliseconds(world.pick(1...80)) : .microseconds(world.pick(30...900))
    }

    /// Nothing refers to anything any more.
    func end() {
        listeners = [:]
        for link in all { link.letGo() }
        (all, links) = ([], [])
        (tap, taken) = ({ _, _, _ in }, { _, _, _ in })
        (rewrite, received) = ({ $1 }, { _, _, _ in })
    }

    func closed(_ link: SimulatedLink) { links.removeAll { $0 === link } }

    /// What was under way is lost, at any byte; each end hears of it in its time.
    func cut(_ some: [SimulatedLink]) {
        for link in some where link.isOpen {
            link.isCut = true
            switch world.pick(0...2) {
            case 0: link.loseFromNow()
            default: break
            }
            // Else what is under way is delivered, also after the other end has dialled again.
            if world.isLucky(1, in: 2) { link.endLater(.milliseconds(world.pick(0...300)), "connection reset") }
        }
    }

    func hostDied(_ host: Host) {
        for link in links where link.host === host {
            link.loseFromNow()
            link.isCut = true
            link.end("the host died", isTold: true)
            link.other?.isCut = true
            if world.isLucky(1, in: 2) { link.other?.endLater(.milliseconds(world.pick(0...50)), "connection reset") }
        }
        listeners[host.name] = nil
    }

    /// Resumed once.
    private final class Dialing: @unchecked Sendable {
        private var opened: CheckedContinuation<Void, any Error>?

        init(_ opened: CheckedContinuation<Void, any Error>) { self.opened = opened }

        func end(_ error: (any Error)?) {
            guard let opened else { return }
            self.opened = nil
            if let error { opened.resume(throwing: error) } else { opened.resume() }
        }
    }
}

/// A host's event loop: a thread that does what is due, in order.
final class EventLoop: @unchecked Sendable {
    private let world: World
    private unowned let host: Host
    private var events: [(time: Int64, number: UInt64, body: () -> Void)] = []
    private var nextNumber: UInt64 = 0
    private var isEnding = false
    private var hasEnded = false

    static let threadName = "loop"

    init(_ world: World, _ host: Host) throws(SystemError) {
        self.world = world
        self.host = host
        _ = try Linux.Thread.start(name: Self.threadName) { [self] in run() }
    }

    func after(_ duration: Duration, _ body: @escaping () -> Void) {
        at(world.nanoseconds + duration.nanosecondsClamped, body)
    }

    func at(_ time: Int64, _ body: @escaping () -> Void) {
        guard !hasEnded else { return }
        events.append((time, nextNumber, body))
        nextNumber += 1
        world.wake(ObjectIdentifier(self))
    }

    func end() {
        isEnding = true
        world.wake(ObjectIdentifier(self))
    }

    private func run() {
        world.current.host = host
        while !isEnding {
            let next = events.indices.min {
                (events[$0].time, events[$0].number) < (events[$1].time, events[$1].number)
            }
            guard let next, events[next].time <= world.nanoseconds else {
                let deadline = next.map { MonotonicTime.now() + .nanoseconds(events[$0].time - world.nanoseconds) }
                world.wait(on: ObjectIdentifier(self), until: deadline)
                continue
            }
            events.remove(at: next).body()
        }
        // Each holds a link, and that the host, which holds this.
        events = []
        hasEnded = true
    }
}

/// One end of a connection.
final class SimulatedLink: LinkTransport, @unchecked Sendable {
    let number: Int
    let host: Host
    private let network: Network
    /// Both are held by the network's events and users as long as either matters.
    private(set) var other: SimulatedLink?
    private var link: Link?
    var user: (any LinkUser)?
    private(set) var isOpen = true
    /// Nothing that is sent arrives any more.
    var isCut = false
    private var lostFrom = Int64.max
    private var frames: [[UInt8]] = []
    private var bytesUnderWay = 0
    private var wasFull = false
    private var lastArrival: Int64 = 0
    private var isPaused = false
    private var held: [[UInt8]] = []
    private var decoder = FrameDecoder()
    private var lastHeard: Int64 = 0

    private static let high = 1 << 20
    private static let low = 256 << 10
    private static let heartbeat = Duration.seconds(5)
    private static let silenceMax = Duration.seconds(20)

    static func pair(_ network: Network, _ one: Host, _ two: Host) -> (SimulatedLink, SimulatedLink) {
        let (near, far) = (SimulatedLink(network, one), SimulatedLink(network, two))
        (near.other, far.other) = (far, near)
        near.link = Link(over: near, peer: two.fingerprint)
        far.link = Link(over: far, peer: one.fingerprint)
        return (near, far)
    }

    private init(_ network: Network, _ host: Host) {
        self.network = network
        self.host = host
        number = host.world.nextLinkNumber()
    }

    private var world: World { network.world }

    func open() {
        lastHeard = world.nanoseconds
        host.loop.after(.zero) { [self] in
            guard isOpen, let link else { return }
            user?.linkOpened(link)
        }
        host.loop.after(Self.heartbeat) { [self] in beat() }
    }

    private func beat() {
        guard isOpen, let link else { return }
        if world.nanoseconds - lastHeard > Self.silenceMax.nanosecondsClamped { return end("silence", isTold: false) }
        if isWritable { user?.linkHeartbeat(link) }
        host.loop.after(Self.heartbeat) { [self] in beat() }
    }

    // MARK: - sending

    var isWritable: Bool { isOpen && bytesUnderWay < Self.high }

    func write(_ head: [UInt8], _ body: [UInt8]) { if isOpen { frames.append(head + body) } }

    func flush() {
        defer { frames = [] }
        guard isOpen, !host.isDead else { return }
        for frame in frames.map({ network.rewrite(host, $0) }) {
            network.tap(host, self, frame)
            if let one = network.badFrameOneIn, world.isLucky(1, in: one), frame[4] == Self.batchKind {
                if world.isLucky(1, in: 2) {
                    world.note("link \(number): a batch comes twice")
                    transmit(frame)
                    transmit(frame)
                } else {
                    world.note("link \(number): a batch is damaged")
                    var damaged = frame
                    damaged[world.pick(5...frame.count - 1)] ^= 1 << UInt8(world.pick(0...7))
                    transmit(damaged)
                }
            } else {
                transmit(frame)
            }
        }
    }

    private static let batchKind = Message.headOfBatch(byteCount: 0)[4]

    private func transmit(_ frame: [UInt8]) {
        guard !isCut, let other else { return }
        bytesUnderWay += frame.count
        if bytesUnderWay >= Self.high { wasFull = true }
        // Now and then in two pieces, so that a cut is anywhere.
        let middle = world.isLucky(1, in: 4) ? world.pick(0...frame.count) : frame.count
        for piece in [Array(frame[..<middle]), Array(frame[middle...])] where !piece.isEmpty {
            let time = max(lastArrival, world.nanoseconds + network.delay().nanosecondsClamped)
            lastArrival = time
            other.host.loop.at(time) { [self, other] in
                bytesUnderWay -= piece.count
                if time < lostFrom { other.arrived(piece) }
                guard wasFull, bytesUnderWay < Self.low else { return }
                wasFull = false
                host.loop.after(.zero) { [self] in
                    if isOpen, let link { user?.linkBecameWritable(link) }
                }
            }
        }
    }

    func loseFromNow() { lostFrom = min(lostFrom, world.nanoseconds) }

    // MARK: - receiving

    private func arrived(_ bytes: [UInt8]) {
        guard isOpen, !host.isDead else { return }
        guard !isPaused else { return held.append(bytes) }
        lastHeard = world.nanoseconds
        bytes.withUnsafeBytes { decoder.push($0) }
        do throws(MalformedBytes) {
            while isOpen, !host.isDead, let link, let message = try decoder.next() {
                user?.link(link, received: message)
                network.taken(host, self, message)
                network.received(host, message, link)
            }
        } catch {
            end("bytes that are no message: \(error)", isTold: false)
        }
    }

    func setReading(paused: Bool) {
        isPaused = paused
        guard !paused else { return }
        host.loop.after(.zero) { [self] in
            let waiting = held
            held = []
            for bytes in waiting { arrived(bytes) }
        }
    }

    func onLoop(_ body: @escaping @Sendable () -> Void) { host.loop.after(.zero, body) }

    // MARK: - ending

    func close() { end(nil, isTold: true) }

    func endLater(_ duration: Duration, _ why: String) {
        host.loop.after(duration) { [self] in end(why, isTold: false) }
    }

    /// What refers to each other goes.
    func letGo() { (user, link, other) = (nil, nil, nil) }

    /// `isTold`: the other end hears of it, if anything reaches it.
    func end(_ why: String?, isTold: Bool) {
        guard isOpen, let link else { return }
        isOpen = false
        network.closed(self)
        if let why { link.noteFailure(why) }
        world.note("\(host.name): link \(number) ends: \(link.closingReason)")
        host.loop.after(.zero) { [self] in
            user?.linkClosed(link, reason: link.closingReason)
            letGo()
        }
        guard isTold, !isCut, let other else { return }
        let time = max(lastArrival, world.nanoseconds + network.delay().nanosecondsClamped)
        other.host.loop.at(time) { [self] in if time < lostFrom { other.end(nil, isTold: false) } }
    }
}

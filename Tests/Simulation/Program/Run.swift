import Formats
import Glibc
import Linux
import Primary
import Replica
import ReplicationLog

/// Faults made on purpose, one at a time: each must be found within 200 seeds.
enum Mutation: String, CaseIterable {
    /// The replica's journal is never really flushed.
    case dropFlush = "drop-flush"
    /// The replica acks as flushed what it has only received.
    case ackEarly = "ack-early"
    /// An index is put in place before the messages that it names.
    case indexFirst = "index-first"
    /// A change is made of a file that is not what it starts from.
    case skipBasis = "skip-basis"
    /// After a crash nothing is applied again from the journal.
    case skipReplay = "skip-replay"
}

/// One seed: two hosts, a Cyrus, faults; then peace, and a look at what came of it.
final class Run {
    let seed: UInt64
    private(set) var statistics = ""

    private let world: World
    private let scratch: String

    /// After peace, both must be one within this.
    private static let patience = Duration.seconds(1200)

    init(seed: UInt64, mutation: Mutation?, scratch: String) {
        self.seed = seed
        self.scratch = scratch + "/\(seed)"
        world = World(seed: seed)
        world.mutation = mutation
        world.scratch = self.scratch + "/"
    }

    var transcript: [String] { world.transcript }

    /// Why it failed; nothing if all is well.
    func run() -> String? {
        Simulation.kernel = world
        defer { Simulation.kernel = nil }
        mkdir(scratch, 0o700)
        do {
            let pool = try TaskPool(world)
            Tasks.use(pool)
            try simulate()
            pool.end()
            while world.hasOthers { world.sleep(.milliseconds(1)) }
        } catch {
            world.fail("the simulation itself: \(error)")
        }
        Tasks.use(nil)
        Disk.removeAll(scratch)
        return world.failure
    }

    private func simulate() throws {
        let network = Network(world)
        let primary = try Host(world, network, "p", .primary, in: scratch)
        let replica = try Host(world, network, "r", .replica, in: scratch)
        (primary.peer, replica.peer) = (replica, primary)
        let oracle = Oracle(world, primary: primary, replica: replica)
        network.tap = oracle.sent
        replica.willStart = { [world] death in
            if death == .kill { oracle.checkAfterKill() }
            oracle.replicaWillStart()
            if world.mutation == .skipReplay { Self.skipReplay(replica, to: oracle.acked) }
        }
        if world.mutation == .dropFlush { replica.volume.unflushable = "/state/journal/" }
        if world.mutation == .ackEarly { Self.ackEarly(on: network) }
        world.atSwitch = { [world] in if world.current.name == "capture" { primary.noteCatalogue() } }
        let cyrus = try CyrusModel(world, primary.layout)
        let cyrusEnd = Flag()
        // Which kinds of faults there are at all, so that some runs are long without a crash.
        let isAboutAwaited = self.world.isLucky(1, in: 6)
        let kinds = isAboutAwaited ? [7] : (0..<9).filter { _ in self.world.isLucky(1, in: 2) }
        let operations = self.world.pick(isAboutAwaited ? 30...60 : 5...40)
        let (world, pauses) = (world, self.world.pick(isAboutAwaited ? 1...30 : 1...200))
        let work = Boxed(cyrus)
        _ = try Linux.Thread.start(name: "cyrus") {
            world.current.isOutside = true
            do {
                while work.value.operationCount < operations, world.failure == nil {
                    try work.value.operate()
                    world.sleep(.milliseconds(world.isLucky(1, in: 10) ? pauses * 50 : world.pick(0...pauses)))
                }
            } catch {
                world.fail("the model of Cyrus: \(error)")
            }
            cyrusEnd.isSet = true
        }
        try disturb(primary, replica, network, oracle, kinds, until: cyrusEnd)
        while !cyrusEnd.isSet { world.sleep(.milliseconds(5)) }
        makePeace(primary, replica, network)
        if world.failure == nil, kinds.count % 4 == 0, oracle.isCopy, world.mutation == nil {
            try failOver(primary, replica, network, oracle)
            return network.end()
        }
        if world.failure == nil { awaitEquality(primary, replica, oracle) }
        replica.end()
        primary.end()
        if world.failure == nil { oracle.checkEqual() }
        if world.failure == nil { oracle.checkMailboxes() }
        if world.failure == nil { oracle.checkMailboxList() }
        network.end()
        world.atSwitch = {}
        (primary.willStart, replica.willStart) = ({ _ in }, { _ in })
        (primary.peer, replica.peer) = (nil, nil)
        statistics =
            "\(cyrus.operationCount) operations, \(oracle.batchCount) batches, \(oracle.checkCount) looks, "
            + "\(primary.startCount)+\(replica.startCount) starts, \(world.switchCount) switches, "
            + "\(Int(world.nanoseconds / 1_000_000_000)) s"
        world.note(statistics)
    }

    // MARK: - mutations

    /// The replica acks as flushed what it has received, as soon as it has.
    private static func ackEarly(on network: Network) {
        let applied = Boxed(Position.zero)
        network.rewrite = { _, frame in
            // Whatever else it is stays as it was.
            guard case .ack(var ack)? = try? Message(decoding: frame[4...]) else { return frame }
            applied.value = ack.applied
            ack.flushed = ack.received
            return Message.ack(ack).encoded()
        }
        network.received = { host, message, link in
            // A damaged one is not acked.
            guard host.role == .replica, case .batch(let bytes) = message,
                let batch = try? SealedBatch(checking: bytes), batch.header.kind == .log,
                let received = host.replica?.status.received, received == batch.position
            else { return }
            link.send(.ack(Ack(received: received, flushed: received, applied: applied.value)))
        }
    }

    /// The replica takes all that it acked for applied.
    private static func skipReplay(_ replica: Host, to position: Position) {
        // A state directory without the file is a new one.
        guard let bytes = try? Descriptor.open(replica.statePath + "/replica", for: .reading).readAll(max: 4096),
            String(decoding: bytes, as: UTF8.self).contains("phase seeded")
        else { return }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
            line.hasPrefix("applied ") ? "applied \(position)" : String(line)
        }
        let text = Array((lines.joined(separator: "\n") + "\n").utf8)
        // Where it fails the mutation is not made, and not found.
        try? AtomicFile.replace(directory: replica.statePath, name: "replica", bytes: text)
    }

    // MARK: - faults

    private func disturb(
        _ primary: Host, _ replica: Host, _ network: Network, _ oracle: Oracle, _ kinds: [Int], until end: Flag
    ) throws {
        primary.transfersSome = world.isLucky(1, in: 3)
        replica.transfersSome = world.isLucky(1, in: 3)
        if world.isLucky(1, in: 3) { network.badFrameOneIn = world.pick(10...100) }
        world.note("faults: \(kinds)\(network.badFrameOneIn.map { ", one bad frame in \($0)" } ?? "")")
        while !end.isSet, world.failure == nil {
            world.sleep(.milliseconds(world.pick(1...(kinds == [7] ? 300 : 1500))))
            guard let kind = kinds.randomElement(using: &world.chance) else { continue }
            switch kind {
            case 0: replica.die(.kill, afterChanges: world.pick(1...120))
            case 1: replica.die(.power, afterChanges: world.pick(1...120))
            case 2: primary.die(.kill, afterChanges: world.pick(1...120))
            case 3: primary.die(.power, afterChanges: world.pick(1...120))
            case 4:
                world.note("the network is cut")
                network.cut(network.links)
            case 5: fail(world.isLucky(1, in: 2) ? primary : replica, .noSpace, oracle)
            case 6: fail(world.isLucky(1, in: 2) ? primary : replica, .inputOutput, oracle)
            case 7:
                world.note("r: files of the store cannot be opened")
                replica.fault = Host.Fault(
                    errno: .inputOutput, calls: ["openat2"], within: "/store/", oneIn: world.pick(1...6),
                    end: world.nanoseconds + Int64(world.pick(1...2000)) * 1_000_000)
            default: (world.isLucky(1, in: 2) ? primary : replica).dieNow(world.isLucky(1, in: 2) ? .kill : .power)
            }
        }
    }

    private func fail(_ host: Host, _ errno: Errno, _ oracle: Oracle) {
        let changing: Set<String> = ["pwrite", "mkdirat", "openat2", "renameat2", "linkat"]
        let flushing: Set<String> = ["fdatasync", "fsync"]
        let isSpace = errno == .noSpace
        let calls =
            isSpace ? changing : world.isLucky(1, in: 2) ? flushing : ["pwrite", "renameat2", "unlinkat", "pread"]
        // What the primary's store cannot give is no fault of its daemon.
        let within =
            host.role == .primary || calls == flushing
            ? "/state/" : ["/state/", "/store/"].randomElement(using: &world.chance)!
        let oneIn = world.pick(1...30)
        world.note("\(host.name): \(errno) from one in \(oneIn) of \(calls.sorted()) in \(within)")
        if host.role == .replica, within == "/store/" { oracle.mayBeTorn = true }
        host.fault = Host.Fault(
            errno: errno, calls: calls, within: within, oneIn: oneIn,
            end: world.nanoseconds + Int64(world.pick(1...3000)) * 1_000_000)
    }

    private func makePeace(_ primary: Host, _ replica: Host, _ network: Network) {
        world.note("peace")
        network.badFrameOneIn = nil
        for host in [primary, replica] {
            host.fault = nil
            host.forgetDeath()
        }
    }

    /// The primary is lost, the replica is promoted; the old primary comes back, hears of it, changes nothing, and becomes
    /// the replica of the new one, over what it has.
    private func failOver(_ primary: Host, _ replica: Host, _ network: Network, _ oracle: Oracle) throws {
        primary.lose(world.isLucky(1, in: 2) ? .kill : .power)
        if world.isLucky(1, in: 2) { replica.dieNow(.kill) }
        replica.end()
        guard world.failure == nil else { return }
        let end = try replica.promote()
        oracle.checkPromoted(end)
        let epoch = max(end.epochSeen, end.applied.epoch).next
        let promoted = try world.outside { try Oracle.tree(replica.layout) }
        network.tap = { _, _, _ in }
        world.atSwitch = {}
        try replica.revive(as: .primary, epoch)
        try primary.revive(as: .primary, Epoch(1))
        let deadline = world.nanoseconds + Self.patience.nanosecondsClamped
        while primary.fencedBy != epoch, world.failure == nil {
            guard world.nanoseconds < deadline else { return world.fail("the old primary was not fenced") }
            world.on(replica) {
                _ = Task {
                    // Nobody there yet: told again.
                    try? await network.dial(Address("p:1")!, user: FenceUser(store: "main", epoch: epoch) { _ in })
                }
            }
            world.sleep(.seconds(2))
        }
        primary.awaitDown()
        world.outside {
            if let now = try? Oracle.tree(replica.layout), now == promoted { return }
            world.fail("something changed the new primary's store")
        }
        primary.forgetState()
        try primary.revive(as: .replica, Epoch(1))
        let back = Oracle(world, primary: replica, replica: primary)
        awaitEquality(replica, primary, back)
        primary.end()
        replica.end()
        if world.failure == nil { back.checkEqual() }
        // What had not come was told at the promotion, and is missing.
        if world.failure == nil, end.awaited.isEmpty { back.checkMailboxes() }
        statistics = "failed over and back, \(Int(world.nanoseconds / 1_000_000_000)) s"
        world.note(statistics)
    }

    /// Until the replica has applied all that the primary has.
    private func awaitEquality(_ primary: Host, _ replica: Host, _ oracle: Oracle) {
        let deadline = world.nanoseconds + Self.patience.nanosecondsClamped
        var goal: Position?
        while world.failure == nil {
            guard world.nanoseconds < deadline else {
                return world.fail(
                    "not equal \(Self.patience) after peace: goal \(goal.map { "\($0)" } ?? "none"), primary "
                        + "\(primary.primary.map { "\($0.status.journaled)" } ?? "down"), replica "
                        + "\(replica.replica.map { "\($0.status)" } ?? "down")")
            }
            world.sleep(.milliseconds(20))
            guard let one = primary.primary, let other = replica.replica else {
                goal = nil
                continue
            }
            if goal == nil { goal = primary.positionNow(one) }
            let status = other.status
            if let goal, status.applied >= goal, status.awaitedCount == 0 { return }
        }
    }
}

/// Set by one thread and read by another, both with the baton.
final class Flag: @unchecked Sendable { var isSet = false }

/// Shared by threads, of which one has the baton.
final class Boxed<Value>: @unchecked Sendable {
    var value: Value

    init(_ value: Value) { self.value = value }
}

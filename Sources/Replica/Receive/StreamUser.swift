import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Synchronization

/// The replica's side of a link that carries the log.
///
/// Life: says hello when the link opens, checks every batch for being the next one, hands it to the intake; ended by
/// either end. `ended` tells why, and whether it makes sense to come back with the same.
final class StreamUser: LinkUser {
    enum End: Sendable {
        case closed(String)
        case refused(Refusal, String)
        /// The log goes on elsewhere.
        case jump(Welcome)
    }

    private struct State {
        var receiver: Receiver
        var refusal: (Refusal, String)?
        var isPaused = false
        var jump: Welcome?
    }

    private let hello: Hello
    private let shared: SharedReplica
    private let state: Mutex<State>
    private let place: Place
    private let log: Logger
    private let ended: @Sendable (End) -> Void

    /// The intake may be so far behind before the link is read no further, and goes on when it is down to half.
    private static let arrivedBytesMax = 32 << 20
    /// What a batch takes in memory besides its bytes.
    private static let batchOverheadBytes = 256

    init(
        hello: Hello, place: Place, shared: SharedReplica, log: Logger, ended: @escaping @Sendable (End) -> Void
    ) {
        self.hello = hello
        self.place = place
        self.shared = shared
        self.log = log
        self.ended = ended
        state = Mutex(State(receiver: Receiver(after: hello.flushed, hash: hello.hash)))
    }

    func linkOpened(_ link: Link) { link.send(.hello(hello)) }

    func link(_ link: Link, received message: Message) {
        shared.update { $0.lastHeard = .now() }
        switch message {
        case .welcome(let welcome):
            if welcome.start > hello.flushed {
                state.withLock { $0.jump = welcome }
                return link.close(because: "the log goes on after \(welcome.start)")
            }
            guard welcome.start == hello.flushed else {
                return link.refuse(
                    .failed, "asked for the log after \(hello.flushed), was offered it after \(welcome.start)")
            }
            log.info("following the log of \(link.peer) from \(welcome.start)")
            shared.enter(.catchingUp)
            shared.attach(link)
            link.send(.place(place))
            shared.ack()
            shared.repeatPause()
        case .batch(let bytes):
            take(bytes, from: link)
        case .heartbeat(_, let journaled):
            shared.update { $0.journaled = max($0.journaled, journaled) }
            if shared.status.applied >= journaled { shared.enter(.streaming) }
            shared.ack()
            shared.repeatPause()
        case .refuse(let refusal, let text):
            state.withLock { $0.refusal = (refusal, text) }
            link.close(because: text)
        case .auditReport(let number, let text):
            shared.audits.arrived(number, text)
        case .hello, .ack, .resend, .seedListing, .seedWant, .seedPlan, .seedEnd, .verdict, .auditRequest, .place,
            .paused:
            link.refuse(.failed, "a primary does not say that in a stream")
        }
    }

    private func take(_ bytes: [UInt8], from link: Link) {
        do throws(MalformedBytes) {
            let batch = try SealedBatch(checking: bytes)
            let (verdict, hash) = state.withLock { ($0.receiver.arrived(batch), $0.receiver.hash) }
            switch verdict {
            case .append:
                let waiting = shared.work.update { work in
                    work.arrived.append(SharedReplica.Arrived(batch: batch, hash: hash))
                    work.arrivedBytes += bytes.count + Self.batchOverheadBytes
                    return work.arrivedBytes
                }
                shared.update {
                    $0.journaled = max($0.journaled, batch.position)
                    $0.received = max($0.received, batch.position)
                }
                if waiting > Self.arrivedBytesMax { pause(link) }
            case .duplicate:
                break
            case .refuse(let problem):
                link.refuse(.failed, problem.description)
            }
        } catch {
            link.refuse(.failed, "a damaged batch: \(error)")
        }
    }

    /// Reads no further until the intake has caught up; asked again whenever an ack is due.
    private func pause(_ link: Link) {
        let isPausedAlready = state.withLock { state in
            defer { state.isPaused = true }
            return state.isPaused
        }
        // What was read in one go may hold many batches more.
        guard !isPausedAlready else { return }
        link.setReading(paused: true)
        do throws(SystemError) {
            let shared = shared
            _ = try Thread.start(name: "resume") {
                _ = shared.work.wait { $0.arrivedBytes <= Self.arrivedBytesMax / 2 || $0.isStopping }
                self.state.withLock { $0.isPaused = false }
                link.setReading(paused: false)
            }
        } catch {
            link.close(because: "\(error)")
        }
    }

    func linkBecameWritable(_ link: Link) {}

    func linkHeartbeat(_ link: Link) {
        link.send(.heartbeat(timeNanoseconds: Timestamp.now().nanoseconds, journaled: shared.status.flushed))
    }

    func linkClosed(_ link: Link, reason: String) {
        shared.attach(nil)
        let (refusal, jump) = state.withLock { ($0.refusal, $0.jump) }
        if let jump { return ended(.jump(jump)) }
        ended(refusal.map { .refused($0.0, $0.1) } ?? .closed(reason))
    }
}

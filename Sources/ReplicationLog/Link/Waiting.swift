internal import Linux
internal import Logging
internal import NIOCore
internal import Synchronization

/// Connections that have not shown who they are yet: so many at most, and each for so long at most.
///
/// Anybody may connect, so whoever comes next makes the one that has waited longest go: a flood of connections that say
/// nothing costs a bounded memory, and a replica that comes meanwhile has its turn, since its handshake is done long
/// before as many have come behind it.
final class Waiting: Sendable {
    private struct State {
        /// Oldest first.
        var channels: [any Channel] = []
        var nextComplaint = MonotonicTime.distantPast
        var droppedCount = 0
    }

    private let state = Mutex(State())
    private let log: Logger

    static let countMax = 64
    private static let complaintInterval = Duration.seconds(10)

    init(log: Logger) { self.log = log }

    func entered(_ channel: any Channel) {
        let (oldest, complaint) = state.withLock { state -> ((any Channel)?, Int?) in
            state.channels.append(channel)
            guard state.channels.count > Self.countMax else { return (nil, nil) }
            state.droppedCount += 1
            let now = MonotonicTime.now()
            guard now >= state.nextComplaint else { return (state.channels.removeFirst(), nil) }
            state.nextComplaint = now + Self.complaintInterval
            defer { state.droppedCount = 0 }
            return (state.channels.removeFirst(), state.droppedCount)
        }
        oldest?.close(promise: nil)
        if let complaint {
            log.warning(
                "more than \(Self.countMax) connections have not shown who they are: \(complaint) dropped, the oldest first"
            )
        }
    }

    func left(_ channel: any Channel) { state.withLock { $0.channels.removeAll { $0 === channel } } }
}

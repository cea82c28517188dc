import Linux

/// When an audit rests, and how long. Pure.
///
/// A rate that was asked for is kept. Without one, a thirtieth of a processor is taken from a Cyrus that is at work, and all
/// of it where nothing changes: the capturer and the replicas, which look at as much as this end does, rest with it.
struct AuditPace {
    private let bytesPerSecondMax: Int?
    private let started: MonotonicTime
    private var byteCount = 0
    /// The processor time that was rested for.
    private var paid: Duration

    private static let restPerWork = 29
    private static let workMin = Duration.milliseconds(1)
    /// What was worked beyond that is rested for later, so that no rest is long.
    private static let workMax = Duration.milliseconds(20)
    private static let restMin = Duration.milliseconds(5)
    private static let hastyPause = Duration.milliseconds(20)
    private static let pauseMax = Duration.milliseconds(500)

    /// `work`: the processor time that its thread has used so far.
    init(bytesPerSecondMax: Int?, now: MonotonicTime, work: Duration) {
        self.bytesPerSecondMax = bytesPerSecondMax.flatMap { $0 > 0 ? $0 : nil }
        started = now
        paid = work
    }

    /// After reading so many bytes.
    mutating func rest(read: Int, now: MonotonicTime) -> Duration {
        guard let max = bytesPerSecondMax else { return .zero }
        byteCount += read
        let left = started + .nanoseconds(Int64(Double(byteCount) / Double(max) * 1e9)) - now
        return left > Self.restMin ? left : .zero
    }

    /// After whatever it was, up to `work`.
    mutating func rest(work: Duration, isCyrusAtWork: Bool) -> Duration {
        let owed = work - paid
        guard owed >= Self.workMin else { return .zero }
        guard bytesPerSecondMax == nil, isCyrusAtWork else {
            paid = work
            return .zero
        }
        let rested = min(owed, Self.workMax)
        paid += rested
        return rested * Self.restPerWork
    }

    /// Before directories that were being written are asked for again, of which one was so often.
    func pause(afterAttempts count: Int, isCyrusAtWork: Bool) -> Duration {
        let isPolite = bytesPerSecondMax == nil && isCyrusAtWork
        return isPolite ? Self.pauseMax : min(Self.hastyPause * count, Self.pauseMax)
    }
}

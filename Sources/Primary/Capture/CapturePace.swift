import Linux

/// When the next round may begin: soon after a short one, later after a long one. Pure.
///
/// Under load, one reading, one flush and one frame are then for several changes, and capture takes a bounded share of
/// the time of a processor and of the disk, which it shares with Cyrus. Who is at rest for longer waits for nothing.
struct CapturePace {
    private(set) var nextRound = MonotonicTime.distantPast

    private static let pauseMin = Duration.milliseconds(15)
    private static let pauseMax = Duration.milliseconds(300)
    /// A pause is so many times as long as the round's work before it, and so many times more for each millisecond of it:
    /// of a few changes nobody is to wait long, and of many the more there are together the less each costs.
    private static let (workFactor, workFactorPerMillisecond) = (8.0, 4.0)
    /// And so many times as long as the round, which waits for the disk most of all.
    private static let timeFactor = 2

    /// A round that shipped something, or put it off, and took `work` of a processor.
    mutating func ended(_ now: MonotonicTime, began: MonotonicTime, work: Duration) {
        let factor = Self.workFactor + Self.workFactorPerMillisecond * (work / .milliseconds(1))
        let pause = max(work * factor, (now - began) * Self.timeFactor, Self.pauseMin)
        nextRound = now + min(pause, Self.pauseMax)
    }
}

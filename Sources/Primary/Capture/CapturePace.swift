import Linux

/// When the next round may begin: soon after a short one, later after a long one. Pure.
///
/// Under load, one reading, one flush and one frame are then for several changes, and capture takes a bounded share of
/// the time of a processor and of the disk, which it shares with Cyrus. Who is at rest for longer waits for nothing.
struct CapturePace {
    private(set) var nextRound = MonotonicTime.distantPast

    private static let pauseMin = Duration.milliseconds(10)
    private static let pauseMax = Duration.milliseconds(300)
    /// A pause is so many times as long as the round before it.
    private static let pauseFactor = 12

    /// A round that shipped something.
    mutating func ended(_ now: MonotonicTime, began: MonotonicTime) {
        nextRound = now + min(max((now - began) * Self.pauseFactor, Self.pauseMin), Self.pauseMax)
    }
}

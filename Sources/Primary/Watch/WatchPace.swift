import Linux

/// How soon the event queues are read again: at once while little happens, at intervals while much does. Pure.
///
/// A delivery ends with some releases of locks, each of which would wake the watching thread. Under load the capturer
/// pauses longer between two rounds (`CapturePace`) than an interval is, so that nobody waits for what is read later.
struct WatchPace {
    /// When as many turns as there were would have been taken at intervals.
    private var even = MonotonicTime.distantPast

    private static let interval = Duration.milliseconds(5)
    /// So many turns may follow one another at once after a rest.
    private static let burst = 8

    /// A turn was taken; returns how long to rest before the next.
    mutating func turned(at now: MonotonicTime) -> Duration {
        even = max(even, now + Self.interval * -Self.burst) + Self.interval
        return max(.zero, even - now)
    }
}

import Linux

/// How soon the event queues are read again: at once while little happens, at intervals while much does. Pure.
///
/// A delivery ends with some releases of locks, each of which would wake the watching thread. Under load the capturer
/// pauses between two rounds (`CapturePace`), and what is read just before the next one is read in time.
struct WatchPace {
    /// When as many turns as there were would have been taken at intervals.
    private var even = MonotonicTime.distantPast

    private static let intervalMin = Duration.milliseconds(5)
    private static let intervalMax = Duration.milliseconds(20)
    /// So long before it is looked at, something is read.
    private static let lead = Duration.milliseconds(2)
    /// So many turns may follow one another at once after a rest, if somebody looks.
    private static let burst = 8

    /// A turn was taken, and nobody looks at what comes by the next one before `nextLook`; returns how long to rest before it.
    mutating func turned(at now: MonotonicTime, nextLook: MonotonicTime) -> Duration {
        let interval = min(max(nextLook - now - Self.lead, Self.intervalMin), Self.intervalMax)
        // A rest that was cut short is not made up for.
        even = min(max(even, now + Self.intervalMin * -Self.burst), now) + interval
        return max(.zero, even - now)
    }
}

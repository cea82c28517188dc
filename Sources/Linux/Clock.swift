internal import Glibc

/// A point in time by the wall clock, which people set and NTP moves: for showing and comparing with file times.
package struct Timestamp: Hashable, Comparable, Sendable {
    /// Since 1970-01-01 00:00 UTC.
    package let nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// clock_gettime CLOCK_REALTIME
    package static func now() -> Timestamp { Timestamp(nanoseconds: read(CLOCK_REALTIME)) }

    package static func < (one: Timestamp, other: Timestamp) -> Bool { one.nanoseconds < other.nanoseconds }
    package static func - (time: Timestamp, duration: Duration) -> Timestamp {
        Timestamp(nanoseconds: time.nanoseconds.addingClamped(-duration.nanosecondsClamped))
    }
    package static func - (one: Timestamp, other: Timestamp) -> Duration {
        .nanoseconds(one.nanoseconds) - .nanoseconds(other.nanoseconds)
    }
    package static func + (time: Timestamp, duration: Duration) -> Timestamp {
        Timestamp(nanoseconds: time.nanoseconds.addingClamped(duration.nanosecondsClamped))
    }
}

/// A point in time by a clock that never goes back and means nothing after a reboot: for timeouts and ages.
package struct MonotonicTime: Hashable, Comparable, Sendable {
    package let nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Before every time that `now` gives.
    package static let distantPast = MonotonicTime(nanoseconds: .min)

    /// clock_gettime CLOCK_MONOTONIC
    package static func now() -> MonotonicTime { MonotonicTime(nanoseconds: read(CLOCK_MONOTONIC)) }

    package static func < (one: MonotonicTime, other: MonotonicTime) -> Bool { one.nanoseconds < other.nanoseconds }
    package static func - (one: MonotonicTime, other: MonotonicTime) -> Duration {
        .nanoseconds(one.nanoseconds) - .nanoseconds(other.nanoseconds)
    }
    package static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
        MonotonicTime(nanoseconds: time.nanoseconds.addingClamped(duration.nanosecondsClamped))
    }
}

/// What a thread has used of a processor.
package enum ProcessorTime {
    /// Of the calling one (clock_gettime CLOCK_THREAD_CPUTIME_ID); in a simulation, the time that went by.
    package static func ofThisThread() -> Duration { .nanoseconds(read(CLOCK_THREAD_CPUTIME_ID)) }
}

/// Where somebody who needs the wall clock gets it from: the system's in the program, a made-up one in a test.
package struct Wallclock: Sendable {
    package let now: @Sendable () -> Timestamp

    package init(now: @escaping @Sendable () -> Timestamp) { self.now = now }

    package static let system = Wallclock { Timestamp.now() }
}

/// The same for the monotonic clock.
package struct MonotonicClock: Sendable {
    package let now: @Sendable () -> MonotonicTime

    package init(now: @escaping @Sendable () -> MonotonicTime) { self.now = now }

    package static let system = MonotonicClock { MonotonicTime.now() }
}

private func read(_ clock: clockid_t) -> Int64 {
    if let simulated = Simulation.kernel { return simulated.now(clock == CLOCK_REALTIME ? .wall : .monotonic) }
    var time = Glibc.timespec()
    let result = clock_gettime(clock, &time)
    precondition(result == 0, "clock_gettime \(clock) says \(Errno.current)")
    return nanoseconds(time)
}

extension Duration {
    /// At the ends of the range, 292 years, the end.
    package var nanosecondsClamped: Int64 {
        let (seconds, attoseconds) = components
        let (whole, tooFar) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if tooFar { return seconds < 0 ? .min : .max }
        return whole.addingClamped(attoseconds / 1_000_000_000)
    }
}

extension Int64 {
    func addingClamped(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }
}

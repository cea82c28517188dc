import Glibc
import Linux
import Testing

@Suite struct ClockTests {
    @Test func `the wall clock is the system's`() {
        let before = time(nil)
        let now = Timestamp.now()
        #expect(now.nanoseconds >= Int64(before) * 1_000_000_000)
        #expect(Wallclock.system.now() >= now)
    }

    @Test func `the monotonic clock does not go back`() {
        let first = MonotonicTime.now()
        #expect(MonotonicClock.system.now() >= first)
    }

    @Test func `times and durations add up, and stop at the ends`() {
        let time = Timestamp(nanoseconds: 1_000)
        #expect(time + .microseconds(2) == Timestamp(nanoseconds: 3_000))
        #expect(time - Timestamp(nanoseconds: 3_000) == .microseconds(-2))
        #expect(time + .seconds(Int64.max) == Timestamp(nanoseconds: .max))
        #expect(Timestamp(nanoseconds: -1_000) + .seconds(Int64.min) == Timestamp(nanoseconds: .min))
        #expect(Timestamp(nanoseconds: .max) - Timestamp(nanoseconds: .min) > .seconds(18_000_000_000))
    }
}

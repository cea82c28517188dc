import Linux
import Testing

@testable import Primary

@Suite struct CapturePaceTests {
    /// Milliseconds from the end of a round to the next.
    private func pause(work: Double, time: Int64) -> Double {
        let began = MonotonicTime(nanoseconds: 1_000_000_000)
        let now = began + .milliseconds(time)
        var pace = CapturePace()
        pace.ended(now, began: began, work: .microseconds(Int64(work * 1000)))
        return (pace.nextRound - now) / .milliseconds(1)
    }

    @Test func `a short round is followed by a short pause`() {
        #expect(pause(work: 0.3, time: 1) == 15)
        #expect(pause(work: 1, time: 2) == 15)
    }

    @Test func `the longer the work, the longer the pause for each millisecond of it`() {
        #expect(pause(work: 2, time: 3) == 32)
        #expect(pause(work: 4, time: 5) == 96)
    }

    @Test func `a slow disk is left alone for a while`() { #expect(pause(work: 1, time: 20) == 40) }

    @Test func `no pause is longer than nearly a third of a second`() { #expect(pause(work: 1000, time: 5000) == 300) }
}

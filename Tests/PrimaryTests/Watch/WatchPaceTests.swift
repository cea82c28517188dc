import Linux
import Testing

@testable import Primary

@Suite struct WatchPaceTests {
    private func time(_ milliseconds: Int64) -> MonotonicTime {
        MonotonicTime(nanoseconds: milliseconds * 1_000_000)
    }

    @Test func `a few turns follow one another at once`() {
        var pace = WatchPace()
        for _ in 0..<8 { #expect(pace.turned(at: time(1000)) == .zero) }
        #expect(pace.turned(at: time(1000)) == .milliseconds(5))
    }

    @Test func `turns without end come at intervals`() {
        var pace = WatchPace()
        var now = time(1000)
        for _ in 0..<8 { _ = pace.turned(at: now) }
        var rests: [Duration] = []
        for _ in 0..<100 {
            let rest = pace.turned(at: now)
            rests.append(rest)
            now = now + rest
        }
        #expect(rests.allSatisfy { $0 == .milliseconds(5) })
    }

    @Test func `turns that are rarer than an interval never rest, and after a rest many may come again`() {
        var pace = WatchPace()
        for step in 0..<100 { #expect(pace.turned(at: time(1000 + Int64(step) * 6)) == .zero) }
        for _ in 0..<7 { #expect(pace.turned(at: time(10_000)) == .zero) }
    }
}

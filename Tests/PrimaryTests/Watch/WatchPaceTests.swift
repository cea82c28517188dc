import Linux
import Testing

@testable import Primary

@Suite struct WatchPaceTests {
    private func time(_ milliseconds: Int64) -> MonotonicTime {
        MonotonicTime(nanoseconds: milliseconds * 1_000_000)
    }

    @Test func `a few turns follow one another at once`() {
        var pace = WatchPace()
        for _ in 0..<8 { #expect(pace.turned(at: time(1000), nextLook: .distantPast) == .zero) }
        #expect(pace.turned(at: time(1000), nextLook: .distantPast) == .milliseconds(5))
    }

    @Test func `turns without end come at intervals`() {
        var pace = WatchPace()
        var now = time(1000)
        for _ in 0..<8 { _ = pace.turned(at: now, nextLook: .distantPast) }
        var rests: [Duration] = []
        for _ in 0..<100 {
            let rest = pace.turned(at: now, nextLook: .distantPast)
            rests.append(rest)
            now = now + rest
        }
        #expect(rests.allSatisfy { $0 == .milliseconds(5) })
    }

    @Test func `turns that are rarer than an interval never rest, and after a rest many may come again`() {
        var pace = WatchPace()
        for step in 0..<100 { #expect(pace.turned(at: time(1000 + Int64(step) * 6), nextLook: .distantPast) == .zero) }
        for _ in 0..<7 { #expect(pace.turned(at: time(10_000), nextLook: .distantPast) == .zero) }
    }

    @Test func `however many rests a cookie cuts short, none is longer for it`() {
        var pace = WatchPace()
        for _ in 0..<1000 { #expect(pace.turned(at: time(1000), nextLook: time(2000)) <= .milliseconds(20)) }
    }

    @Test func `what is not looked at for a while is read just before, and now and then`() {
        var pace = WatchPace()
        for _ in 0..<8 { _ = pace.turned(at: time(1000), nextLook: .distantPast) }
        #expect(pace.turned(at: time(1000), nextLook: time(1015)) == .milliseconds(13))
        #expect(pace.turned(at: time(1013), nextLook: time(1015)) == .milliseconds(5))
        #expect(pace.turned(at: time(1018), nextLook: time(1300)) == .milliseconds(20))
    }
}

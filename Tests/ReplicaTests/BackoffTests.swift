import Testing

@testable import Replica

@Suite struct BackoffTests {
    private let first = Duration.milliseconds(100)
    private let max = Duration.seconds(15)

    @Test func `each pause is between half of its bound and its bound, which doubles up to the most`() {
        for _ in 0..<50 {
            var backoff = Backoff(first: first, max: max)
            var bound = first
            for round in 0..<12 {
                let pause = backoff.next()
                #expect(pause >= bound / 2 && pause <= bound, "round \(round): \(pause) of \(bound)")
                bound = min(bound * 2, max)
            }
            #expect(bound == max)
        }
    }

    @Test func `chance spreads those who were cut off together`() {
        let pauses = (0..<100).map { _ in
            var backoff = Backoff(first: first, max: max)
            return backoff.next()
        }
        #expect(Set(pauses).count > 50)
    }

    @Test func `a reset begins anew`() {
        var backoff = Backoff(first: first, max: max)
        for _ in 0..<10 { _ = backoff.next() }
        backoff.reset()
        #expect(backoff.next() <= first)
    }
}

import Linux
import Testing

@testable import Primary

@Suite struct PatienceTests {
    private var patience = Patience()
    private var round: UInt64 = 0

    private mutating func lasts(_ milliseconds: Int64) -> Bool {
        round += 1
        return lastsStill(milliseconds)
    }

    /// Asked again in the same round.
    private mutating func lastsStill(_ milliseconds: Int64) -> Bool {
        patience.lasts(MonotonicTime(nanoseconds: 1_000_000_000) + .milliseconds(milliseconds), in: round)
    }

    @Test mutating func `those that changed wait two seconds at most, and then others as long`() {
        let asked: [Int64] = [0, 1000, 2000, 2001, 2002, 4002, 4003]
        #expect(asked.map { lasts($0) } == [true, true, true, false, true, true, false])
        #expect(patience.endCount == 2)
    }

    @Test mutating func `in one round there is one answer`() {
        #expect(lasts(0))
        #expect(lastsStill(2001))
        #expect(!lasts(2002))
        #expect(!lastsStill(2003))
        #expect(lasts(2004))
    }

    @Test mutating func `once all is in the log, the time begins anew`() {
        #expect(lasts(0))
        patience.settled()
        #expect(lasts(2001))
    }
}

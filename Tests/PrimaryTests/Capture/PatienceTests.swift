import Linux
import Testing

@testable import Primary

@Suite struct PatienceTests {
    private var patience = Patience()

    private mutating func lasts(_ milliseconds: Int64) -> Bool {
        patience.lasts(MonotonicTime(nanoseconds: 1_000_000_000) + .milliseconds(milliseconds))
    }

    @Test mutating func `those that changed wait two seconds at most, and then others as long`() {
        let asked: [Int64] = [0, 1000, 2000, 2001, 2002, 4002, 4003]
        #expect(asked.map { lasts($0) } == [true, true, true, false, true, true, false])
    }

    @Test mutating func `once all is in the log, the time begins anew`() {
        #expect(lasts(0))
        patience.settled()
        #expect(lasts(2001))
    }
}

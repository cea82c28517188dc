import Linux
import Testing

@testable import Primary

@Suite struct AuditPaceTests {
    private let start = MonotonicTime(nanoseconds: 1_000_000_000)

    private func pace(_ bytesPerSecondMax: Int? = nil) -> AuditPace {
        AuditPace(bytesPerSecondMax: bytesPerSecondMax, now: start, work: .milliseconds(100))
    }

    @Test func `nothing is waited for where nothing changes`() {
        var pace = pace()
        #expect(pace.rest(read: 1 << 30, now: start) == .zero)
        #expect(pace.rest(work: .seconds(5), isCyrusAtWork: false) == .zero)
        #expect(pace.pause(afterAttempts: 3, isCyrusAtWork: false) == .milliseconds(60))
    }

    @Test func `beside Cyrus a thirtieth of the time is work`() {
        var pace = pace()
        #expect(pace.rest(work: .milliseconds(100), isCyrusAtWork: true) == .zero)
        #expect(pace.rest(work: .milliseconds(104), isCyrusAtWork: true) == .milliseconds(116))
        #expect(pace.rest(work: .milliseconds(104), isCyrusAtWork: true) == .zero)
        #expect(pace.pause(afterAttempts: 1, isCyrusAtWork: true) == .milliseconds(500))
        #expect(pace.pause(afterAttempts: 40, isCyrusAtWork: true) == .milliseconds(500))
    }

    @Test func `what was much is rested for in turns, and not at all when Cyrus has ended`() {
        var pace = pace()
        #expect(pace.rest(work: .milliseconds(150), isCyrusAtWork: true) == .milliseconds(580))
        #expect(pace.rest(work: .milliseconds(150), isCyrusAtWork: true) == .milliseconds(580))
        #expect(pace.rest(work: .milliseconds(150), isCyrusAtWork: false) == .zero)
        #expect(pace.rest(work: .milliseconds(150), isCyrusAtWork: true) == .zero)
    }

    @Test func `a rate that was asked for is kept whatever Cyrus does`() {
        var pace = pace(1000)
        #expect(pace.rest(work: .seconds(5), isCyrusAtWork: true) == .zero)
        #expect(pace.rest(read: 500, now: start) == .milliseconds(500))
        #expect(pace.rest(read: 500, now: start + .milliseconds(998)) == .zero)
        #expect(pace.pause(afterAttempts: 3, isCyrusAtWork: true) == .milliseconds(60))
    }

    @Test func `no rate at all is none`() {
        var pace = pace(0)
        #expect(pace.rest(read: 500, now: start) == .zero)
    }
}

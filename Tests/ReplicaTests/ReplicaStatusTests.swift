import Formats
import Linux
import Testing

@testable import Replica

@Suite struct ReplicaStatusTests {
    /// In step with a primary that was heard of at 9; its last batch is of 5.
    private var status: ReplicaStatus {
        var status = ReplicaStatus()
        status.phase = .streaming
        status.applied = position(1, 7)
        status.journaled = position(1, 7)
        status.consistentAfter = position(1, 3)
        status.exactAt = Timestamp(nanoseconds: 5)
        status.lastHeard = Timestamp(nanoseconds: 9)
        return status
    }

    private func exactAsOf(_ change: (inout ReplicaStatus) -> Void) -> Int64? {
        var status = status
        change(&status)
        return status.exactAsOf?.nanoseconds
    }

    @Test func `in step it is exact as of when the primary was heard of, before the first batch too`() {
        #expect(exactAsOf { _ in } == 9)
        #expect(exactAsOf { $0.exactAt = nil } == 9)
    }

    @Test func `else it is exact as of its last batch`() {
        #expect(exactAsOf { $0.journaled = position(1, 8) } == 5)
        #expect(exactAsOf { $0.phase = .disconnected } == 5)
        #expect(exactAsOf { $0.awaitedCount = 1 } == 5)
    }

    @Test func `who waits waits for a copy that is consistent`() {
        #expect(status.reached(position(1, 7)) == position(1, 7))
        #expect(status.reached(position(1, 2)) == .zero)
        for phase in [ReplicaStatus.Phase.unseeded, .seeding, .diverged] {
            var status = status
            status.phase = phase
            #expect(status.reached(position(1, 7)) == .zero)
        }
    }

    @Test func `a copy that is not consistent yet is exact as of nothing`() {
        #expect(exactAsOf { ($0.exactAt, $0.consistentAfter) = (nil, position(1, 8)) } == nil)
    }
}

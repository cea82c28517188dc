import Formats
import Linux
import Testing

@testable import Primary

@Suite struct AuditDeskTests {
    private let inbox = Condition(CaptureInbox())
    private let check = Position(epoch: Epoch(1), sequence: SequenceNumber(7))

    /// What becomes of a check that was put into the log, and that nobody answers.
    private func answer(applied: Position?, isDelivered: Bool = true, isCancelled: Bool = false) -> AuditDesk.Answer {
        let desk = AuditDesk(inbox: inbox, firstNumber: 1)
        desk.follows("mail2")
        if let applied { desk.applied(applied, by: "mail2") }
        let number = desk.submit(.combined, [], in: .configuration, .content, .now, of: 1)
        if isDelivered {
            var delivery = CheckDelivery()
            delivery.position = check
            inbox.withLock { $0.checkRequests }.last?.deliver(delivery)
        }
        return desk.wait(for: number, timeout: .milliseconds(20), isCancelled: { isCancelled })
    }

    private func standing(_ answer: AuditDesk.Answer) -> [String] {
        if case .standing(let replicas) = answer { replicas } else { [] }
    }

    @Test func `a replica that has not come to a check, and does not move, stands`() {
        let before = Position(epoch: Epoch(1), sequence: SequenceNumber(6))
        #expect(standing(answer(applied: before)) == ["mail2"])
    }

    @Test func `who has applied it, was not asked yet, or is not waited for any more does not stand`() {
        #expect(standing(answer(applied: check)).isEmpty)
        #expect(standing(answer(applied: nil, isDelivered: false)).isEmpty)
        #expect(standing(answer(applied: nil, isCancelled: true)).isEmpty)
    }
}

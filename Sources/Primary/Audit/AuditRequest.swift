import Synchronization

/// An audit that an operator asked for at a replica; it came over the link.
package final class AuditRequest: Sendable {
    /// As the replica's program wrote it.
    package let text: [UInt8]
    private let sendLine: @Sendable ([UInt8]) -> Void
    private let cancelled = Atomic(false)

    init(text: [UInt8], sendLine: @escaping @Sendable ([UInt8]) -> Void) {
        self.text = text
        self.sendLine = sendLine
    }

    /// Back to who asked; an empty line is the last.
    package func send(_ line: [UInt8]) { sendLine(line) }

    package var isCancelled: Bool { cancelled.load(ordering: .relaxed) }
    func cancel() { cancelled.store(true, ordering: .relaxed) }
}

package typealias AuditAsked = @Sendable (AuditRequest) -> Void

extension Primary {
    /// Who is told of audits that are asked for at a replica; called on the link's event loop, so it must not wait.
    package func serveAudits(_ asked: @escaping AuditAsked) { auditAsked.withLock { $0 = asked } }
}

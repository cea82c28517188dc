import Formats
import Linux
import Store

// Depth `cyrus`: besides that the ends are equal, that the primary's store is sound by Cyrus's own account. What is proven
// equal byte by byte at one position of the log is as sound on the replica, so it is not looked at there a second time.

extension AuditWalk {
    func checkCyrus(_ mailboxes: [StorePath]) throws {
        let check = CyrusCheck(roots: parts.roots, standing: .live(parts.locks)) { _ in }
        for directory in mailboxes {
            try checkCancelled()
            // The audit has read the messages already; their SHA-1 is another question, so they are read again.
            try look(directory) { () throws(SystemError) in try check.mailbox(directory, messages: .contents) }
        }
        guard options.depth == .cyrus, case .all = options.scope else { return }
        try look(StorePath(root: .configuration)) { () throws(SystemError) in try check.store() }
    }

    /// Tells the verdict of `body` on `path`, or that it cannot be looked at.
    private func look(_ path: StorePath, _ body: () throws(SystemError) -> CyrusVerdict) throws {
        let verdict: CyrusVerdict
        do throws(SystemError) { verdict = try body() } catch { return leaveOut(path, error) }
        try tell(verdict)
    }

    private func tell(_ verdict: CyrusVerdict) throws {
        for finding in verdict.findings where finding.kind.isAlarm {
            var told = AuditFinding(
                kind: .unsound, side: .primary, path: finding.path, evidence: "\(finding.kind.rawValue): \(finding.why)"
            )
            told.mailbox = finding.mailbox.map { "\($0)" }
            tell(told, .found)
        }
        unfinished(verdict.busy.filter { !isUnreadable($0) })
    }
}

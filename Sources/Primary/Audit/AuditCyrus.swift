import Formats
import Linux
import Store

// Depth `cyrus`: besides that the ends are equal, that each end's store is sound by Cyrus's own account, as each end sees it.

extension AuditWalk {
    func checkCyrus(_ mailboxes: [(directory: StorePath, byteCount: Int64)]) throws {
        let check = CyrusCheck(roots: parts.roots, standing: .live(parts.locks)) { _ in }
        for (directory, _) in mailboxes {
            try checkCancelled()
            rest()
            // The audit has read the messages already; their SHA-1 is another question, so they are read again.
            try look(directory) { () throws(SystemError) in try check.mailbox(directory, messages: .contents) }
        }
        var chunk: [StorePath] = []
        var byteCount: Int64 = 0
        for (directory, bytes) in mailboxes {
            let isFull = chunk.count >= Self.mailboxesMax || byteCount + bytes > Self.mailboxBytesMax
            if let first = chunk.first, first.root != directory.root || isFull {
                try checkReplicas(.mailboxes, chunk, byteCount)
                (chunk, byteCount) = ([], 0)
            }
            chunk.append(directory)
            byteCount += bytes
        }
        if !chunk.isEmpty { try checkReplicas(.mailboxes, chunk, byteCount) }
        guard options.depth == .cyrus, case .all = options.scope else { return }
        try look(StorePath(root: .configuration)) { () throws(SystemError) in try check.store() }
        try checkReplicas(.store, [], progress.byteCount)
    }

    /// In one check: the replica looks at them while it applies nothing, and reads their messages afterwards.
    private static let mailboxesMax = 32
    private static let mailboxBytesMax: Int64 = 256 << 20
    private static let findingPause = Duration.milliseconds(400)

    private func checkReplicas(
        _ soundness: AuditCheck.Soundness, _ mailboxes: [StorePath], _ byteCount: Int64
    ) throws {
        var tally = SoundnessTally()
        let findings = try untilAnswered(pausing: Self.findingPause) { () -> [SoundnessTally.Finding]? in
            if let found = unsound(soundness, mailboxes, byteCount) { tally.note(found) } else { return nil }
            return tally.isDecided ? tally.findings : nil
        }
        guard let findings else { return unfinished(mailboxes.isEmpty ? [StorePath(root: .configuration)] : mailboxes) }
        for found in findings {
            var finding = AuditFinding(kind: .unsound, side: .replica, path: found.what.path, evidence: found.what.why)
            finding.replica = found.replica
            tell(finding, .found)
        }
    }

    /// What each replica finds; nothing if one says nothing.
    private func unsound(
        _ soundness: AuditCheck.Soundness, _ mailboxes: [StorePath], _ byteCount: Int64
    ) -> [String: Set<AuditVerdict.Unsound>]? {
        let listings = mailboxes.map { DirectoryListing(directory: $0, items: []) }
        let root = mailboxes.first?.root ?? .configuration
        guard let result = ask(.soundness(soundness), of: listings, in: root, at: .content, byteCount: byteCount),
            !result.verdicts.isEmpty
        else { return nil }
        var all: [String: Set<AuditVerdict.Unsound>] = [:]
        for (replica, verdict) in result.verdicts {
            switch verdict {
            case .equal: all[replica] = []
            case .unsound(let found): all[replica] = Set(found)
            case .lost, .details, .directories, .range, .brokenLinks: return nil
            }
        }
        return all
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

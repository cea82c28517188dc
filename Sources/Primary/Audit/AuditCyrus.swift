import Formats
import Linux
import Store

// Depth `cyrus`: besides that the ends are equal, that each end's store is sound by Cyrus's own account, as each end sees it.
//
// A replica looks between two batches, where a mailbox is as Cyrus left it, and what is everybody's may be a batch ahead or
// behind of it. So what it finds is a finding only if it finds the same again, some batches later, several times.

extension AuditWalk {
    func checkCyrus(_ mailboxes: [StorePath]) throws {
        let check = CyrusCheck(roots: parts.roots, standing: .live(parts.locks)) { _ in }
        for directory in mailboxes {
            try checkCancelled()
            // The audit has read the messages already; their SHA-1 is another question, so they are read again.
            try look(directory) { () throws(SystemError) in try check.mailbox(directory, messages: .contents) }
        }
        var chunk: [DirectoryListing] = []
        for directory in mailboxes {
            if let first = chunk.first, first.directory.root != directory.root || chunk.count >= Self.mailboxesMax {
                try checkReplicas(.mailboxes, chunk)
                chunk = []
            }
            chunk.append(DirectoryListing(directory: directory, items: []))
        }
        if !chunk.isEmpty { try checkReplicas(.mailboxes, chunk) }
        guard options.depth == .cyrus, case .all = options.scope else { return }
        try look(StorePath(root: .configuration)) { () throws(SystemError) in try check.store() }
        try checkReplicas(.store, [])
    }

    /// In one check: the replica looks at them while it applies nothing.
    private static let mailboxesMax = 32
    private static let findingsInARow = 6
    private static let findingPause = Duration.milliseconds(400)

    private func checkReplicas(_ soundness: AuditCheck.Soundness, _ mailboxes: [DirectoryListing]) throws {
        var standing: [String: Set<AuditVerdict.Unsound>]?
        var times = 0
        for attempt in 0..<Self.attemptsMax {
            if attempt > 0 { parts.desk.pause(Self.findingPause) }
            try checkCancelled()
            guard let found = try unsound(soundness, mailboxes) else { continue }
            standing = standing.map { standing in
                standing.merging(found) { $0.intersection($1) }.filter { found[$0.key] != nil }
            }
            standing = standing ?? found
            times += 1
            guard standing?.values.contains(where: { !$0.isEmpty }) == true, times < Self.findingsInARow else {
                return tell(standing ?? [:])
            }
        }
        unfinished(mailboxes.isEmpty ? [StorePath(root: .configuration)] : mailboxes.map(\.directory))
    }

    /// What each replica finds; nothing if one says nothing.
    private func unsound(
        _ soundness: AuditCheck.Soundness, _ mailboxes: [DirectoryListing]
    ) throws -> [String: Set<AuditVerdict.Unsound>]? {
        let root = mailboxes.first?.directory.root ?? .configuration
        let check = parts.desk.submit(.soundness(soundness), mailboxes, in: root, .content, of: number)
        guard let result = parts.desk.wait(for: check, timeout: Self.verdictTimeout), !result.verdicts.isEmpty else {
            if parts.desk.following.isEmpty, !parts.desk.waitForReplica(timeout: Self.replicaTimeout) {
                throw AuditFailure(why: "the replica went away and did not come back", kind: .interrupted)
            }
            return nil
        }
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

    private func tell(_ standing: [String: Set<AuditVerdict.Unsound>]) {
        for (replica, found) in standing {
            for item in found.sorted(by: { ($0.path, $0.why) < ($1.path, $1.why) }) {
                var finding = AuditFinding(kind: .unsound, side: .replica, path: item.path, evidence: item.why)
                finding.replica = replica
                tell(finding, .found)
            }
        }
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

import Digests
import Formats
import Linux
import Store

// What is said of findings, and to whom.

extension AuditWalk {
    func tell(_ findings: [LocalFinding]) throws {
        for local in findings {
            var finding: AuditFinding
            switch local.what {
            case .missed(let before, let now):
                let was = before.map(Classification.describe) ?? "nothing"
                let has = now.map(Classification.describe) ?? "nothing"
                finding = AuditFinding(
                    kind: .missed, side: .primary, path: local.path,
                    evidence: "no event told of it: it was \(was), it is \(has); shipped now")
                tell(finding, .healed)
                continue
            case .rot(let recorded, let found, .forDisk):
                finding = AuditFinding(
                    kind: .ours, side: .primary, path: local.path,
                    evidence:
                        "content \(short(found)), and the index's GUID says so too; our record says \(short(recorded))",
                    cure: .whole)
            case .rot(let recorded, let found, let witness):
                let word = witness == .againstDisk ? ", and its SHA-1 is not the GUID in the index" : ""
                finding = AuditFinding(
                    kind: .rot, side: .primary, path: local.path,
                    evidence:
                        "content \(short(found)), recorded \(short(recorded)); size and times are as recorded\(word)")
            }
            if let cure = finding.cure, case .repair = options.repair {
                parts.desk.repair([Repair(path: local.path, cure: cure)])
                tell(finding, try isMended(local.path) ? .healed : .notHealed)
            } else {
                tell(finding, .found)
            }
        }
    }

    /// Whether our record of it is found right now. What cannot be seen, as somebody is at work there, is not.
    private func isMended(_ path: StorePath) throws -> Bool {
        let isMended = try untilAnswered(pausing: .milliseconds(50)) { () -> Bool? in
            var listing: DirectoryListing
            do throws(SystemError) {
                guard let found = try reader.list(path.parent) else { return true }
                listing = found
                _ = try reader.digest(&listing, where: { $0.isMessage && $0.entry.name.elementsEqual(path.name) })
            } catch {
                return false
            }
            guard
                let result = ask(
                    .combined, of: [listing], in: path.root, at: options.checkDepth, byteCount: listing.byteCount),
                result.delivery.postponed.isEmpty
            else { return nil }
            return !result.delivery.findings.contains { $0.path == path }
        }
        return isMended ?? false
    }

    /// What an operator may type here, as root, to have the replica's content in the file: the file stays the same one, under
    /// all its names. Nothing where no replica has said where its store is.
    private func restoring(_ path: StorePath, from replica: String?) -> String? {
        guard let here = parts.roots.layout.absolutePath(of: path),
            let place = parts.desk.place(of: replica), place.isPlain, let there = place.absolutePath(of: path),
            !(here + there).contains(where: Self.isControl)
        else { return nil }
        let host = place.host == CurrentProcess.hostName ? "" : place.host + ":"
        let source = Self.quoted(Array(host.utf8) + there)
        return "rsync -a -s --checksum --inplace -- \(source) \(Self.quoted(here))"
    }

    /// What a terminal might obey.
    private static func isControl(_ byte: UInt8) -> Bool { byte < 0x20 || byte == 0x7f }

    /// For a shell. By bytes: to Swift a quote and an accent after it are one character, and no quote.
    private static func quoted(_ path: [UInt8]) -> String {
        let quote = UInt8(ascii: "'")
        let inside = path.flatMap { $0 == quote ? Array("'\\''".utf8) : [$0] }
        return String(decoding: [quote] + inside + [quote], as: UTF8.self)
    }

    func tell(_ finding: AuditFinding, _ outcome: AuditFinding.Outcome) {
        var finding = finding
        finding.outcome = outcome
        guard told.insert(Told(path: finding.path, replica: finding.replica, kind: finding.kind)).inserted else {
            return
        }
        if let owner = try? names.owner(of: finding.path) {  // a name helps to read it, and is no part of the finding
            finding.mailbox = owner.mailbox.map { String(decoding: $0, as: UTF8.self) }
            finding.user = owner.user.map { String(decoding: $0, as: UTF8.self) }
        }
        if finding.side == .primary, finding.kind == .rot || isBrokenMessage(finding) {
            finding.restore = restoring(finding.path, from: finding.replica)
        }
        progress.findingCount += 1
        if outcome == .healed { progress.healedCount += 1 }
        parts.tell(.finding(finding))
    }

    /// A message never changes, so the replica's is as good as it was; an index or a database may have changed since.
    private func isBrokenMessage(_ finding: AuditFinding) -> Bool {
        finding.kind == .corrupt && parts.roots.layout.isMessage(finding.path)
    }

    private func short(_ digest: Digest) -> String { String("\(digest)".prefix(12)) }

    /// What is broken here by Cyrus's own account, and so held back from the replica.
    func tellAlarms() {
        for (path, alarm) in parts.alarms().sorted(by: { $0.key < $1.key }) where !alarm.isShortage {
            if case .below(let scope) = options.scope, !path.isWithin(scope) { continue }
            // That it was not compared is told.
            guard !isUnreadable(path) else { continue }
            let finding = AuditFinding(kind: .corrupt, side: .primary, path: path, evidence: alarm.why)
            switch options.scope {
            case .all, .below: tell(finding, .found)
            case .user(let user) where (try? names.owner(of: path))?.user == user:  // whose it is must be known
                tell(finding, .found)
            case .mailbox(let name) where (try? names.owner(of: path))?.mailbox == name:  // the same
                tell(finding, .found)
            case .user, .mailbox: continue
            }
        }
    }
}

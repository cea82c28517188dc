import Digests
package import Formats

/// Something that an audit found: which path, on which end, what is the matter, and why one can say so.
package struct AuditFinding: Sendable {
    package var kind: Kind
    package var side: Side
    package var path: StorePath
    package var mailbox: String?
    package var user: String?
    /// For a person: what was expected, what is there, who bears witness.
    package var evidence: String
    /// What an operator may do by hand, where mailsync does not.
    package var restore: String?
    /// The fingerprint of the replica it is about.
    package var replica: String?
    package var outcome = Outcome.found
    /// What would put it right; nothing if that is not for mailsync to do.
    var cure: Repair.Cure?

    package enum Kind: String, Sendable {
        /// The content changed, and neither its metadata nor our records did.
        case rot
        /// The replica's file was changed after it was written here.
        case tampered
        /// The primary's file changed and no event told of it.
        case missed
        case extra, missing
        /// Broken on the primary by Cyrus's own account, so not shipped over the good copy.
        case corrupt
        /// Unsound by Cyrus's own account, whatever the other end has.
        case unsound
        /// Our own records are wrong, for no other reason.
        case ours
    }

    package enum Side: String, Sendable {
        case primary, replica
    }

    package enum Outcome: String, Sendable {
        case found, healed
        case notHealed = "not healed"
    }
}

/// How a file of the primary and one of a replica that differ are called; pure.
enum Classification {
    /// What is known of a content besides the two files.
    struct Witness {
        /// What Cyrus's index says the content is.
        var guid: MessageGUID?
        /// SHA-1 of the primary's file.
        var primary: MessageGUID?
        /// SHA-1 of the replica's.
        var replica: MessageGUID?
        /// The primary's content is that which was recorded when it was shipped.
        var isRecorded = true

        var areSame: Bool { primary != nil && primary == replica }
        var isForPrimary: Bool { isRecorded || guid != nil && guid == primary }
        var isForReplica: Bool { guid != nil && guid == replica && guid != primary }
    }

    static func finding(
        _ path: StorePath, claimed: AuditEntry?, found: AuditEntry?, _ witness: Witness = Witness()
    ) -> AuditFinding {
        switch (claimed, found) {
        case (let claimed?, nil):
            return AuditFinding(
                kind: .missing, side: .replica, path: path, evidence: "the primary has \(describe(claimed))",
                cure: .whole)
        case (nil, let found?):
            return AuditFinding(
                kind: .extra, side: .replica, path: path,
                evidence: "the replica has \(describe(found)), the primary has nothing of that name", cure: .remove)
        case (nil, nil):
            return AuditFinding(kind: .ours, side: .replica, path: path, evidence: "neither end has it")
        case (let claimed?, let found?):
            return difference(path, claimed, found, witness)
        }
    }

    private static func difference(
        _ path: StorePath, _ claimed: AuditEntry, _ found: AuditEntry, _ witness: Witness
    ) -> AuditFinding {
        guard claimed.kind == found.kind else {
            return AuditFinding(
                kind: .tampered, side: .replica, path: path,
                evidence: "\(describe(claimed)) on the primary, \(describe(found)) on the replica", cure: .whole)
        }
        let metadata = metadataDifferences(claimed, found)
        let isContentSame = claimed.digest == found.digest && claimed.byteCount == found.byteCount
        if isContentSame {
            return AuditFinding(
                kind: .tampered, side: .replica, path: path, evidence: metadata.joined(separator: ", "),
                cure: claimed.kind == .file ? .metadata : .whole)
        }
        let content = contentDifference(claimed, found, witness)
        let evidence = ([content] + metadata + words(witness)).joined(separator: ", ")
        guard metadata.isEmpty, claimed.byteCount == found.byteCount, claimed.kind == .file else {
            return AuditFinding(kind: .tampered, side: .replica, path: path, evidence: evidence, cure: .whole)
        }
        // Never shipped over a copy that Cyrus itself vouches for, nor where nobody vouches for what would be shipped. One
        // that cannot be read is not right.
        let isPrimaryRight = found.digest == nil || witness.isForPrimary && !witness.isForReplica
        return AuditFinding(
            kind: .rot, side: isPrimaryRight ? .replica : .primary, path: path, evidence: evidence,
            cure: isPrimaryRight ? .whole : nil)
    }

    private static func contentDifference(
        _ claimed: AuditEntry, _ found: AuditEntry, _ witness: Witness
    ) -> String {
        if claimed.byteCount != found.byteCount {
            return "\(claimed.byteCount) bytes on the primary, \(found.byteCount) on the replica"
        }
        let name = claimed.kind == .symlink ? "target" : "content"
        let record = witness.isRecorded ? " and by our record" : ", of which we have no record"
        return "\(name) \(short(claimed.digest)) on the primary\(record), \(short(found.digest)) on the replica"
    }

    private static func metadataDifferences(_ one: AuditEntry, _ other: AuditEntry) -> [String] {
        var words: [String] = []
        if one.mode != other.mode {
            words.append("mode \(String(one.mode, radix: 8)), on the replica \(String(other.mode, radix: 8))")
        }
        if one.owner != other.owner || one.group != other.group {
            words.append("owner \(owner(one)), on the replica \(owner(other))")
        }
        if one.mtimeNanoseconds != other.mtimeNanoseconds {
            words.append("mtime \(time(one.mtimeNanoseconds)), on the replica \(time(other.mtimeNanoseconds))")
        }
        return words
    }

    private static func words(_ witness: Witness) -> [String] {
        guard let guid = witness.guid, !guid.isNull else {
            return witness.isRecorded ? [] : ["and no index tells which of them is right"]
        }
        var words: [String] = []
        if let primary = witness.primary {
            words.append("the index's GUID \(primary == guid ? "is" : "is not") the primary's SHA-1")
        }
        if let replica = witness.replica {
            words.append("\(replica == guid ? "is" : "is not") the replica's")
        }
        return words
    }

    static func describe(_ entry: AuditEntry) -> String {
        switch entry.kind {
        case .directory: "a directory"
        case .symlink: "a symbolic link"
        case .file: "a file of \(entry.byteCount) bytes"
        }
    }

    private static func owner(_ entry: AuditEntry) -> String {
        "\(entry.owner.map(String.init) ?? "the store's")/\(entry.group.map(String.init) ?? "the store's")"
    }

    private static func time(_ nanoseconds: Int64) -> String {
        let fraction = String(nanoseconds % 1_000_000_000 + 1_000_000_000).dropFirst()
        return "\(nanoseconds / 1_000_000_000).\(fraction)"
    }

    private static func short(_ digest: Digest?) -> String { digest.map { String("\($0)".prefix(12)) } ?? "unreadable" }
}

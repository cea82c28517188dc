import Digests
import Formats
import Linux
import Store

// From a difference to findings: directories that are not alike are checked by themselves, with all their entries, and what is
// to be put right is, and is checked again.

extension AuditWalk {
    func narrowSuspected(_ plan: AuditPlan) throws {
        while !suspected.isEmpty {
            try checkCancelled()
            let (root, depth) = (suspected[0].0.root, suspected[0].1)
            var chosen: [StorePath] = []
            suspected.removeAll { directory, itsDepth in
                guard chosen.count < Self.narrowedMax, directory.root == root, itsDepth == depth else { return false }
                chosen.append(directory)
                return true
            }
            let different = try narrow(chosen, depth, plan)
            try report(different, depth, plan)
        }
    }

    /// Differences of one replica.
    private struct Different {
        let replica: String
        let claimed: CheckDelivery.Expected
        let findings: [AuditFinding]

        var directory: StorePath { claimed.directory }
    }

    /// Checks each by itself. What could not be compared comes again.
    private func narrow(
        _ directories: [StorePath], _ depth: AuditCheck.Depth, _ plan: AuditPlan
    ) throws -> [Different] {
        let listings = directories.compactMap { listAgain($0, depth, plan) }
        for listing in listings { links.note(listing) }
        guard !listings.isEmpty else { return [] }
        // Whatever the bytes of a database, at depth `cyrus` its records count.
        let records: AuditCheck.Records = options.depth == .cyrus && depth == .content ? .wanted : .unasked
        guard
            let result = ask(
                .entries(records), of: listings, in: directories[0].root, at: depth, byteCount: byteCount(of: listings))
        else {
            try comeAgain(listings.map(\.directory), depth)
            return []
        }
        try tell(result.delivery.findings)
        try comeAgain(result.delivery.postponed, depth)
        let expected = result.delivery.expected
        if result.verdicts.isEmpty { try comeAgain(expected.map(\.directory), depth) }
        var different: [Different] = []
        var open: Set<StorePath> = []
        for (replica, verdict) in result.verdicts {
            guard case .details(let all) = verdict, all.count == expected.count else {
                try comeAgain(expected.map(\.directory).filter { open.insert($0).inserted }, depth)
                continue
            }
            for (details, claimed) in zip(all, expected) {
                switch details {
                case .movedOn:
                    if open.insert(claimed.directory).inserted { try comeAgain([claimed.directory], depth) }
                case .absent, .found:
                    let findings = try findings(claimed, details, replica)
                    guard !findings.isEmpty else { continue }
                    open.insert(claimed.directory)
                    different.append(Different(replica: replica, claimed: claimed, findings: findings))
                }
            }
        }
        note(expected.filter { !open.contains($0.directory) }, depth)
        return different
    }

    /// They were compared, and are not alike; another replica's may be compared again.
    private func count(_ different: [Different]) {
        for claimed in different.map(\.claimed) where !countedDifferent.contains(claimed.directory) {
            count(claimed)
            countedDifferent.insert(claimed.directory)
        }
    }

    private func findings(
        _ claimed: CheckDelivery.Expected, _ details: AuditVerdict.Details, _ replica: String
    ) throws -> [AuditFinding] {
        var missing: [AuditEntry] = []
        var extra: [[UInt8]: AuditVerdict.Found] = [:]
        switch details {
        case .movedOn: return []
        case .absent: missing = claimed.entries
        case .found(let hashes, let found):
            let hashes = Set(hashes)
            missing = claimed.entries.filter { hashes.contains($0.hash) }
            for item in found { extra[item.entry.name] = item }
        }
        var findings: [AuditFinding] = []
        for entry in missing {
            let path = claimed.directory.appending(entry.name)
            let there = extra.removeValue(forKey: entry.name)
            if options.depth == .cyrus, let there, try holdsTheSame(path, entry, there) { continue }
            var witness = try witness(path, there)
            witness.isRecorded = !claimed.unrecorded.contains(entry.name)
            // Restored since it was claimed: by now both have the same.
            if entry.digest != there?.entry.digest, witness.areSame { continue }
            findings.append(Classification.finding(path, claimed: entry, found: there?.entry, witness))
        }
        for (name, found) in extra.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            findings.append(Classification.finding(claimed.directory.appending(name), claimed: nil, found: found.entry))
        }
        return findings.map { finding in
            var finding = finding
            finding.replica = replica
            return finding
        }
    }

    /// Whether it is a database that the replica has with the same keys and values, in a file of its own, as a recovery or a repack
    /// writes one; then its size, times and bytes count for nothing.
    private func holdsTheSame(_ path: StorePath, _ claimed: AuditEntry, _ there: AuditVerdict.Found) throws -> Bool {
        guard let records = there.records, claimed.kind == there.entry.kind, claimed.mode == there.entry.mode,
            claimed.owner == there.entry.owner || there.entry.owner == nil,
            claimed.group == there.entry.group || there.entry.group == nil
        else { return false }
        let role = parts.roots.layout.role(of: path)
        guard let kind = role.databaseKind else { return false }
        // Changed since, being written, or not to be read: then its bytes are the judge.
        guard let file = try? parts.roots.openLocked(path, UnitReader.locking(role)),
            let bytes = try? file.file.readAll(max: Self.databaseBytesMax),  // the same
            PageTable.digest(of: bytes) == claimed.digest
        else { return false }
        return DatabaseImage.recordsDigest(bytes, kind) == records
    }

    private static let databaseBytesMax = 1 << 30

    private func witness(_ path: StorePath, _ there: AuditVerdict.Found?) throws -> Classification.Witness {
        // An index that cannot be read bears no witness; that the replica's copy could not be is no reason not to ask for ours.
        guard let there, let guid = (try? parts.roots.indexedGUID(of: path)) ?? nil else {
            return Classification.Witness()
        }
        let bytes = try? parts.roots.open(path).readAll(max: 1 << 30)  // unread it bears no witness
        return Classification.Witness(guid: guid, primary: bytes.map { MessageGUID(of: $0) }, replica: there.guid)
    }

    private func byteCount(of listings: [DirectoryListing]) -> Int64 { listings.reduce(0) { $0 + $1.byteCount } }

    /// In a few bytes, where that is so; else nothing is known yet.
    private func areEqual(
        _ directories: [StorePath], _ depth: AuditCheck.Depth, _ plan: AuditPlan
    ) throws -> Bool {
        let listings = directories.compactMap { listAgain($0, depth, plan) }
        guard let first = listings.first, listings.count == directories.count else { return false }
        for listing in listings { links.note(listing) }
        let byteCount = byteCount(of: listings)
        guard let result = ask(.combined, of: listings, in: first.directory.root, at: depth, byteCount: byteCount)
        else {
            return false
        }
        try tell(result.delivery.findings)
        let isEqual =
            result.delivery.postponed.isEmpty && !result.verdicts.isEmpty
            && result.verdicts.values.allSatisfy { $0 == .equal }
        if isEqual { note(result.delivery.expected, depth) }
        return isEqual
    }

    private func report(_ different: [Different], _ depth: AuditCheck.Depth, _ plan: AuditPlan) throws {
        guard !different.isEmpty else { return }
        guard case .repair = options.repair else {
            count(different)
            for finding in different.flatMap(\.findings) { tell(finding, .found) }
            return
        }
        var left = different
        // A cure is seen to work; what the load did meanwhile may make a second one necessary.
        for _ in 0..<3 where !left.isEmpty {
            parts.desk.repair(
                left.flatMap(\.findings).compactMap { f in f.cure.map { Repair(path: f.path, cure: $0) } })
            var uncertain = Array(Set(left.map(\.directory))).sorted()
            guard try !areEqual(uncertain, depth, plan) else {
                left = []
                break
            }
            var still: [Different] = []
            for _ in 0..<Self.attemptsMax where !uncertain.isEmpty {
                let before = waiting.count
                still += try narrow(uncertain, depth, plan)
                // Those that could not be compared just now are asked about here, not at the end.
                uncertain = waiting[before...].map(\.0)
                waiting.removeSubrange(before...)
                if !uncertain.isEmpty { parts.desk.pause(.milliseconds(50)) }
            }
            left = still
        }
        count(left)
        let sick = Set(left.flatMap(\.findings).map(\.path))
        for finding in different.flatMap(\.findings) {
            // Nothing was tried where there is no cure.
            let outcome: AuditFinding.Outcome = sick.contains(finding.path) ? .notHealed : .healed
            tell(finding, finding.cure == nil ? .found : outcome)
        }
    }
}

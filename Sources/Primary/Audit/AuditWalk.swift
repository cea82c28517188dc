import Digests
import Formats
import Linux
import Logging
import Store

/// One audit, from its first directory to its last finding; a thread of its own runs it.
///
/// Flow: directories are planned, listed and their messages read (`AuditPlan`), and gathered into groups; a group goes to
/// the capturer, which puts a check into the log; a few groups are under way at once. What is equal costs a few bytes.
/// Of what is not, the directories are checked again by themselves, with all their entries (`narrow`): only that makes
/// a finding. Directories that somebody was writing in, or that changed before they were read, come again (`again`).
/// With repair, what a replica has otherwise goes through the log again, and is checked once more.
final class AuditWalk {
    struct Parts {
        let roots: StoreRoots
        let desk: AuditDesk
        let locks: CyrusLocks
        let log: Logger
        let alarms: @Sendable () -> [StorePath: CaptureStatus.Alarm]
        /// Called for each directory that every replica was just proven to have alike.
        let proven: @Sendable (StorePath, AuditCheck.Depth) -> Void
        /// Somebody who asked for this has gone, or the daemon ends.
        let isCancelled: @Sendable () -> Bool
        let tell: (AuditEvent) -> Void
    }

    let parts: Parts
    let options: AuditOptions
    private let reader: ListingReader
    private let names: MailboxNames
    private var progress: AuditProgress
    private var group = Group()
    private var metadataGroup = Group()
    private var underWay: [(number: UInt64, group: Group)] = []
    private var attempts: [StorePath: Int] = [:]
    private var waiting: [(StorePath, AuditCheck.Depth)] = []
    private var suspected: [(StorePath, AuditCheck.Depth)] = []
    private var told: Set<Told> = []
    private var started = MonotonicTime.now()
    private var bytesRead = 0
    /// For depth `cyrus`.
    private var mailboxes: [StorePath] = []

    private struct Told: Hashable {
        let path: StorePath
        let replica: String?
        let kind: AuditFinding.Kind
    }

    /// Neighbours that are checked together.
    private struct Group {
        var listings: [DirectoryListing] = []
        var entryCount = 0
        var byteCount: Int64 = 0
        /// Bytes of files that change, which are read under locks.
        var mutableBytes: Int64 = 0
        var depth = AuditCheck.Depth.content

        mutating func add(_ listing: DirectoryListing) {
            listings.append(listing)
            entryCount += listing.items.count
            for item in listing.items where item.entry.kind == .file {
                byteCount += item.status.byteCount
                if !item.isMessage { mutableBytes += item.status.byteCount }
            }
        }

        var isFull: Bool {
            listings.count >= 256 || entryCount >= 8192 || byteCount >= 64 << 20 || mutableBytes >= 8 << 20
        }
    }

    private static let groupsUnderWayMax = 4
    private static let narrowedMax = 16
    private static let indexName = Array("cyrus.index".utf8)
    static let attemptsMax = 40
    static let verdictTimeout = Duration.seconds(120)
    static let replicaTimeout = Duration.seconds(60)

    init(_ options: AuditOptions, _ parts: Parts, totals: (files: Int, bytes: Int64)?) {
        self.options = options
        self.parts = parts
        reader = ListingReader(parts.roots)
        names = MailboxNames(parts.roots)
        progress = AuditProgress()
        progress.replicas = parts.desk.following.sorted()
        if case .all = options.scope, let totals {
            progress.fileCountTotal = totals.files
            progress.byteCountTotal = totals.bytes
        }
    }

    /// Returns what was compared. Throws `AuditFailure` if that could not be finished.
    func run() throws -> AuditProgress {
        try? CurrentProcess.useDiskWhenIdle()  // only politeness
        CurrentProcess.useProcessorWhenIdle()
        guard parts.desk.waitForReplica(timeout: .seconds(5)) else {
            throw AuditFailure(why: "no replica is connected", kind: .unavailable)
        }
        progress.replicas = parts.desk.following.sorted()
        var plan = try AuditPlan(options, parts.roots, reader)
        while let (listing, depth) = plan.next(read: { self.pace($0) }) {
            try checkCancelled()
            progress.unreadable += plan.takeUnreadable()
            if options.depth == .cyrus, listing.items.contains(where: { $0.entry.name == Self.indexName }) {
                mailboxes.append(listing.directory)
            }
            if depth == options.checkDepth {
                try add(listing, to: &group, depth)
            } else {
                try add(listing, to: &metadataGroup, depth)
            }
        }
        progress.unreadable += plan.takeUnreadable()
        try submit(&group)
        try submit(&metadataGroup)
        try finish(plan)
        try check(links: plan.links)
        try checkCyrus(mailboxes)
        tellAlarms()
        parts.tell(.progress(progress))
        return progress
    }

    private func finish(_ plan: AuditPlan) throws {
        while !underWay.isEmpty || !waiting.isEmpty || !suspected.isEmpty {
            try checkCancelled()
            while !underWay.isEmpty { try completeFirst() }
            try narrowSuspected(plan)
            let again = waiting
            waiting = []
            guard !again.isEmpty else { continue }
            // Somebody is at work there: they get a moment.
            let most = again.map { attempts[$0.0] ?? 1 }.max() ?? 1
            parts.desk.pause(.milliseconds(min(20 * most, 500)))
            for (directory, depth) in again {
                guard let listing = listAgain(directory, depth, plan) else { continue }
                if depth == options.checkDepth {
                    try add(listing, to: &group, depth)
                } else {
                    try add(listing, to: &metadataGroup, depth)
                }
            }
            try submit(&group)
            try submit(&metadataGroup)
        }
    }

    /// As it is now; nothing if it cannot be looked at any more.
    private func listAgain(_ directory: StorePath, _ depth: AuditCheck.Depth, _ plan: AuditPlan) -> DirectoryListing? {
        do throws(SystemError) { return try plan.again(directory, depth) } catch {
            leaveOut(directory, error)
            return nil
        }
    }

    func isUnreadable(_ path: StorePath) -> Bool {
        progress.unreadable.contains { path.isWithin($0.path) }
    }

    func leaveOut(_ path: StorePath, _ error: SystemError) {
        progress.unreadable.append(AuditProgress.Unreadable(path: path, error: error))
    }

    func checkCancelled() throws {
        guard !parts.isCancelled(), !parts.desk.isStopping else {
            throw AuditFailure(why: "stopped", kind: .interrupted)
        }
    }

    /// Waits if `byteCount` bytes more would be too many by now.
    private func pace(_ byteCount: Int) {
        guard let max = options.bytesPerSecondMax, max > 0 else { return }
        bytesRead += byteCount
        let due = started + .nanoseconds(Int64(Double(bytesRead) / Double(max) * 1e9))
        let left = due - MonotonicTime.now()
        if left > .milliseconds(5) { parts.desk.pause(left) }
    }

    // MARK: - groups

    private func add(_ listing: DirectoryListing, to group: inout Group, _ depth: AuditCheck.Depth) throws {
        if let first = group.listings.first, first.directory.root != listing.directory.root { try submit(&group) }
        group.depth = depth
        group.add(listing)
        if group.isFull { try submit(&group) }
    }

    private func submit(_ group: inout Group) throws {
        guard let first = group.listings.first else { return }
        while underWay.count >= Self.groupsUnderWayMax { try completeFirst() }
        let number = parts.desk.submit(.combined, group.listings, in: first.directory.root, group.depth)
        // What is needed of it from here on is only which directories they are.
        var slim = group
        slim.listings = group.listings.map { DirectoryListing(directory: $0.directory, items: []) }
        underWay.append((number, slim))
        group = Group()
        while let first = underWay.first, parts.desk.isDone(first.number) { try completeFirst() }
    }

    private func completeFirst() throws {
        let (number, group) = underWay.removeFirst()
        let directories = group.listings.map(\.directory)
        guard let result = parts.desk.wait(for: number, timeout: Self.verdictTimeout) else {
            return try comeAgain(directories, group.depth)
        }
        tell(result.delivery.findings)
        try comeAgain(result.delivery.postponed, group.depth)
        let expected = result.delivery.expected
        var open: Set<StorePath> = []
        if result.verdicts.isEmpty, result.delivery.position != nil {
            try comeAgain(expected.map(\.directory), group.depth)
        }
        for (_, verdict) in result.verdicts {
            switch verdict {
            case .equal:
                continue
            case .directories(let states) where states.count == expected.count:
                for (state, claimed) in zip(states, expected) where open.insert(claimed.directory).inserted {
                    switch state {
                    // A replica that keeps no owners has another one where there are any; narrowing compares without them.
                    case .digest(claimed.digest): open.remove(claimed.directory)
                    case .digest, .absent: suspected.append((claimed.directory, group.depth))
                    case .movedOn: try comeAgain([claimed.directory], group.depth)
                    }
                }
            case .lost, .directories, .details, .brokenLinks:
                let lost = expected.map(\.directory).filter { open.insert($0).inserted }
                try comeAgain(lost, group.depth)
            }
        }
        if !result.verdicts.isEmpty { note(expected.filter { !open.contains($0.directory) }, group.depth) }
        parts.tell(.progress(progress))
    }

    private func note(_ proven: [CheckDelivery.Expected], _ depth: AuditCheck.Depth) {
        for expected in proven {
            progress.directoryCount += 1
            progress.fileCount += expected.fileCount
            progress.byteCount += expected.byteCount
            // Who resumes behind this one must have left nothing before it.
            if waiting.isEmpty, suspected.isEmpty, progress.isComplete { parts.proven(expected.directory, depth) }
        }
    }

    func unfinished(_ paths: [StorePath]) { progress.unfinished += paths }

    /// These were not compared this time. Gives up on who was tried too often.
    private func comeAgain(_ directories: [StorePath], _ depth: AuditCheck.Depth) throws {
        guard !directories.isEmpty else { return }
        try checkCancelled()
        if parts.desk.following.isEmpty, !parts.desk.waitForReplica(timeout: Self.replicaTimeout) {
            throw AuditFailure(why: "the replica went away and did not come back", kind: .interrupted)
        }
        for directory in directories {
            attempts[directory, default: 0] += 1
            guard attempts[directory] ?? 0 <= Self.attemptsMax else {
                progress.unfinished.append(directory)
                continue
            }
            waiting.append((directory, depth))
        }
    }

    // MARK: - narrowing

    private func narrowSuspected(_ plan: AuditPlan) throws {
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
        let directory: StorePath
        let findings: [AuditFinding]
    }

    /// Checks each by itself. What could not be compared comes again.
    private func narrow(
        _ directories: [StorePath], _ depth: AuditCheck.Depth, _ plan: AuditPlan
    ) throws -> [Different] {
        let listings = directories.compactMap { listAgain($0, depth, plan) }
        guard !listings.isEmpty else { return [] }
        let number = parts.desk.submit(.entries, listings, in: directories[0].root, depth)
        guard let result = parts.desk.wait(for: number, timeout: Self.verdictTimeout) else {
            try comeAgain(listings.map(\.directory), depth)
            return []
        }
        tell(result.delivery.findings)
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
                    different.append(Different(replica: replica, directory: claimed.directory, findings: findings))
                }
            }
        }
        note(expected.filter { !open.contains($0.directory) }, depth)
        return different
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
            findings.append(
                Classification.finding(path, claimed: entry, found: there?.entry, try witness(path, there)))
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

    private func witness(_ path: StorePath, _ there: AuditVerdict.Found?) throws -> Classification.Witness {
        // An index that cannot be read bears no witness.
        guard let there, there.guid != nil, let guid = (try? parts.roots.indexedGUID(of: path)) ?? nil else {
            return Classification.Witness()
        }
        let bytes = try? parts.roots.open(path).readAll(max: 1 << 30)  // unread it bears no witness
        return Classification.Witness(guid: guid, primary: bytes.map { MessageGUID(of: $0) }, replica: there.guid)
    }

    // MARK: - findings and repairs

    private func report(_ different: [Different], _ depth: AuditCheck.Depth, _ plan: AuditPlan) throws {
        guard !different.isEmpty else { return }
        guard case .repair = options.repair else {
            for finding in different.flatMap(\.findings) { tell(finding, .found) }
            return
        }
        var left = different
        // A cure is seen to work; what the load did meanwhile may make a second one necessary.
        for _ in 0..<3 where !left.isEmpty {
            parts.desk.repair(
                left.flatMap(\.findings).compactMap { f in f.cure.map { Repair(path: f.path, cure: $0) } })
            var uncertain = Array(Set(left.map(\.directory)))
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
        let sick = Set(left.flatMap(\.findings).map(\.path))
        for finding in different.flatMap(\.findings) {
            tell(finding, sick.contains(finding.path) ? .notHealed : .healed)
        }
    }

    private func tell(_ findings: [LocalFinding]) {
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
            if finding.side == .primary, finding.kind == .rot { finding.restore = restoring(local.path) }
            if let cure = finding.cure, case .repair = options.repair {
                parts.desk.repair([Repair(path: local.path, cure: cure)])
                tell(finding, .healed)
            } else {
                tell(finding, .found)
            }
        }
    }

    /// With the replica's name for the operator to put in: what it is called here is only known by its fingerprint.
    private func restoring(_ path: StorePath) -> String? {
        guard let absolute = parts.roots.layout.absolutePath(of: path) else { return nil }
        let text = String(decoding: absolute, as: UTF8.self).replacing("'", with: "'\\''")
        return "rsync -a --checksum 'REPLICA:\(text)' '\(text)'"
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
        if finding.side == .primary, finding.kind == .rot, finding.restore == nil {
            finding.restore = restoring(finding.path)
        }
        progress.findingCount += 1
        if outcome == .healed { progress.healedCount += 1 }
        parts.tell(.finding(finding))
    }

    private func short(_ digest: Digest) -> String { String("\(digest)".prefix(12)) }

    /// What is broken here by Cyrus's own account, and so held back from the replica.
    private func tellAlarms() {
        for (path, alarm) in parts.alarms().sorted(by: { $0.key < $1.key }) {
            if case .below(let scope) = options.scope, !path.isWithin(scope) { continue }
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

extension AuditOptions {
    /// Of most directories.
    var checkDepth: AuditCheck.Depth { depth == .metadata ? .metadata : .content }
}

import Digests
import Formats
import Linux
import Logging
import Store

/// The capturer's part of an audit: proves that what the log has told of some directories is what is on disk, and says
/// so in a check record. The capturer's thread alone uses it.
///
/// What a check claims are the catalogue's rows at its position, as they are what the log told and so what a replica
/// must have; each was held against the disk before:
///   - by the audit's own reading of it, a moment ago and without a lock: the same file, the same size, times, mode and digest
///   - what is otherwise, unless it is a message, once more under its owner's lock (`unproven`): status and content
///   - what still differs is captured, shipped and noted in its row first, by the round as always; if no event had told of it,
///     it is a missed change
/// So a claim is never about what is only on its way, and nothing that is wrong on disk is claimed as right.
final class CaptureAudit {
    private let roots: StoreRoots
    private let catalogue: Catalogue
    private let reader: ListingReader
    private let claims: CheckClaims
    private var checks: [OpenCheck] = []
    private var wanted: [StorePath: Int] = [:]
    private var missed: MissedChanges
    /// Dirty only because a check wants them looked at; until a round has.
    private var asked: Set<StorePath> = []
    private let now: @Sendable () -> Timestamp
    private let isAlarmed: (StorePath) -> Bool

    /// A request that is under way.
    private struct OpenCheck {
        let request: CheckRequest
        /// From when there was something to look at: then it is closed with what can be claimed.
        var deadline: MonotonicTime?
        /// Names that a round has to look at, and those that one has.
        var waiting: Set<StorePath>
        var looked: Set<StorePath> = []
        var findings: [LocalFinding] = []
        var passes = 0
    }

    /// After this a directory that somebody keeps busy is left for later.
    private let patience: Duration
    private static let passesMax = 5
    /// What was written less than this ago may have been written again within the same tick of the kernel's clock.
    private static let settleInterval = Duration.seconds(2)

    init(
        roots: StoreRoots, catalogue: Catalogue, now: @escaping @Sendable () -> Timestamp,
        isAlarmed: @escaping (StorePath) -> Bool, patience: Duration = .milliseconds(800)
    ) {
        self.roots = roots
        self.patience = patience
        self.isAlarmed = isAlarmed
        self.catalogue = catalogue
        self.now = now
        reader = ListingReader(roots)
        claims = CheckClaims(roots: roots, catalogue: catalogue)
        missed = MissedChanges(roots: roots, catalogue: catalogue)
    }

    var isIdle: Bool { checks.isEmpty }

    /// When the next open check has to be closed, at the latest.
    var nextDeadline: MonotonicTime? { checks.compactMap(\.deadline).min() }

    // MARK: - what the capturer tells

    func begin(_ request: CheckRequest, _ dirty: inout DirtySet) {
        var waiting: Set<StorePath> = []
        for dirt in dirty.all { missed.note(dirt) }
        for listing in request.listings {
            wanted[listing.directory, default: 0] += 1
            for item in listing.items {
                let path = listing.directory.appending(item.entry.name)
                // Of what there is an alarm, it is seen whether that holds.
                if isAlarmed(path) { waiting.insert(path) }
            }
        }
        for path in waiting {
            noteMarked(path)
            dirty.mark(path)
        }
        var check = OpenCheck(request: request, waiting: waiting)
        if !waiting.isEmpty { check.deadline = MonotonicTime.now() + patience }
        checks.append(check)
    }

    func roundBegins() {
        missed.roundBegins(waiting: checks.flatMap(\.waiting))
        if checks.isEmpty { missed.checksEnded() }
    }

    private func noteMarked(_ path: StorePath) {
        missed.noteMarked(path)
        if missed.isMarked(path) { asked.insert(path) }
    }

    func note(_ hint: Hint) {
        switch hint {
        case .name(let path):
            missed.forgetMarked(path)
            asked.remove(path)
        case .directory(let directory): asked = asked.filter { !$0.isWithin(directory) }
        case .overflow: asked = []
        case .released, .cookie: break
        }
        // Until the last doubt is settled, which is after the last check was closed.
        if !wanted.isEmpty || !missed.isSettled { missed.note(hint) }
    }

    /// A round has looked at these, and what was new of them is shipped when it ends.
    func looked(at directory: StorePath, _ names: some Sequence<[UInt8]>) {
        guard wanted[directory] != nil || !asked.isEmpty else { return }
        for name in names {
            let path = directory.appending(name)
            asked.remove(path)
            for index in checks.indices where checks[index].waiting.remove(path) != nil {
                checks[index].looked.insert(path)
            }
        }
    }

    // MARK: - under the lock

    /// Of `names`, those that are not proven to be as their rows say; nothing while one of them is being written.
    func unproven(_ directory: StorePath, _ names: Set<[UInt8]>) throws -> Set<[UInt8]>? {
        guard wanted[directory] != nil || !asked.isEmpty else { return names }
        var left: Set<[UInt8]> = []
        for name in names {
            let path = directory.appending(name)
            guard checks.contains(where: { $0.waiting.contains(path) }) else {
                // The check was closed before a round came to it: what no event told of is not shipped for having been asked.
                if try !asked.contains(path) || !isAsRecorded(path) { left.insert(name) }
                continue
            }
            switch try prove(path) {
            case .proven: continue
            case .busy: return nil
            case .different(let row):
                left.insert(name)
                doubt(path, row)
            case .unknown: left.insert(name)
            case .rotten(let recorded, let found):
                report(LocalFinding(path: path, what: .rot(recorded: recorded, found: found, witness: .silent)))
            }
        }
        return left
    }

    private enum Proof {
        case proven, busy, unknown
        case different(CatalogueEntry?)
        case rotten(recorded: Digest, found: Digest)
    }

    private func prove(_ path: StorePath) throws -> Proof {
        if Simulation.isMutated(.claimUnproven) { return .proven }
        let role = roots.layout.role(of: path)
        let row = try catalogue.entry(path)
        guard let row, let status = try roots.status(of: path) else { return .different(row) }
        guard !isAlarmed(path) else { return .unknown }
        if case .message = role {
            guard row.stillDescribes(status, asMessage: true) else { return .different(row) }
            return hasItsAttributes(path, row, status) ? .proven : .different(row)
        }
        guard row.stillDescribes(status) else { return .different(row) }
        guard status.kind == .file, isContentWanted(path) else {
            return status.kind == .symlink && row.digest == nil ? .unknown : .proven
        }
        guard let recorded = row.digest else { return .unknown }
        do throws(SystemError) {
            guard let place = try roots.directory(path.parent),
                let locked = try place.openLocked(Array(path.name), UnitReader.locking(role)),
                row.stillDescribes(locked.status), let found = try reader.digest(locked.file, status.byteCount)
            else { return .busy }
            if found == recorded { return .proven }
            // Written twice within a tick, its status need not tell; then it is an ordinary change.
            let changed = max(status.mtimeNanoseconds, status.ctimeNanoseconds)
            guard now() - Timestamp(nanoseconds: changed) > Self.settleInterval else { return .different(row) }
            return .rotten(recorded: recorded, found: found)
        } catch {
            guard error.errno == .noEntry || error.errno == .symbolicLink else { return .different(row) }
            return .busy
        }
    }

    /// Of a message, whose change time also moves with every link that comes or goes.
    private func hasItsAttributes(_ path: StorePath, _ row: CatalogueEntry, _ status: FileStatus) -> Bool {
        guard row.digest != nil, row.ctimeNanoseconds != status.ctimeNanoseconds, isContentWanted(path) else {
            return true
        }
        // What cannot be read is for capture to look at.
        return (try? row.has(roots.open(path).extendedAttributes())) ?? false
    }

    /// By its status: of its content a check would have told.
    private func isAsRecorded(_ path: StorePath) throws -> Bool {
        guard let row = try catalogue.entry(path), row.digest != nil, !isAlarmed(path),
            let status = try roots.status(of: path)
        else { return false }
        return row.stillDescribes(status, asMessage: roots.layout.isMessage(path))
    }

    private func isContentWanted(_ path: StorePath) -> Bool {
        checks.contains { $0.request.depth == .content && $0.waiting.contains(path) }
    }

    private func doubt(_ path: StorePath, _ row: CatalogueEntry?) {
        for check in checks where check.waiting.contains(path) {
            missed.doubt(path, row, check: check.request.number)
        }
    }

    private func report(_ finding: LocalFinding) {
        for index in checks.indices where checks[index].waiting.contains(finding.path) {
            checks[index].findings.append(finding)
        }
    }

    // MARK: - at the end of a round

    /// A check that is ready for the log.
    struct Ready {
        let request: CheckRequest
        var record: Record?
        var delivery: CheckDelivery
        /// What no round came to.
        var unlooked: Set<StorePath> = []
    }

    /// The checks that can be closed now; what still has to be looked at is marked.
    ///
    /// `fetchEvents` brings in all events of before its call, so that only what none of them told of is called missed.
    func close(mark: (StorePath) -> Void, fetchEvents: () throws -> Void) throws -> [Ready] {
        guard !checks.isEmpty else { return [] }
        var ready: [Ready] = []
        for index in checks.indices.reversed() {
            let isLate = checks[index].deadline.map { MonotonicTime.now() >= $0 } ?? false
            guard checks[index].waiting.isEmpty || isLate else { continue }
            checks[index].passes += 1
            let isLast = isLate || checks[index].passes >= Self.passesMax
            guard var closed = try close(&checks[index], isLast: isLast, mark) else { continue }
            closed.unlooked = checks[index].waiting
            ready.append(closed)
            checks.remove(at: index)
        }
        guard !ready.isEmpty else { return [] }
        let changes = try missed.takeChanges(of: ready)
        if !changes.isEmpty {
            try fetchEvents()
            missed.report(changes, to: &ready)
        }
        for closed in ready {
            for listing in closed.request.listings {
                let count = wanted[listing.directory, default: 1] - 1
                wanted[listing.directory] = count == 0 ? nil : count
            }
        }
        if checks.isEmpty { missed.checksEnded() }
        return ready
    }

    /// Nothing if something has to be looked at first.
    private func close(_ check: inout OpenCheck, isLast: Bool, _ mark: (StorePath) -> Void) throws -> Ready? {
        let request = check.request
        switch request.kind {
        case .links(let groups): return try close(links: groups, check)
        case .linkDigests(let digests):
            let record = claims.record(request, [], .linkDigests(digests))
            return Ready(request: request, record: record, delivery: CheckDelivery())
        case .soundness(let soundness):
            let check = AuditCheck(
                number: request.number, audit: request.audit, depth: request.depth,
                directories: request.listings.map { AuditCheck.Directory(path: $0.directory) },
                claim: .soundness(soundness))
            return Ready(
                request: request, record: Record(StorePath(root: request.root), .check(check)),
                delivery: CheckDelivery())
        case .combined, .range, .entries: break
        }
        var delivery = CheckDelivery()
        var subdirectories: [StorePath: [[UInt8]]] = [:]
        var unseen: [StorePath] = []
        for listing in request.listings {
            var view = DirectoryView(
                listing, depth: request.depth,
                keepsEntries: { if case .entries = request.kind { true } else { false } }())
            try view.merge(try catalogue.entries(of: listing.directory), roots) { check.looked.contains($0) }
            for (path, row) in view.unseen where !check.looked.contains(path) {
                missed.doubt(path, row, check: request.number)
            }
            for (path, recorded) in view.rotten {
                if let finding = try examine(path, recorded, mark) { check.findings.append(finding) }
            }
            subdirectories[listing.directory] = view.subdirectories
            let open = view.unseen.map(\.path) + check.waiting.filter { $0.parent == listing.directory }
            if open.isEmpty {
                delivery.expected.append(view.expected(roots))
            } else {
                unseen += open
                delivery.postponed.append(listing.directory)
            }
        }
        if !unseen.isEmpty, !isLast {
            for path in unseen where check.waiting.insert(path).inserted {
                noteMarked(path)
                mark(path)
            }
            check.deadline = check.deadline ?? MonotonicTime.now() + patience
            return nil
        }
        delivery.findings = check.findings
        guard !delivery.expected.isEmpty else { return Ready(request: request, record: nil, delivery: delivery) }
        let record =
            switch request.kind {
            case .range: try claims.range(request, subdirectories, &delivery)
            case .entries(let records):
                claims.record(
                    request, delivery.expected, .entries(delivery.expected.map { AuditCheck.Entries(of: $0.entries) }),
                    records)
            case .combined, .links, .linkDigests, .soundness: claims.combined(request, delivery.expected)
            }
        return Ready(request: request, record: record, delivery: delivery)
    }

    /// Of each group the names that the log has told as one file, if that is more than one.
    private func close(links groups: [[StorePath]], _ check: OpenCheck) throws -> Ready {
        var delivery = CheckDelivery()
        for group in groups {
            var byFile: [LinkLedger.Identity: [StorePath]] = [:]
            for path in group {
                guard let row = try catalogue.entry(path), row.inode != 0, let status = try roots.status(of: path),
                    status.inode == row.inode
                else { continue }
                byFile[status.identity, default: []].append(path)
            }
            delivery.links += byFile.values.filter { $0.count > 1 }
        }
        guard !delivery.links.isEmpty else { return Ready(request: check.request, record: nil, delivery: delivery) }
        return Ready(
            request: check.request, record: claims.record(check.request, [], .links(delivery.links)), delivery: delivery
        )
    }

    /// A message whose content is not what was recorded, though nothing else changed: read once more, and Cyrus asked.
    private func examine(
        _ path: StorePath, _ recorded: Digest, _ mark: (StorePath) -> Void
    ) throws -> LocalFinding? {
        do throws(SystemError) {
            let file = try roots.open(path)
            let bytes = try file.readAll(max: 1 << 30)
            let found = PageTable.digest(of: bytes)
            guard found != recorded else { return nil }
            let guid = try roots.indexedGUID(of: path)
            let witness: LocalFinding.Witness
            if let guid, !guid.isNull {
                witness = MessageGUID(of: bytes) == guid ? .forDisk : .againstDisk
            } else {
                witness = .silent
            }
            return LocalFinding(path: path, what: .rot(recorded: recorded, found: found, witness: witness))
        } catch {
            // Gone meanwhile; or unreadable, which capture makes an alarm of.
            mark(path)
            return nil
        }
    }
}

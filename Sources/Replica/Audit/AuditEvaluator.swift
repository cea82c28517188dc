import Digests
import Formats
import Linux
import Logging
import Store
import Synchronization

/// Holds the primary's checks against this end's store, at their position of the log.
///
/// Flow: the applier, which has applied all that comes before a check, calls `evaluate`; there the directories are
/// listed and the files that change are read, and applying goes on. What never changes, the messages, is read by the
/// audit thread (`run`), which then sends the verdict. A message that is gone by then makes its directory "moved on",
/// and the primary asks again: a verdict is about the check's position or about nothing.
///
/// Reads only; trusts nothing that the replica knows of its own files.
final class AuditEvaluator: Sendable {
    private let roots: StoreRoots
    private let shared: SharedReplica
    private let log: Logger
    private let work = Condition(Work())
    private let ledgers = Mutex(AuditLedgers())
    /// Who is not root cannot give files away, so owners are no part of its copy.
    private let keepsOwners = CurrentProcess.effectiveUser == 0
    /// Each holds the names of up to some thousand files. An audit has four under way, and three audits may be.
    private static let waitingMax = 12
    /// Of a range; where this end has so many more, the rest of them are not there for the verdict.
    private static let directoryExcessMax = 4096

    private struct Work: Sendable {
        var waiting: [Task] = []
        var isStopping = false
    }

    private enum Task: Sendable {
        case listings(Evaluation)
        case soundness(AuditCheck, SoundnessCheck)
    }

    init(roots: StoreRoots, shared: SharedReplica, log: Logger) {
        self.roots = roots
        self.shared = shared
        self.log = log
    }

    func stop() { work.update { $0.isStopping = true } }

    // MARK: - at the position

    /// For the applier, when it comes to `check`. `isExact`: nothing before it is in doubt.
    func evaluate(_ check: AuditCheck, isExact: Bool) {
        guard isExact else {
            return tell(check, .lost(why: "the copy is not exact here: after a crash, or before a seed is complete"))
        }
        switch check.claim {
        case .links(let groups): return tell(check, links(groups))
        case .linkDigests(let digests): return tell(check, linkDigests(digests, check))
        case .soundness(let soundness): return evaluate(soundness, check)
        case .combined, .entries, .range: break
        }
        guard work.withLock({ $0.waiting.count < Self.waitingMax }) else {
            return tell(check, .lost(why: "\(Self.waitingMax) checks wait for their messages to be read"))
        }
        let states: [Evaluation.State]
        do throws(SystemError) { states = try self.states(check, ListingReader(roots)) } catch {
            return tell(check, .lost(why: "\(error)"))
        }
        let records = records(check, states)
        ledgers.withLock { ledgers in
            for state in states {
                if case .listed(let listing) = state { ledgers.note(listing, check.audit) }
            }
        }
        work.update {
            $0.waiting.append(
                .listings(
                    Evaluation(check: check, states: states, keepsOwners: keepsOwners, records: records)))
        }
    }

    private func states(_ check: AuditCheck, _ reader: ListingReader) throws(SystemError) -> [Evaluation.State] {
        guard case .range(let claimedCount, _, _) = check.claim else {
            return check.directories.map { look(at: $0, check.depth, reader) }
        }
        var excluded: [StorePath: [[UInt8]]] = [:]
        for exception in check.directories.dropFirst(2) { excluded[exception.path] = exception.excluded }
        var states: [Evaluation.State] = []
        let (first, last) = (check.directories[0].path, check.directories[1].path)
        var walk = try RangeWalk(from: first, through: last) { (directory) throws(SystemError) in
            try reader.subdirectories(of: directory)
        }
        while let directory = walk.next(), states.count < claimedCount + Self.directoryExcessMax {
            let names = excluded[directory]
            if let names, names.isEmpty {
                walk.descend(into: directory, try reader.subdirectories(of: directory))
                continue
            }
            let state = look(at: AuditCheck.Directory(path: directory, excluded: names ?? []), check.depth, reader)
            if case .absent = state { continue }
            states.append(state)
            walk.descend(into: directory, try inside(state, reader))
        }
        return states
    }

    /// The directories in one that was looked at; those it has in any case, if nothing can be said of it.
    private func inside(_ state: Evaluation.State, _ reader: ListingReader) throws(SystemError) -> [[UInt8]] {
        switch state {
        case .listed(let listing): listing.subdirectories
        case .movedOn(let directory): try reader.subdirectories(of: directory)
        case .absent: []
        }
    }

    private func look(
        at directory: AuditCheck.Directory, _ depth: AuditCheck.Depth, _ reader: ListingReader
    ) -> Evaluation.State {
        // What was asked for whole is on its way: no difference, but not equal yet.
        guard !shared.isAwaiting(in: directory.path) || Simulation.isMutated(.ignoreAwaited) else {
            return .movedOn(directory.path)
        }
        do throws(SystemError) {
            guard var listing = try reader.list(directory.path) else { return .absent }
            if !directory.excluded.isEmpty {
                let excluded = Set(directory.excluded)
                listing.items.removeAll { excluded.contains($0.entry.name) }
            }
            guard depth == .content else { return .listed(listing) }
            let gone = try reader.digest(&listing, where: { !$0.isMessage })
            return gone.isEmpty ? .listed(listing) : .movedOn(directory.path)
        } catch {
            return unlooked(at: directory.path, error)
        }
    }

    /// Only what is certainly not there is absent; anything else, as too many open files, says nothing of the store.
    private func unlooked(at directory: StorePath, _ error: SystemError) -> Evaluation.State {
        guard error.errno != .noEntry, error.errno != .notDirectory else { return .absent }
        log.warning("audit: \(directory): \(error)")
        return .movedOn(directory)
    }

    /// What the databases hold that are not as they are claimed to be, if that is asked.
    private func records(_ check: AuditCheck, _ states: [Evaluation.State]) -> [StorePath: Digest] {
        guard check.records == .wanted, case .entries(let claims) = check.claim else { return [:] }
        var records: [StorePath: Digest] = [:]
        for (state, claim) in zip(states, claims) {
            guard case .listed(let listing) = state else { continue }
            let claimed = Set(keepsOwners ? claim.hashes : claim.withoutOwners)
            for item in listing.items where item.entry.kind == .file && !item.isMessage {
                let path = listing.directory.appending(item.entry.name)
                let entry = keepsOwners ? item.entry : item.entry.ownerless
                guard let kind = roots.layout.role(of: path).databaseKind,
                    item.entry.byteCount <= Self.databaseBytesMax,
                    !claimed.contains(entry.hash),
                    // A witness only: nothing if it cannot be read.
                    let bytes = try? roots.open(path).readAll(max: Int(Self.databaseBytesMax))
                else { continue }
                records[path] = DatabaseImage.recordsDigest(bytes, kind)
            }
        }
        return records
    }

    private static let databaseBytesMax: UInt64 = 1 << 30

    private func links(_ groups: [[StorePath]]) -> AuditVerdict.Outcome {
        var broken: [Int] = []
        let awaited = shared.awaited.paths
        // One that is still to come may be another file until then.
        for (place, group) in groups.enumerated() where awaited.isDisjoint(with: group) {
            // Where two of its names are on two file systems they cannot be one file.
            var files: [UInt64: Set<UInt64>] = [:]
            for path in group {
                // One that is not there, or no file, is for the check of its directory to tell; so is one that cannot be
                // looked at.
                guard let status = try? roots.status(of: path), status.kind == .file else { continue }
                files[status.device, default: []].insert(status.inode)
            }
            if files.values.contains(where: { $0.count > 1 }) { broken.append(place) }
        }
        return broken.isEmpty ? .equal : .brokenLinks(broken)
    }

    private func linkDigests(_ claimed: [UInt64], _ check: AuditCheck) -> AuditVerdict.Outcome {
        guard let ledger = ledgers.withLock({ $0.take(check.audit) }) else {
            // Not gathered since the audit began, as after a restart: then each link has to be asked about.
            return .brokenLinks(Array(claimed.indices))
        }
        let broken = zip(claimed, ledger.digests).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
        return broken.isEmpty ? .equal : .brokenLinks(broken)
    }

    /// What may be wrong only for as long as the next batch has not come is for the primary to ask again about.
    private func evaluate(_ soundness: AuditCheck.Soundness, _ check: AuditCheck) {
        do throws(SystemError) {
            let look = CyrusCheck(roots: roots, standing: .atRest)
            var found = SoundnessCheck()
            switch soundness {
            case .store:
                guard shared.status.awaitedCount == 0 else {
                    return tell(check, .lost(why: "files were asked for whole and have not come"))
                }
                try found.lookAtStore(with: look)
            case .mailboxes:
                // One of which something is on its way is not sound yet, and its directory is told as not compared.
                for directory in check.directories where shared.awaited(ofMailbox: directory.path).isEmpty {
                    try found.look(at: directory.path, with: look)
                }
            }
            work.update { $0.waiting.append(.soundness(check, found)) }
        } catch {
            tell(check, .lost(why: "\(error)"))
        }
    }

    // MARK: - later

    /// The audit thread: until `stop`.
    func run() {
        try? CurrentProcess.useDiskWhenIdle()  // only politeness
        CurrentProcess.useProcessorModestly()
        let reader = ListingReader(roots)
        while true {
            let next = work.take { work -> Task?? in
                if work.isStopping { return .some(nil) }
                guard !work.waiting.isEmpty else { return nil }
                return work.waiting.removeFirst()
            }
            switch next ?? nil {
            case .listings(var evaluation)?:
                if evaluation.check.depth == .content { readMessages(&evaluation, reader) }
                tell(evaluation.check, evaluation.outcome { path, entry in self.guid(of: path, entry) })
            case .soundness(let check, var soundness)?:
                soundness.readMessages(roots)
                tell(check, soundness.outcome)
            case nil: return
            }
        }
    }

    private func readMessages(_ evaluation: inout Evaluation, _ reader: ListingReader) {
        for index in evaluation.states.indices {
            guard case .listed(var listing) = evaluation.states[index] else { continue }
            // Taken out, so that the listing is not copied when it is changed.
            evaluation.states[index] = .movedOn(listing.directory)
            do throws(SystemError) {
                let gone = try reader.digest(&listing, where: \.isMessage)
                if gone.isEmpty { evaluation.states[index] = .listed(listing) }
            } catch {
                evaluation.states[index] = unlooked(at: listing.directory, error)
            }
        }
    }

    /// A witness only: nothing if it cannot be read.
    private func guid(of path: StorePath, _ entry: AuditEntry) -> MessageGUID? {
        guard case .message = roots.layout.role(of: path), entry.kind == .file, entry.digest != nil,
            let bytes = try? roots.open(path).readAll(max: Self.guidBytesMax)  // without it one witness is silent
        else { return nil }
        return MessageGUID(of: bytes)
    }

    private static let guidBytesMax = 256 << 20

    private func tell(_ check: AuditCheck, _ outcome: AuditVerdict.Outcome) {
        shared.send(.verdict(AuditVerdict(number: check.number, outcome: outcome)))
    }
}

/// A check and what was found at its position; pure.
struct Evaluation: Sendable {
    let check: AuditCheck
    /// Of each directory of the check.
    var states: [State]
    let keepsOwners: Bool
    /// Of databases that are otherwise.
    var records: [StorePath: Digest] = [:]

    enum State: Sendable {
        case listed(DirectoryListing)
        case absent
        case movedOn(StorePath)
    }

    /// `guid` is asked for the SHA-1 of what differs.
    func outcome(guid: (StorePath, AuditEntry) -> MessageGUID?) -> AuditVerdict.Outcome {
        switch check.claim {
        case .combined(let digest, let ownerless):
            let claimed = keepsOwners ? digest : ownerless
            return combined(claimed)
        case .entries(let claimed):
            return .details(zip(states, claimed).map { details($0, $1, guid) })
        case .range(_, let digest, let ownerless):
            return range(keepsOwners ? digest : ownerless)
        case .links, .linkDigests, .soundness:
            return .lost(why: "a claim of that kind has no listing")
        }
    }

    private func combined(_ claimed: UInt64) -> AuditVerdict.Outcome {
        var found: [AuditVerdict.DirectoryState] = []
        var digests: [UInt64] = []
        for state in states {
            switch state {
            case .listed(let listing):
                let digest = AuditEntry.digest(of: entries(of: listing))
                digests.append(digest)
                found.append(.digest(digest))
            case .absent: found.append(.absent)
            case .movedOn: found.append(.movedOn)
            }
        }
        let isEqual = digests.count == states.count && AuditEntry.digest(ofHashes: digests) == claimed
        return isEqual ? .equal : .directories(found)
    }

    private func range(_ claimed: UInt64) -> AuditVerdict.Outcome {
        var hashes: [UInt64] = []
        var found = AuditVerdict.Range(owners: keepsOwners ? .kept : .ignored, marks: [], movedOn: [])
        for state in states {
            switch state {
            case .listed(let listing):
                let its = AuditCheck.hashes(
                    listing.directory, digest: AuditEntry.digest(of: entries(of: listing)))
                hashes += its
                found.marks.append(AuditCheck.mark(its, check: check.number))
            case .movedOn(let directory): found.movedOn.append(AuditCheck.mark(directory, check: check.number))
            case .absent: continue
            }
        }
        let isEqual = found.movedOn.isEmpty && AuditEntry.digest(ofHashes: hashes) == claimed
        return isEqual ? .equal : .range(found)
    }

    private func entries(of listing: DirectoryListing) -> [AuditEntry] {
        listing.items.map { item in
            let entry = check.depth == .content ? item.entry : item.entry.contentless
            return keepsOwners ? entry : entry.ownerless
        }
    }

    private func details(
        _ state: State, _ claimed: AuditCheck.Entries, _ guid: (StorePath, AuditEntry) -> MessageGUID?
    ) -> AuditVerdict.Details {
        switch state {
        case .absent: return .absent
        case .movedOn: return .movedOn
        case .listed(let listing):
            let claimedHashes = keepsOwners ? claimed.hashes : claimed.withoutOwners
            var untold = Set(claimedHashes)
            var extra: [AuditVerdict.Found] = []
            for entry in entries(of: listing) where untold.remove(entry.hash) == nil {
                let path = listing.directory.appending(entry.name)
                extra.append(AuditVerdict.Found(entry: entry, guid: guid(path, entry), records: records[path]))
            }
            // As they were claimed, for the primary to find them by.
            let missing = zip(claimed.hashes, claimedHashes).filter { untold.contains($0.1) }.map(\.0)
            return .found(missing: missing, extra: extra)
        }
    }
}

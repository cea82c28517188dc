import Delta
import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Store

/// From the replica's journal into its store; one thread.
///
/// Flow: read the batches after the last one applied, apply each in the order of dependence, tell `applied`; every few
/// seconds flush the file systems and note the position on disk (a checkpoint). What was applied after the last
/// checkpoint is applied again after a crash (`RecordApplier.Mode.replay`).
///
/// A full disk stops it until there is room. Anything else that fails is one file's trouble, asked for whole later.
final class Applier {
    struct Parts {
        let journal: Journal
        let writer: StoreWriter
        /// Called now and then, between batches, and while there are none.
        let tidyUp: () -> Void
        /// Of a replica at rest.
        var tidyInterval = Duration.seconds(600)
        let layout: StoreLayout
        /// What may be removed in an hour; nothing: no limit.
        let removalLimit: RemovalLimit?
        let state: String
        let shared: SharedReplica
        let log: Logger
        /// For checks in the log; nothing where nobody could be told.
        var audit: AuditEvaluator?
    }

    private let parts: Parts
    private let applier: RecordApplier
    private var cursor: Journal.Cursor
    private var record: ReplicaRecord
    private var seeded: SeededVersions
    /// Since it was read, or saved.
    private var isSeededChanged = false
    /// Before this position the store may hold later bytes already.
    private let replayEnd: Position
    /// What the replay may have left wrong is known; until then nothing that it applies is exact.
    private var standing: AwaitedPaths.Standing
    private var lastAck = MonotonicTime.now()
    private var lastCheckpoint = MonotonicTime.now()
    private var isCheckpointed = true
    /// Made when something is first to be removed: it takes a walk.
    private var brake: RemovalBrake?
    /// Why the brake held in an earlier life, and nobody has said "resume" since.
    private var heldBefore: String?

    /// While there is much to apply, the primary is told this often.
    private static let ackInterval = Duration.milliseconds(20)
    private static let checkpointInterval = Duration.seconds(5)
    private static let readBytes = 4 << 20
    private static let retryInterval = Duration.seconds(1)

    init(_ parts: Parts, record: ReplicaRecord, seeded: SeededVersions) throws {
        self.parts = parts
        self.record = record
        self.seeded = seeded
        applier = RecordApplier(parts.writer, layout: parts.layout)
        replayEnd = parts.journal.flushed.position
        standing = record.applied < replayEnd ? .inDoubt : .settled
        guard var cursor = parts.journal.cursor(after: record.applied),
            try parts.journal.skip(&cursor, to: record.applied)
        else {
            throw JournalError.damaged(
                segment: parts.state, why: "the log after \(record.applied), the last position applied, is not there")
        }
        self.cursor = cursor
        if parts.removalLimit == nil {
            try HeldRemovals.remove(in: parts.state)
        } else {
            heldBefore = try HeldRemovals.reason(in: parts.state)
        }
    }

    /// Until the inbox says stop; then all that is flushed is applied, and a checkpoint made.
    func run() throws {
        while true {
            let isStopping = waitForWork()
            do {
                try applyAll()
            } catch is BrakedAtEnd {
                // Later bytes may be there by now. What does not fit is asked for, and `promote` tells of it.
                if record.applied < replayEnd { tellApplied(needed: try settle()) }
                break
            }
            if isStopping { break }
        }
        try checkpoint()
    }

    /// True when it is time to end.
    private func waitForWork() -> Bool {
        let applied = cursor.position
        let isAwaiting = !parts.shared.awaited.paths.isEmpty
        let waiting = isAwaiting ? min(parts.shared.askInterval, parts.tidyInterval) : parts.tidyInterval
        let timeout = isCheckpointed ? waiting : Self.checkpointInterval
        let journal = parts.journal
        let woken = parts.shared.work.take(timeout: timeout) { work -> Bool? in
            if work.isStopping { return true }
            return journal.flushed.position > applied ? false : nil
        }
        return woken ?? false
    }

    private func applyAll() throws {
        while true {
            let batches = try parts.journal.read(&cursor, byteCountMax: Self.readBytes)
            guard !batches.isEmpty else { break }
            for batch in batches {
                try apply(batch)
                if MonotonicTime.now() - lastAck >= Self.ackInterval { ack() }
            }
            ack()
            try lookUp()
        }
        try lookUp()
    }

    /// What is due now and then, however much there is to apply. During a replay nothing is: what is in doubt is known at its end.
    private func lookUp() throws {
        guard record.applied >= replayEnd else { return }
        parts.shared.askAgain()
        parts.tidyUp()
        if !isCheckpointed, MonotonicTime.now() - lastCheckpoint >= Self.checkpointInterval { try checkpoint() }
    }

    private func ack() {
        let (journal, applied) = (parts.journal, record.applied)
        parts.shared.update { $0.lagBytes = journal.byteCount(after: applied) }
        parts.shared.ack()
        lastAck = .now()
    }

    // MARK: - a batch

    private func apply(_ batch: SealedBatch) throws {
        let position = batch.position
        let mode: RecordApplier.Mode = position <= replayEnd ? .replay : .steady
        var needed: [StorePath] = []
        let records = try BatchReader.records(of: batch)
        if mode == .steady, records.contains(where: \.needsCheckpoint) { try checkpoint() }
        let removed = Set(records.lazy.filter { $0.change == .remove }.map(\.path))
        // A link that takes a directory's place takes all that is in it.
        let links = Set(records.lazy.filter(\.isSymlink).map(\.path))
        try brake(removed.count, of: removed.union(links), mode)
        let isLacking = !parts.shared.awaited.paths.isEmpty
        for item in ApplyPlan.ordered(records, parts.layout) {
            if case .check(let check) = item.change {
                parts.audit?.evaluate(check, isExact: mode == .steady && position >= record.consistentAfter)
                continue
            }
            if item.isOfContent, seeded.have(item.path, at: position, seededIn: record.consistentAfter.epoch) {
                continue
            }
            if item.change == .remove || item.isSymlink, !seeded.asOf.isEmpty, !parts.layout.isMessage(item.path),
                seeded.forget(item.path)
            {
                isSeededChanged = true
            }
            if mode == .steady, isLacking || !needed.isEmpty, mustWait(item, needed, removed) {
                needed.append(item.path)
            } else if let path = try apply(item, position.sequence, mode) {
                needed.append(path)
            }
        }
        if position == replayEnd { needed += try settle() }
        record.applied = position
        // None of them is of a later position.
        if position >= record.consistentAfter { (seeded, isSeededChanged) = (SeededVersions(), false) }
        record.epochSeen = max(record.epochSeen, position.epoch)
        record.exactAt = batch.header.timeNanoseconds
        isCheckpointed = false
        tellApplied(needed: needed)
    }

    /// What the replay has left wrong.
    private func settle() throws -> [StorePath] {
        standing = .settled
        return try applier.settle()
    }

    /// `needed` is asked for whole.
    private func tellApplied(needed: [StorePath]) {
        let isExact = record.applied >= record.consistentAfter
        parts.shared.applied(
            record.applied, exactAt: isExact ? Timestamp(nanoseconds: record.exactAt) : nil, needed: needed,
            standing)
    }

    /// Whether the index of before is to stay, as another file of its mailbox could not be written, or what that index names is
    /// not to be removed yet; then they are asked for, too, and come together. What this batch removes keeps no index waiting.
    private func mustWait(_ item: Record, _ needed: [StorePath], _ removed: Set<StorePath>) -> Bool {
        let (path, layout) = (item.path, parts.layout)
        let isIndex = item.isOfContent && layout.role(of: path) == .index
        guard isIndex || item.change == .remove && layout.isMessage(path) else { return false }
        let lacking =
            needed.filter { $0.parent.path == path.parent.path } + parts.shared.awaited(ofMailbox: path.parent)
        return lacking.contains { isIndex ? $0 != path && !removed.contains($0) : layout.role(of: $0) == .index }
    }

    /// Waits, if the batch would remove too much, until the operator has looked or it is time to end. A restart, or a promotion,
    /// is no word of the operator's.
    private func brake(_ removals: Int, of paths: Set<StorePath>, _ mode: RecordApplier.Mode) throws {
        guard let limit = parts.removalLimit, !paths.isEmpty else { return }
        let count = max(removals, parts.writer.fileCount(below: paths))
        guard count > 0 else { return }
        let now = MonotonicTime.now()
        if brake?.isOver(now: now) ?? true {
            brake = RemovalBrake(limit, storeCount: try parts.writer.nameCount(), now: now)
        }
        while heldBefore != nil || brake?.mayRemove(count) == false {
            let why = heldBefore ?? brake?.reason(count) ?? ""
            // So that in another life nothing is applied again before this batch is held again.
            if mode == .steady { try checkpoint() }
            try outlastingShortage { try HeldRemovals.save(why, in: parts.state) }
            let what = "\(why): if that is right, or the primary has them again, \"mailsync resume\" goes on"
            parts.log.critical("paused: \(what)")
            guard parts.shared.brake(because: what) else { throw BrakedAtEnd() }
            heldBefore = nil
            try HeldRemovals.remove(in: parts.state)
            brake?.release()
        }
    }

    /// The path, if it is needed whole. Waits while the disk is full, or there are no descriptors.
    private func apply(_ item: Record, _ sequence: SequenceNumber, _ mode: RecordApplier.Mode) throws -> StorePath? {
        do {
            switch try outlastingShortage({ try applier.apply(item, at: sequence, mode) }) {
            case .applied:
                parts.shared.arrived(item)
                return nil
            case .needsWhole(let why):
                parts.log.warning("\(item.path): asked for whole: \(why)")
                return item.path
            case .refused(let why):
                parts.shared.failed("\(item.path): refused: \(why)")
                parts.log.error("\(item.path): refused: \(why)")
                return nil
            }
        } catch let error as SystemError where !error.isShortage {
            parts.shared.failed("\(item.path): \(error)")
            parts.log.error("\(item.path): \(error)")
            return item.path
        }
    }

    /// What `body` gives; while something has run out it is tried again, until there is some or it is time to end.
    private func outlastingShortage<Result>(_ body: () throws -> Result) throws -> Result {
        var isPaused = false
        while true {
            do {
                let result = try body()
                if isPaused { parts.shared.goesOn(.apply) }
                return result
            } catch let error as SystemError where error.isShortage {
                isPaused = true
                parts.shared.pauses(.apply, because: "\(error)")
                parts.log.error("paused: \(error): \(error.shortageHint), it goes on by itself")
                let isStopping = parts.shared.work.wait(timeout: Self.retryInterval) { $0.isStopping }
                if isStopping { throw error }
            }
        }
    }

    /// On return all that is applied is on disk, and so is that it is.
    private func checkpoint() throws {
        guard !isCheckpointed else { return }
        try parts.writer.flush()
        try outlastingShortage {
            try parts.shared.awaited.save(in: parts.state)
            if isSeededChanged { try seeded.save(in: parts.state) }
            try record.save(in: parts.state)
            if record.applied >= record.consistentAfter { try SeededVersions.remove(in: parts.state) }
        }
        (isCheckpointed, isSeededChanged) = (true, false)
        lastCheckpoint = .now()
        try parts.journal.trim(through: record.applied)
    }
}

/// It is time to end, and the brake still holds: the batch is left for the next run.
private struct BrakedAtEnd: Error {}

extension Record {
    fileprivate var isSymlink: Bool { if case .symlink = change { true } else { false } }

    /// Whether it replaces a file by something of another shape, so that patches of before must not be written again.
    var needsCheckpoint: Bool {
        switch change {
        case .delta, .assembled: true
        case .whole, .extents, .part, .metadata, .directory, .link, .symlink, .remove, .keep, .check: false
        }
    }

    /// Whether it is about a file's content, which a seed may have brought already.
    var isOfContent: Bool {
        switch change {
        case .whole, .extents, .delta, .part, .assembled, .metadata: true
        case .directory, .link, .symlink, .remove, .keep, .check: false
        }
    }
}

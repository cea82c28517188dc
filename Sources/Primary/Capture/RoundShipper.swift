import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Store

/// From what a round captured to batches in the journal, and to what is remembered of them.
///
/// Order: records in the order of dependence, sealed, appended; flushed, at the end and where much is held; only then catalogue and shadows, so that these
/// are never ahead of the log. The capturer's thread uses it.
struct RoundShipper {
    private let parts: Capturer.Parts
    private let epoch: Epoch
    private let shadows: ShadowStore
    private let encoder: RecordEncoder
    private let alarm: (StorePath, AlarmCause) -> Void

    /// Of a batch with what belongs together: all but directories and new messages, which nothing refers to yet. A message that was moved is
    /// in one index, and no more in another.
    static let togetherBytes = 32 << 20
    private static let unflushedBytesMax = 16 << 20
    private static let retryInterval = Duration.seconds(1)

    init(_ parts: Capturer.Parts, epoch: Epoch, shadows: ShadowStore, alarm: @escaping (StorePath, AlarmCause) -> Void)
    {
        self.parts = parts
        self.epoch = epoch
        self.shadows = shadows
        self.alarm = alarm
        encoder = RecordEncoder(roots: parts.roots, catalogue: parts.catalogue, shadows: shadows, alarm: alarm)
    }

    /// Encodes and journals what was captured, and forgets it.
    func ship(_ round: inout CaptureRound) throws {
        defer { round.forgetCaptured() }
        guard round.unshipped.isEmpty else {
            // Something has run out in this round: what was left out then may be what this refers to.
            round.unshipped += round.captured.map(\.path)
            return
        }
        let layout = parts.roots.layout
        func rank(_ captured: Captured) -> Int {
            if case .nothing = captured.found { return 100 }
            if case .directory = captured.found { return ApplyRank.directory.rawValue }
            // After those that are new.
            if captured.replacesMessage { return ApplyRank.cache.rawValue }
            return layout.applyRank(of: captured.path).rawValue
        }
        let captured = try withParents(round.captured.lastOfEach)
        let ordered = captured.map { (rank($0), $0) }.sorted { ($0.0, $0.1.path) < ($1.0, $1.1.path) }
        var writer = BatchWriter(bytesMax: parts.batchBytes)
        var shipped: [Shipped] = []
        // What belongs together and is not in the log yet.
        var together: (from: Int, after: Position, behind: BatchWriter)?
        for (index, (rank, captured)) in ordered.enumerated() {
            let isParted = rank <= ApplyRank.message.rawValue || Simulation.isMutated(.partAnywhere)
            if !isParted, writer.bytesMax < Self.togetherBytes {
                if writer.isHalfFull { try append(&writer) }
                writer.bytesMax = Self.togetherBytes
                together = (shipped.count, newest.position, writer)
            }
            var isTold = false
            let item: Shipped?
            do {
                item = try encode(captured, &round) { record in
                    isTold = true
                    try add(record, &writer)
                }
            } catch let error as SystemError where error.isShortage || error.errno == .busy {
                // Nothing goes before what it refers to, or without what was moved along with it.
                round.unshipped += ordered[index...].map(\.1.path)
                if let together, together.after == newest.position {
                    round.unshipped += shipped[together.from...].map(\.path)
                    shipped.removeSubrange(together.from...)
                    writer = together.behind
                }
                round.shippedMessages.subtract(round.unshipped)
                break
            }
            guard let item else { continue }
            if isTold, round.suspicions.contains(captured.path) { parts.status.update { $0.missedCount += 1 } }
            shipped.append(item)
        }
        if !writer.isEmpty { try append(&writer) }
        if newest.position != parts.journal.flushed.position { try parts.journal.flush() }
        for item in shipped { try note(item) }
        parts.journaled(parts.journal.flushed.position)
    }

    /// `captured` with the directories that no record told of yet: one that is somebody else's to read may come in a
    /// later round, and be gone by then. Then nothing would ever remove the one that the replica made for what is in it.
    private func withParents(_ captured: [Captured]) throws -> [Captured] {
        var parents: [StorePath: Captured] = [:]
        var told: Set<StorePath> = []
        for item in captured {
            if case .directory = item.found { told.insert(item.path) }
        }
        for item in captured where !item.isGone {
            var place = item.path.parent
            while !place.isRoot, told.insert(place).inserted, try parts.catalogue.entry(place) == nil {
                let status: FileStatus?
                do throws(SystemError) {
                    status = try parts.roots.status(of: place)
                } catch {
                    guard !error.isShortage else { throw error }
                    status = nil  // who cannot be seen cannot be told of
                }
                let directory = status.flatMap { $0.kind == .directory ? $0 : nil }
                parents[place] = Captured(path: place, found: directory.map { .directory($0) } ?? .nothing)
                place = place.parent
            }
        }
        let isLost: (StorePath) -> Bool = { path in parents[path].map(\.isGone) ?? false }
        return parents.values + captured.filter { !isLost($0.path.parent) }
    }

    /// One that fails is an alarm, and nobody else's concern; unless it is to be tried again, which is thrown.
    private func encode(
        _ captured: Captured, _ round: inout CaptureRound, add: (Record) throws -> Void
    ) throws -> Shipped? {
        if round.tellsOfUnknown, captured.isGone {
            parts.status.update { _ = $0.alarms.removeValue(forKey: captured.path) }
            try add(Record(captured.path, .remove))
            return Shipped(path: captured.path, entry: nil)
        }
        do {
            let shipped = try encoder.encode(captured, linkTargets: &round.linkTargets, add: add)
            // A directory's alarm is of what is in it, and goes when that could be listed.
            let isDirectory = if case .directory = captured.found { true } else { false }
            if shipped != nil, !isDirectory {
                parts.status.update { _ = $0.alarms.removeValue(forKey: captured.path) }
            }
            return shipped
        } catch let error as SystemError {
            alarm(captured.path, .system(error))
            if error.isShortage || error.errno == .busy { throw error }
            return nil
        }
    }

    /// The newest batch appended, and the chain hash there.
    private var newest: (position: Position, hash: ChainHash) { parts.journal.newest }

    /// Puts `records` into the log as they are, behind all else; on disk on return. Returns where they end.
    func append(_ records: [Record]) throws -> Position {
        var writer = BatchWriter(bytesMax: parts.batchBytes)
        for record in records { try add(record, &writer) }
        if !writer.isEmpty { try append(&writer) }
        try parts.journal.flush()
        parts.journaled(parts.journal.flushed.position)
        return parts.journal.flushed.position
    }

    private func add(_ record: Record, _ writer: inout BatchWriter) throws {
        writer.add(record)
        if writer.isFull { try append(&writer) }
    }

    private func append(_ writer: inout BatchWriter) throws {
        let newest = newest
        let position = Position(epoch: epoch, sequence: newest.position.sequence.next)
        let batch = try writer.seal(at: position, after: newest.hash, time: parts.now())
        try journal(batch)
        // What is not flushed is in memory, and of nobody's use yet.
        if parts.journal.unflushedBytes > Self.unflushedBytesMax {
            try parts.journal.flush()
            parts.journaled(position)
        }
        parts.status.update { status in
            status.batchCount += 1
            status.recordCount += UInt64(batch.header.recordCount)
            status.batchBytes += UInt64(batch.bytes.count)
        }
        writer = BatchWriter(bytesMax: parts.batchBytes)
    }

    /// Waits while the disk is full: Cyrus goes on, what is dirty stays dirty, and nothing is lost.
    private func journal(_ batch: SealedBatch) throws(JournalError) {
        defer { parts.status.update { $0.isPaused = false } }
        var isTold = false
        while true {
            do throws(JournalError) {
                return try parts.journal.append([batch])
            } catch {
                guard case .system(let system) = error, system.errno == .noSpace || system.errno == .quotaExceeded
                else {
                    throw error
                }
                let why = CaptureStatus.Alarm(why: "\(error)", since: parts.now())
                parts.status.update { ($0.lastError, $0.isPaused) = (why, true) }
                if !isTold { parts.log.error("paused: \(error): free some space, it goes on by itself") }
                isTold = true
                let isStopping = parts.inbox.wait(timeout: Self.retryInterval) { $0.isStopping }
                if isStopping { throw error }
            }
        }
    }

    private func note(_ item: Shipped) throws {
        guard let entry = item.entry else {
            try parts.catalogue.remove(item.path)
            return try shadows.remove(item.path)
        }
        // What was below a directory went with it.
        let mayReplaceDirectory = entry.kind != .directory && !parts.roots.layout.isMessage(item.path)
        if try mayReplaceDirectory && parts.catalogue.entry(item.path)?.kind == .directory {
            try parts.catalogue.remove(item.path)
        }
        try parts.catalogue.set(item.path, entry)
        guard let shadow = item.shadow else { return }
        do throws(SystemError) {
            try shadows.update(item.path, to: shadow.version, from: shadow.old)
        } catch {
            // Without a shadow the file is shipped whole the next time.
            parts.log.warning("shadow of \(item.path): \(error)")
            try shadows.remove(item.path)
        }
    }
}

import Delta
import Digests
import Formats
import Linux
import Store
import Synchronization

/// Applies records to the store: checks the basis before, the result after.
///
/// In the steady state a record that does not fit changes nothing and is asked for whole. After a crash the store may
/// be anywhere between two positions of the log; then (`.replay`) extents are written without asking, since all that
/// came after the older position are written again in order, and what comes out is checked at the end (`settle`). That
/// holds as long as no file changes its shape between: so the applier makes a checkpoint before each batch that replaces
/// a file by a delta or from parts (`Record.needsCheckpoint`). A second crash during such a replay may leave a file that
/// `settle` finds wrong: it is sent whole. What is found as it should be is written all the same, but for what was flushed by
/// itself: the flush before the crash may have failed, and then the kernel takes for written what is on no disk (fsync(2), ERRORS).
final class RecordApplier: Sendable {
    private let writer: StoreWriter
    private let layout: StoreLayout
    private let screen: RecordScreen
    private let purpose: Purpose
    private let state = Mutex(State())

    private struct State {
        /// Tables of files that were patched lately.
        var tables: [StorePath: PageTable] = [:]
        var tableBytes = 0
        /// Files patched in a replay, and what they are to be in the end.
        var inDoubt: [StorePath: Digest] = [:]
        /// Names of those that were to be linked, and could not be then: content alone does not make them right.
        var unlinked: Set<StorePath> = []
    }

    enum Purpose: Sendable {
        case log
        /// Nobody reads the store before the seed has ended, so any new file is made in its place.
        case seed
        /// The same; what the copy had may be nowhere else, and goes into the quarantine.
        case seedOverCopy
    }

    private static let tableBytesMax = 8 << 20

    // No few bytes make a long file: hashing one of many terabytes, all holes, takes hours and gigabytes of memory.
    // What is beyond these is asked for whole.

    /// In a replay a file may be shorter than it was, as a crash or a later record left it.
    private static let replayGapBytesMax = 1 << 30
    /// A delta may repeat what it copies; of this much more than basis and delta together nobody sends one.
    private static let deltaGrowthMax = 4
    private static let deltaBytesFree = 64 << 20

    enum Mode: Sendable {
        case steady, replay
    }

    enum Outcome: Equatable, Sendable {
        case applied
        /// To be sent whole.
        case needsWhole(why: String)
        /// Nothing that a primary ships: nothing was done, and nothing is asked for.
        case refused(why: String)
    }

    init(_ writer: StoreWriter, layout: StoreLayout, purpose: Purpose = .log) {
        self.purpose = purpose
        self.writer = writer
        self.layout = layout
        screen = RecordScreen(layout)
    }

    func apply(_ record: Record, at sequence: SequenceNumber, _ mode: Mode = .steady) throws -> Outcome {
        let path = record.path
        if let why = screen.refusal(of: record) { return .refused(why: why) }
        switch record.change {
        case .directory(let metadata):
            try writer.makeDirectory(path, metadata, at: sequence)
        case .whole(let metadata, let result, let bytes):
            let table = PageTable(of: bytes)
            guard table.digest == result else { return .needsWhole(why: "the bytes are not what they are said to be") }
            if purpose != .log || isMessage(path), try writer.create(path, metadata, bytes) { break }
            if try isThere(path, table) {
                if mode == .replay { try writer.rewrite(path) }
                _ = try writer.setMetadata(path, metadata)
            } else {
                let isTorn = try mode == .replay && isBeginning(of: bytes, path)
                try writer.replace(path, metadata, at: sequence, isTorn ? .dropped : predecessor(of: path)) { file in
                    try file.write(bytes, at: 0)
                }
            }
            remember(path, table)
        case .extents(let metadata, let basis, let result, let byteCount, let extents):
            return try patch(path, metadata, basis, result, byteCount, extents, mode)
        case .delta(let metadata, let basis, let result, let byteCount, let delta):
            return try rebuild(path, metadata, basis, result, byteCount, delta, at: sequence, mode)
        case .part(let result, let offset, let bytes):
            try writer.writePart(of: result, for: path, offset: offset, bytes)
        case .assembled(let metadata, let result, let byteCount):
            forget(path)
            let old = predecessor(of: path)
            let isPlaced = try old == .quarantined && writer.table(of: path)?.digest == result
            let isAssembled = try writer.assemble(
                path, metadata, result: result, byteCount: byteCount, at: sequence, isPlaced ? .dropped : old)
            if isAssembled { break }
            guard try writer.table(of: path)?.digest == result else {
                return lacking(path, result, mode, why: "its parts are not there")
            }
            _ = try writer.setMetadata(path, metadata)
        case .link(let target, let result):
            forget(path)
            // In a replay, or where the ends differ, the target may be another file by now.
            guard try writer.table(of: target)?.digest == result, try writer.link(path, to: target, at: sequence) else {
                let outcome = lacking(path, result, mode, why: "\(target), of which it is another name, is not there")
                // One that has another name was linked before the crash.
                if mode == .replay, try writer.areOnOneFileSystem(path, target),
                    try writer.status(of: path)?.linkCount == 1
                {
                    state.withLock { _ = $0.unlinked.insert(path) }
                }
                return outcome
            }
        case .symlink(let metadata, let target):
            forget(path)
            try writer.symlink(path, metadata, target: target, at: sequence)
        case .metadata(let metadata, let result):
            guard try writer.setMetadata(path, metadata) else {
                return lacking(path, result, mode, why: "it is not there")
            }
        case .remove:
            forgetAll(within: path)
            try writer.remove(path, at: sequence)
        case .keep:
            try writer.keep(path, at: sequence)
        case .check:
            break
        }
        return .applied
    }

    /// Whether a file that never changes has this content already, as after a crash or in a seed over a copy.
    private func isThere(_ path: StorePath, _ table: PageTable) throws(SystemError) -> Bool {
        guard purpose == .seedOverCopy || isMessage(path), let there = try writer.status(of: path),
            there.kind == .file, there.byteCount == Int64(table.byteCount)
        else { return false }
        return try writer.table(of: path) == table
    }

    /// Whether a crash has left a part of it, as it was just being made.
    private func isBeginning(of bytes: [UInt8], _ path: StorePath) throws(SystemError) -> Bool {
        guard let there = try writer.status(of: path), there.kind == .file, there.byteCount < Int64(bytes.count) else {
            return false
        }
        return bytes.starts(with: try writer.open(path).read(at: 0, count: Int(there.byteCount)))
    }

    /// A message whose content differs is another message under the same name, as two primaries make them.
    private func predecessor(of path: StorePath) -> StoreWriter.Predecessor {
        purpose == .seedOverCopy || isMessage(path) ? .quarantined : .dropped
    }

    private func isMessage(_ path: StorePath) -> Bool {
        layout.isMessage(path)
    }

    /// In a replay what is missing may have been removed or moved since, by a record that comes yet.
    private func lacking(_ path: StorePath, _ result: Digest, _ mode: Mode, why: String) -> Outcome {
        guard mode == .replay else { return .needsWhole(why: why) }
        state.withLock { $0.inDoubt[path] = result }
        return .applied
    }

    // MARK: - deltas

    private func patch(
        _ path: StorePath, _ metadata: Metadata, _ basis: Digest, _ result: Digest, _ byteCount: Int,
        _ extents: [Record.ExtentBytes], _ mode: Mode
    ) throws -> Outcome {
        guard var table = try table(of: path) else { return lacking(path, result, mode, why: "it is not there") }
        if table.digest == result, table.byteCount == byteCount {
            if mode == .replay {
                _ = try writer.patch(
                    path, metadata, byteCount: byteCount, extents, isAgain: true, readingBack: [])
            } else {
                _ = try writer.setMetadata(path, metadata)
            }
            remember(path, table)
            return .applied
        }
        let gapBytes = byteCount - table.byteCount - extents.reduce(0) { $0 + $1.bytes.count }
        guard gapBytes <= (mode == .replay ? Self.replayGapBytesMax : 0) else {
            return lacking(path, result, mode, why: "it would grow by more than the bytes that came")
        }
        if mode == .replay {
            _ = try writer.patch(
                path, metadata, byteCount: byteCount, extents, isAgain: true, readingBack: [])
            forget(path)
            state.withLock { $0.inDoubt[path] = result }
            return .applied
        }
        guard table.digest == basis || Simulation.isMutated(.skipBasis) else {
            return .needsWhole(why: "it is not what the change starts from")
        }
        let changed = Self.pages(of: extents, from: table.byteCount, to: byteCount)
        let pages = try writer.patch(path, metadata, byteCount: byteCount, extents, readingBack: changed)
        table.update(pages: changed, byteCount: byteCount) { page in pages[page] ?? [] }
        remember(path, table)
        guard table.digest == result else { return .needsWhole(why: "the change did not make of it what it should") }
        return .applied
    }

    /// The pages that these extents, or a new length, change.
    private static func pages(of extents: [Record.ExtentBytes], from old: Int, to new: Int) -> Set<Int> {
        var pages: Set<Int> = []
        for extent in extents where !extent.bytes.isEmpty {
            pages.formUnion(
                extent.offset / PageTable.pageBytes...(extent.offset + extent.bytes.count - 1) / PageTable.pageBytes)
        }
        if old != new {
            let first = min(old, new) / PageTable.pageBytes
            let end = PageTable.pageCount(of: new)
            if first < end { pages.formUnion(first..<end) }
        }
        return pages
    }

    private func rebuild(
        _ path: StorePath, _ metadata: Metadata, _ basis: Digest, _ result: Digest, _ byteCount: Int, _ delta: [UInt8],
        at sequence: SequenceNumber, _ mode: Mode
    ) throws -> Outcome {
        guard let old = try table(of: path) else { return lacking(path, result, mode, why: "it is not there") }
        if old.digest == result, old.byteCount == byteCount {
            remember(path, old)
            _ = try writer.setMetadata(path, metadata)
            return .applied
        }
        guard old.digest == basis else {
            return lacking(path, result, mode, why: "it is not what the change starts from")
        }
        guard byteCount <= Self.deltaGrowthMax * (old.byteCount + delta.count) + Self.deltaBytesFree else {
            return lacking(path, result, mode, why: "its delta would make too much of it")
        }
        let source = try writer.open(path)
        do {
            var made = [UInt8]()
            var table = PageTable()
            try writer.replace(path, metadata, at: sequence, predecessor(of: path)) { file in
                var offset: Int64 = 0
                try RsyncDelta.apply(
                    delta, basisBytes: old.byteCount,
                    basis: { try source.read(at: Int64($0.lowerBound), count: $0.count) }, resultBytesMax: byteCount
                ) { piece in
                    try file.write(piece, at: offset)
                    offset += Int64(piece.count)
                    made.append(contentsOf: piece)
                    let whole = made.count / PageTable.pageBytes * PageTable.pageBytes
                    made[..<whole].withUnsafeBytes { table.append($0) }
                    made.removeFirst(whole)
                }
                made.withUnsafeBytes { table.append($0) }
                guard table.digest == result, table.byteCount == byteCount else { throw WrongResult() }
                // Renamed over a good file: whole on disk before, so that a power cut leaves the one or the other.
                try file.flushData()
            }
            remember(path, table)
            return .applied
        } catch is WrongResult {
            return .needsWhole(why: "the change did not make of it what it should")
        } catch let error as DeltaError {
            return .needsWhole(why: "its delta cannot be applied: \(error)")
        }
    }

    private struct WrongResult: Error {}

    // MARK: - after a replay

    /// Looks whether what the replay patched is what the log says. Returns those that are not.
    func settle() throws -> [StorePath] {
        let (inDoubt, unlinked) = state.withLock { state in
            defer { (state.inDoubt, state.unlinked) = ([:], []) }
            return (state.inDoubt, state.unlinked)
        }
        var wrong: [StorePath] = []
        for (path, expected) in inDoubt {
            if !unlinked.contains(path), let table = try writer.table(of: path), table.digest == expected {
                remember(path, table)
            } else {
                wrong.append(path)
            }
        }
        return wrong
    }

    // MARK: - tables

    private func table(of path: StorePath) throws(SystemError) -> PageTable? {
        if let known = state.withLock({ $0.tables[path] }) { return known }
        guard let table = try writer.table(of: path) else { return nil }
        remember(path, table)
        return table
    }

    /// Not of messages: they are never patched.
    private func remember(_ path: StorePath, _ table: PageTable) {
        if isMessage(path) { return }
        state.withLock { state in
            state.inDoubt[path] = nil
            state.unlinked.remove(path)
            let bytes = Self.bytes(path, table)
            state.tableBytes += bytes - (state.tables[path].map { Self.bytes(path, $0) } ?? 0)
            state.tables[path] = table
            if state.tableBytes > Self.tableBytesMax {
                state.tables = [path: table]
                state.tableBytes = bytes
            }
        }
    }

    private func forget(_ path: StorePath) {
        state.withLock { state in
            state.inDoubt[path] = nil
            state.unlinked.remove(path)
            guard let table = state.tables.removeValue(forKey: path) else { return }
            state.tableBytes -= Self.bytes(path, table)
        }
    }

    private func forgetAll(within path: StorePath) {
        if isMessage(path) { return forget(path) }
        let paths = state.withLock { state in
            state.tables.keys.filter { $0.isWithin(path) } + state.inDoubt.keys.filter { $0.isWithin(path) }
        }
        for path in paths { forget(path) }
    }

    private static func bytes(_ path: StorePath, _ table: PageTable) -> Int {
        path.path.count + table.leaves.count * Digest.byteCount + 200
    }
}

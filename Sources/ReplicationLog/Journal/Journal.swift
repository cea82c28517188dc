package import Digests
package import Formats
package import Linux
internal import Synchronization

package enum JournalError: Error, CustomStringConvertible {
    case system(SystemError)
    /// A segment that is not the last one, or its head, is not what was written.
    case damaged(segment: String, why: String)
    /// A flush failed: what is on disk is unknown, and this journal takes nothing more until it is opened anew.
    case suspect

    package var description: String {
        switch self {
        case .system(let error): "journal: \(error)"
        case .damaged(let segment, let why): "journal: \(segment): \(why)"
        case .suspect: "journal: an earlier flush failed, what is on disk is unknown: start the daemon again"
        }
    }
}

/// The log at rest: sealed batches in segments, dense and chained, from the oldest kept to the newest.
///
/// The same type at both ends. One thread appends and flushes; any thread reads. Readers see a batch when it has been
/// flushed, so nothing that could be lost leaves this host.
///
/// Invariant: oldest <= flushed <= newest.
package final class Journal: Sendable {
    private let directory: String
    /// A segment is closed by the batch that makes it longer than this.
    private let segmentBytes: Int
    private let state: Mutex<State>

    private struct State {
        /// In order of the log; the last one is appended to.
        var segments: [SegmentFile]
        /// Where the last segment's batches end, and the zeros behind them.
        var end: Int
        var zeroed: Int
        /// What was appended, and what of it was flushed.
        var newest: Receiver
        var flushed: Receiver
        /// Bytes of the segments before the last.
        var closedBytes: Int
        var isSuspect = false
        /// The newest flushed batches, for readers that keep up.
        var recent: [Taken] = []
        var recentBytes = 0
        var unflushed: [Taken] = []
    }

    /// A batch, and what a receiver knows when it has taken it.
    private struct Taken {
        let batch: SealedBatch
        let receiver: Receiver
    }

    /// As long as segments are.
    package static let segmentBytes = 16 << 20
    private static let recentBytesMax = 2 << 20

    /// Opens the journal in `directory`, or starts one after `position` if there is none.
    ///
    /// A torn tail is cut at the last whole batch: it was never flushed, so never acked. What is before it is on disk on
    /// return, whatever became of the flushes of an earlier process. Damage with whole batches behind
    /// it (`SegmentTail`) is `.damaged`, and nothing is cut.
    package static func open(
        in directory: String, orStartAfter position: Position, hash: ChainHash, segmentBytes: Int = segmentBytes
    ) throws(JournalError) -> Journal {
        let names = try system { () throws(SystemError) in try segmentNames(in: directory) }
        guard !names.isEmpty else {
            let head = SegmentHead(after: position, hash: hash)
            let first = try system { () throws(SystemError) in try SegmentFile.create(in: directory, head: head) }
            return Journal(directory, segmentBytes, [first], SegmentScan(head: head), closedBytes: 0)
        }
        return try recover(directory, segmentBytes, names)
    }

    /// In order of the log.
    package static func segmentNames(in directory: String) throws(SystemError) -> [String] {
        let entries = try Directory(directory).entries()
        return entries.map { String(decoding: $0.name, as: UTF8.self) }.filter { $0.hasSuffix(".journal") }.sorted()
    }

    private static func recover(
        _ directory: String, _ segmentBytes: Int, _ names: [String]
    ) throws(JournalError) -> Journal {
        var segments: [SegmentFile] = []
        var closedBytes = 0
        for name in names {
            segments.append(try SegmentFile.open(directory + "/" + name))
            if segments.count < names.count {
                closedBytes += try system { () throws(SystemError) in try segments[segments.count - 1].byteCount() }
            }
        }
        let last = segments[segments.count - 1]
        var scan = SegmentScan(head: last.head)
        scanning: while true {
            let found = try system { () throws(SystemError) in try scan.next(last.read(at:count:)) }
            let why: String
            switch found {
            case .batch: continue
            case .end: why = "zeros where a batch should be"
            case .torn(let reason): why = reason
            }
            let tail = try system { () throws(SystemError) in try SegmentTail.behind(scan, last.read(at:count:)) }
            guard case .damaged(let later, let offset) = tail else { break scanning }
            throw .damaged(
                segment: last.path,
                why:
                    "offset \(scan.offset): after \(scan.receiver.position): \(why); batch \(later) at offset \(offset) is "
                    + "whole, so this is damage and no unfinished write: nothing was cut")
        }
        // Perhaps this process follows one whose flush failed.
        try system { () throws(SystemError) in
            try last.writeAgain(through: scan.offset)
            try last.cut(at: scan.offset)
        }
        if scan.offset == SegmentHead.byteCount, let anew = try madeAnew(last, in: directory) {
            segments[segments.count - 1] = anew
        }
        return Journal(directory, segmentBytes, segments, scan, closedBytes: closedBytes)
    }

    /// A segment without a batch: perhaps the flush of its name failed, and another would say that all is well. Nothing where there is
    /// no room to make it anew.
    private static func madeAnew(_ empty: SegmentFile, in directory: String) throws(JournalError) -> SegmentFile? {
        do throws(SystemError) {
            return try SegmentFile.create(in: directory, head: empty.head)
        } catch {
            guard error.isShortage else { throw .system(error) }
            return nil
        }
    }

    private init(
        _ directory: String, _ segmentBytes: Int, _ segments: [SegmentFile], _ tail: SegmentScan, closedBytes: Int
    ) {
        self.directory = directory
        self.segmentBytes = segmentBytes
        state = Mutex(
            State(
                segments: segments, end: tail.offset, zeroed: tail.offset, newest: tail.receiver,
                flushed: tail.receiver, closedBytes: closedBytes))
    }

    private static func system<Value>(
        _ body: () throws(SystemError) -> Value
    ) throws(JournalError) -> Value {
        do throws(SystemError) { return try body() } catch { throw .system(error) }
    }

    // MARK: - positions

    /// The newest batch that is on disk, and the chain hash there.
    package var flushed: (position: Position, hash: ChainHash) {
        state.withLock { ($0.flushed.position, $0.flushed.hash) }
    }

    /// The newest batch appended, on disk or not, and the chain hash there; for the thread that appends.
    package var newest: (position: Position, hash: ChainHash) {
        state.withLock { ($0.newest.position, $0.newest.hash) }
    }

    /// Nothing before what follows this position is kept.
    package var oldest: Position { state.withLock { $0.segments[0].head.position } }

    /// Whether a trim through `position` would drop anything.
    package func holds(before position: Position) -> Bool {
        state.withLock { $0.segments.count > 1 && $0.segments[1].head.position <= position }
    }

    /// Held in memory until they are on disk.
    package var unflushedBytes: Int { state.withLock { $0.unflushed.reduce(0) { $0 + $1.batch.bytes.count } } }

    /// Bytes on disk, about.
    package var byteCount: Int { state.withLock { $0.closedBytes + $0.end } }

    /// The end of the oldest segments that have to go so that at most `byteCount` are left; nothing if none has to.
    package func position(leaving byteCount: Int) -> Position? {
        state.withLock { state in
            var left = state.closedBytes + state.end
            guard left > byteCount else { return nil }
            for next in state.segments.dropFirst() {
                left -= segmentBytes
                if left <= byteCount { return next.head.position }
            }
            return state.segments.count > 1 ? state.segments[state.segments.count - 1].head.position : nil
        }
    }

    /// Bytes of the log after `position`, about: within a segment as if all its batches were of one size.
    package func byteCount(after position: Position) -> Int {
        state.withLock { state in
            guard position < state.newest.position else { return 0 }
            let index = state.segments.lastIndex { $0.head.position <= position } ?? 0
            let isLast = index + 1 == state.segments.count
            let start = state.segments[index].head.position.sequence.number
            let end =
                isLast ? state.newest.position.sequence.number : state.segments[index + 1].head.position.sequence.number
            let after = max(start, position.sequence.number)
            // A position of another epoch may have any sequence number.
            let share = after < end ? Double(end - after) / Double(end - start) : 0
            let bytes = isLast ? state.end : segmentBytes
            let later = isLast ? 0 : (state.segments.count - index - 2) * segmentBytes + state.end
            return Int(share * Double(bytes)) + later
        }
    }

    /// The end of the oldest segments of which every batch is from before `time`; nothing if there is none.
    ///
    /// Reads one batch of each segment that goes, and of one more. Looks no further than a batch that is damaged: that is
    /// for those to tell who need it.
    package func position(before time: Timestamp) throws(JournalError) -> Position? {
        var found: Position?
        for head in state.withLock({ $0.segments.dropFirst().map(\.head.position) }) {
            guard var cursor = cursor(after: head), let first = try undamaged(&cursor),
                first.header.timeNanoseconds < time.nanoseconds
            else { break }
            found = head
        }
        return found
    }

    /// The next batch; nothing also if it is damaged, or was trimmed meanwhile.
    private func undamaged(_ cursor: inout Cursor) throws(JournalError) -> SealedBatch? {
        do throws(JournalError) {
            return try readNext(&cursor)
        } catch {
            guard case .damaged = error else { throw error }
            return nil
        }
    }

    /// The chain hash at `position`, or nothing if that is not a position of the kept log.
    ///
    /// Reads at most one segment.
    package func hash(at position: Position) throws(JournalError) -> ChainHash? {
        let now = flushed
        if position == now.position { return now.hash }
        guard var cursor = cursor(after: position) else { return nil }
        return try skip(&cursor, to: position) ? cursor.scan.receiver.hash : nil
    }

    /// Whether what was at `position` is in this log, up to its end. Not what another primary wrote there behind the fork. Of a
    /// trimmed log that is known for the epoch in which the kept one begins, and no for an earlier one.
    ///
    /// Reads at most one segment, and nothing for a position of the newest epoch.
    package func leads(through position: Position) throws(JournalError) -> Bool {
        let (oldest, newest) = (oldest, flushed.position)
        guard position > oldest else { return position.epoch == oldest.epoch || position == .zero }
        guard position <= newest else { return false }
        return position.epoch == newest.epoch ? true : try hash(at: position) != nil
    }

    // MARK: - appending

    /// Adds `batches`, of which the first must follow the newest; on disk only after `flush`.
    ///
    /// Throws `Receiver.Problem`'s reason as `.damaged` if one does not follow: nothing of it was written.
    package func append(_ batches: [SealedBatch]) throws(JournalError) {
        for batch in batches { try append(batch) }
    }

    /// `known`: the chain hash at `batch`, from the receiver that has taken it behind this log.
    package func append(_ batch: SealedBatch, known: ChainHash? = nil) throws(JournalError) {
        try state.withLock { (state) throws(JournalError) in
            guard !state.isSuspect else { throw .suspect }
            if state.end > segmentBytes { try closeSegment(&state) }
            var next = state.newest
            guard next.arrived(batch, known: known) == .append else {
                throw .damaged(
                    segment: directory, why: "batch \(batch.position) does not follow \(state.newest.position)")
            }
            let segment = state.segments[state.segments.count - 1]
            do throws(SystemError) {
                state.zeroed = try segment.write(batch.bytes, at: state.end, zeroedTo: state.zeroed)
            } catch {
                throw .system(error)
            }
            state.end += batch.bytes.count
            state.newest = next
            state.unflushed.append(Taken(batch: batch, receiver: next))
        }
    }

    /// The last segment is flushed, cut to its length, and a new one begun.
    private func closeSegment(_ state: inout State) throws(JournalError) {
        do throws(SystemError) {
            let last = state.segments[state.segments.count - 1]
            try last.cut(at: state.end)
            let head = SegmentHead(after: state.newest.position, hash: state.newest.hash)
            state.segments.append(try SegmentFile.create(in: directory, head: head))
            state.closedBytes += state.end
            state.end = SegmentHead.byteCount
            state.zeroed = state.end
        } catch {
            if error.call == "fsync" { state.isSuspect = true }
            throw .system(error)
        }
    }

    /// On return everything appended is on disk (one fdatasync), and readers see it.
    package func flush() throws(JournalError) {
        let (segment, goal) = try state.withLock { (state) throws(JournalError) in
            guard !state.isSuspect else { throw .suspect }
            return (state.segments[state.segments.count - 1], state.newest)
        }
        do throws(SystemError) {
            try segment.flush()
        } catch {
            // What a failed flush left on disk nobody knows, and a second one may lie.
            state.withLock { $0.isSuspect = true }
            throw .system(error)
        }
        state.withLock { state in
            state.flushed = goal
            let flushedCount = state.unflushed.prefix { $0.batch.position <= goal.position }.count
            for taken in state.unflushed.prefix(flushedCount) {
                state.recent.append(taken)
                state.recentBytes += taken.batch.bytes.count
            }
            state.unflushed.removeFirst(flushedCount)
            while state.recentBytes > Self.recentBytesMax, state.recent.count > 1 {
                state.recentBytes -= state.recent.removeFirst().batch.bytes.count
            }
        }
    }

    // MARK: - trimming

    /// Drops the segments that hold nothing after `position`; the last one stays. After a crash the oldest of them may
    /// be there still, but never with one missing behind it.
    package func trim(through position: Position) throws(JournalError) {
        let dropped = state.withLock { state -> [SegmentFile] in
            var count = 0
            while count + 1 < state.segments.count, state.segments[count + 1].head.position <= position { count += 1 }
            let dropped = Array(state.segments.prefix(count))
            state.segments.removeFirst(count)
            for segment in dropped { state.closedBytes -= (try? segment.byteCount()) ?? 0 }  // a figure for status only
            return dropped
        }
        try Self.system { () throws(SystemError) in
            let files = try Directory(directory)
            for segment in dropped {
                try files.unlink(Array(segment.path.split(separator: "/").last!.utf8))
                try files.flushDirectory()
            }
        }
    }

    // MARK: - reading

    /// A reader's place in the log.
    package struct Cursor: Sendable {
        fileprivate var scan: SegmentScan
        /// Names the segment.
        fileprivate let headPosition: Position
        /// The last batch read.
        package var position: Position { scan.receiver.position }
    }

    /// Where the batch after `position` is, or nothing if the log after `position` is not kept.
    ///
    /// A position that is not in the log, but within its numbers, is found out by `read`.
    package func cursor(after position: Position) -> Cursor? {
        state.withLock { state in
            guard
                let index = state.segments.lastIndex(where: { $0.head.position.sequence <= position.sequence }),
                position.sequence <= state.newest.position.sequence
            else { return nil }
            let head = state.segments[index].head
            return Cursor(scan: SegmentScan(head: head), headPosition: head.position)
        }
    }

    /// Moves `cursor` on to `position`; false if the log does not have it.
    package func skip(_ cursor: inout Cursor, to position: Position) throws(JournalError) -> Bool {
        while cursor.position.sequence < position.sequence {
            guard try readNext(&cursor) != nil else { return false }
        }
        return cursor.position == position
    }

    /// The batches after `cursor`, as many as are flushed and come to about `byteCountMax`; moves the cursor.
    ///
    /// Empty at the end of the log. Throws `.damaged` when the log cannot be read on, `trimmed` readers included.
    package func read(_ cursor: inout Cursor, byteCountMax: Int) throws(JournalError) -> [SealedBatch] {
        var batches: [SealedBatch] = []
        var byteCount = 0
        while byteCount < byteCountMax, let batch = try readNext(&cursor) {
            byteCount += batch.bytes.count
            batches.append(batch)
        }
        return batches
    }

    private func readNext(_ cursor: inout Cursor) throws(JournalError) -> SealedBatch? {
        while true {
            let position = cursor.position
            let place = state.withLock { state -> (segment: SegmentFile, next: SegmentFile?, recent: Taken?)? in
                guard position.sequence < state.flushed.position.sequence else { return nil }
                guard let index = state.segments.firstIndex(where: { $0.head.position == cursor.headPosition }) else {
                    // Trimmed, which it may be while the cursor stands at its end: then the log goes on in the next.
                    return (state.segments[0], state.segments.first { $0.head.position == position }, nil)
                }
                let next = index + 1 < state.segments.count ? state.segments[index + 1] : nil
                let first = state.recent.first?.batch.position.sequence.number ?? .max
                let wanted = position.sequence.number + 1
                let recent = wanted >= first ? state.recent[Int(wanted - first)] : nil
                return (state.segments[index], next, recent)
            }
            guard let place else { return nil }
            if let next = place.next, next.head.position == position {
                cursor = Cursor(scan: SegmentScan(head: next.head), headPosition: next.head.position)
                continue
            }
            guard place.segment.head.position == cursor.headPosition else {
                throw .damaged(segment: directory, why: "the log after \(position) was trimmed")
            }
            if let recent = place.recent {
                cursor.scan.take(recent.batch, recent.receiver)
                return recent.batch
            }
            let found = try Self.system { () throws(SystemError) in try cursor.scan.next(place.segment.read(at:count:))
            }
            switch found {
            case .batch(let batch): return batch
            case .end: throw .damaged(segment: place.segment.path, why: "ends after \(position), before the log does")
            case .torn(let why):
                throw .damaged(segment: place.segment.path, why: "offset \(cursor.scan.offset): \(why)")
            }
        }
    }
}

package import Digests
package import Formats
package import Linux

/// Follows the hash chain over all segments that are kept, for who trusts nothing: reads every byte, believes no name
/// and no length, and changes nothing. A daemon may be appending and trimming meanwhile.
///
/// Each batch must have its checksum, follow the one before it by number and link, and each segment must begin where the
/// one before it ends. Behind the last batch of the last segment may be zeros, or a write that was not finished.
package struct ChainCheck {
    package private(set) var report = Report()
    /// Positions whose hash is wanted.
    private let marks: Set<Position>

    package struct Report: Equatable, Sendable {
        package var segmentCount = 0
        package var batchCount = 0
        package var byteCount = 0
        /// Before the first batch that is kept.
        package var first: Mark?
        /// At the last one.
        package var last: Mark?
        /// Of those asked for that are in the log.
        package var marks: [Mark] = []
        /// Of a write at the end of the log that was not finished.
        package var unfinished: String?
        /// Where the chain breaks; nothing behind it was looked at.
        package var broken: Break?
    }

    package struct Mark: Equatable, Sendable {
        package let position: Position
        package let hash: ChainHash

        package init(position: Position, hash: ChainHash) {
            self.position = position
            self.hash = hash
        }
    }

    package struct Break: Equatable, Sendable {
        package let segment: String
        package let offset: Int
        package let why: String
    }

    package init(marks: Set<Position> = []) { self.marks = marks }

    /// All of the journal in `directory`.
    package mutating func run(directory: String) throws(SystemError) {
        var done: String?
        while report.broken == nil {
            let names = try Journal.segmentNames(in: directory)
            guard let name = names.first(where: { $0 > done ?? "" }) else { return }
            try run(segment: directory + "/" + name, mayVanish: .yes) { () throws(SystemError) in
                // One that has a successor is whole; a last one may become such while it is read.
                try Journal.segmentNames(in: directory).contains { $0 > name }
            }
            done = name
        }
    }

    /// Segments in the order of the log; the last of them is the end of the log.
    package mutating func run(segments: [String]) throws(SystemError) {
        for (index, path) in segments.enumerated() where report.broken == nil {
            try run(segment: path, mayVanish: .no) { () throws(SystemError) in index < segments.count - 1 }
        }
    }

    private mutating func run(
        segment path: String, mayVanish: Vanishing, isClosed: () throws(SystemError) -> Bool
    ) throws(SystemError) {
        let file: Descriptor
        do throws(SystemError) { file = try Descriptor.open(path, for: .reading) } catch {
            guard error.errno == .noEntry, mayVanish == .yes else { throw error }
            // Trimmed since the names were read, and all before it: what is kept begins later.
            report = Report()
            return
        }
        let head: SegmentHead
        do throws(MalformedBytes) {
            head = try SegmentHead(decoding: try Self.head(file))
        } catch {
            return fail(path, error.offset, "\(error)")
        }
        let mark = Mark(position: head.position, hash: head.hash)
        if let last = report.last, last != mark {
            return fail(
                path, 0,
                "begins after \(head.position), hash \(head.hash); the one before ends at \(last.position), hash \(last.hash)"
            )
        }
        if report.first == nil {
            report.first = mark
            take(mark)
        }
        report.last = mark
        report.segmentCount += 1
        var scan = SegmentScan(head: head)
        var wasClosed = false
        while true {
            let found = try follow(&scan, file)
            // Asked after the reading, and read once more if so: nothing is appended to a closed one.
            if !wasClosed, try isClosed() {
                wasClosed = true
                continue
            }
            try finish(scan, file, path, found, isClosed: wasClosed ? .closed : .open)
            return
        }
    }

    private enum Standing { case open, closed }

    /// Whether a daemon may trim the log meanwhile.
    private enum Vanishing { case yes, no }

    private static func head(_ file: borrowing Descriptor) throws(MalformedBytes) -> [UInt8] {
        do throws(SystemError) { return try file.read(at: 0, count: SegmentHead.byteCount) } catch {
            throw MalformedBytes("segment", at: 0, "\(error)")
        }
    }

    /// On to where no batch follows; says what is there if it is not zeros.
    private mutating func follow(
        _ scan: inout SegmentScan, _ file: borrowing Descriptor
    ) throws(SystemError) -> String? {
        while true {
            let start = scan.offset
            switch try next(&scan, file) {
            case .batch:
                report.batchCount += 1
                report.byteCount += scan.offset - start
                let mark = Mark(position: scan.receiver.position, hash: scan.receiver.hash)
                report.last = mark
                take(mark)
            case .end: return nil
            case .torn(let why): return why
            }
        }
    }

    private func next(_ scan: inout SegmentScan, _ file: borrowing Descriptor) throws(SystemError) -> SegmentScan.Found
    {
        try scan.next { (at, count) throws(SystemError) in try file.read(at: Int64(at), count: count) }
    }

    private mutating func take(_ mark: Mark) {
        if marks.contains(mark.position) { report.marks.append(mark) }
    }

    private mutating func finish(
        _ scan: SegmentScan, _ file: borrowing Descriptor, _ path: String, _ found: String?, isClosed standing: Standing
    ) throws(SystemError) {
        let what = found ?? "zeros where a batch should be"
        let tail = try SegmentTail.behind(scan) { (at, count) throws(SystemError) in
            try file.read(at: Int64(at), count: count)
        }
        if case .damaged(let later, let offset) = tail {
            return fail(path, scan.offset, "\(what); batch \(later) at offset \(offset) is whole, so this is damage")
        }
        guard standing == .closed else {
            report.unfinished = found
            return
        }
        if let found { return fail(path, scan.offset, found) }
    }

    private mutating func fail(_ segment: String, _ offset: Int, _ why: String) {
        report.broken = Break(segment: segment, offset: offset, why: why)
    }
}

import Digests
import Formats
import Linux

/// A mailbox's files as they were at one moment, when nobody wrote them.
///
/// Small ones are in memory. Cache files are only ever added to and replaced by name, so an open one goes on saying what
/// it said; a large index does not, and `isCurrent` must be asked after it was read.
final class MailboxView {
    /// Nothing if there is no cyrus.header; the same for the others.
    let headerBytes: [UInt8]?
    let header: MailboxHeader?
    let headerProblem: String?
    let index: IndexFile?
    let indexProblem: String?
    let annotations: [UInt8]?
    let cache: CacheFile?
    /// Nothing also if archived messages have no cache of their own.
    let archiveCache: CacheFile?

    /// Of annotations: every value of a message is there.
    private static let annotationBytesMax = 1 << 30

    /// Nothing while cyrus.annotations is being written.
    init?(_ place: MailboxPlace, _ roots: StoreRoots, index reading: IndexFile.Reading) throws(SystemError) {
        let layout = roots.layout
        if let path = place.file(.annotations, layout), try roots.status(of: path) != nil {
            guard let file = try roots.openLocked(path, .whole) else { return nil }
            annotations = try file.file.readAll(max: Self.annotationBytesMax)
        } else {
            annotations = nil
        }
        headerBytes = try Self.headerBytes(place, roots)
        (header, headerProblem) = Self.decoded(headerBytes)
        (index, indexProblem) = try Self.index(place, roots, reading)
        let (main, archive) = (place.file(.cache, layout), place.file(.archiveCache, layout))
        cache = try Self.cache(main, roots)
        archiveCache = archive == main ? nil : try Self.cache(archive, roots)
    }

    static func headerBytes(_ place: MailboxPlace, _ roots: StoreRoots) throws(SystemError) -> [UInt8]? {
        guard let path = place.file(.header, roots.layout), let file = try roots.openIfThere(path) else { return nil }
        return try file.readAll(max: 1 << 20)
    }

    static func decoded(_ bytes: [UInt8]?) -> (MailboxHeader?, String?) {
        guard let bytes else { return (nil, nil) }
        do throws(MalformedBytes) { return (try MailboxHeader(decoding: bytes), nil) } catch {
            return (nil, "\(error)")
        }
    }

    static func index(
        _ place: MailboxPlace, _ roots: StoreRoots, _ reading: IndexFile.Reading
    ) throws(SystemError) -> (IndexFile?, String?) {
        guard let path = place.file(.index, roots.layout), let file = try roots.openIfThere(path) else {
            return (nil, nil)
        }
        let head = try file.read(at: 0, count: IndexHeader.byteCountMax)
        let header: IndexHeader
        do throws(MalformedBytes) { header = try IndexHeader(decoding: head) } catch { return (nil, "\(error)") }
        return (try IndexFile(file, header: header, head: head, reading), nil)
    }

    private static func cache(_ path: StorePath?, _ roots: StoreRoots) throws(SystemError) -> CacheFile? {
        guard let path, let file = try roots.openIfThere(path) else { return nil }
        return try CacheFile(file, path)
    }

    /// Whether the index still is what it was when it was opened; to be asked when nobody writes.
    func isCurrent(_ place: MailboxPlace, _ roots: StoreRoots) throws(SystemError) -> Bool {
        guard let index, let path = place.file(.index, roots.layout) else { return true }
        return try index.isCurrent(as: roots.status(of: path))
    }
}

extension StoreRoots {
    /// Nothing if there is no such file.
    func openIfThere(_ path: StorePath) throws(SystemError) -> Descriptor? {
        do throws(SystemError) { return try open(path) } catch {
            guard error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return nil
        }
    }
}

/// A cyrus.index that is read piece by piece, or was read at once.
final class IndexFile {
    let header: IndexHeader
    private let head: [UInt8]
    private let file: Descriptor
    private let status: FileStatus
    /// The whole file, if it was small or had to be.
    private let memory: IndexImage?

    enum Reading {
        /// In memory if it has no more bytes than that.
        case inMemory(upTo: Int)

        /// Some ten thousand messages: read in less than a millisecond.
        static let whenSmall = Reading.inMemory(upTo: 4 << 20)
        static let nearlyAlways = Reading.inMemory(upTo: 512 << 20)
        static let never = Reading.inMemory(upTo: 0)
    }

    private static let pieceRecordCount = 4096

    init(
        _ file: consuming Descriptor, header: IndexHeader, head: [UInt8], _ reading: Reading
    ) throws(SystemError) {
        self.header = header
        self.head = Array(head.prefix(header.startOffset))
        status = try file.status()
        memory =
            switch reading {
            case .inMemory(let byteCountMax) where status.byteCount <= byteCountMax:
                // A header that could be read is one of an image too, unless the file shrank: then it is read in pieces.
                try Self.image(file.read(at: 0, count: min(header.indexByteCount, Int(status.byteCount))))
            default: nil
            }
        self.file = file
    }

    private static func image(_ bytes: [UInt8]) -> IndexImage? {
        try? IndexImage(bytes)  // that it has a header was seen before
    }

    var isInMemory: Bool { memory != nil }

    /// Every record that is wholly there, in order.
    func forEachRecord(
        _ body: (IndexRecord) throws(SystemError) -> Void, afterPiece: (Int) -> Void = { _ in }
    ) throws(SystemError) {
        if let memory {
            for record in memory.records { try body(record) }
            return afterPiece(memory.bytes.count)
        }
        var number = 0
        while let piece = try piece(from: number, count: Self.pieceRecordCount), piece.recordCount > 0 {
            for record in piece.records { try body(record) }
            number += piece.recordCount
            afterPiece(piece.bytes.count)
        }
    }

    /// Nothing if it is not wholly there.
    func record(at number: Int) throws(SystemError) -> IndexRecord? {
        if let memory { return number < memory.recordCount ? memory.record(at: number) : nil }
        guard let piece = try piece(from: number, count: 1), piece.recordCount > 0 else { return nil }
        return piece.record(at: 0)
    }

    /// By halving.
    func record(uid: UInt32) throws(SystemError) -> IndexRecord? {
        if let memory { return memory.record(uid: uid) }
        var (low, high) = (0, header.recordCount)
        while low < high {
            let middle = (low + high) / 2
            guard let found = try record(at: middle)?.uid, found < uid else {
                high = middle
                continue
            }
            low = middle + 1
        }
        guard let record = try record(at: low), record.uid == uid else { return nil }
        return record
    }

    /// An index of its own, with the header in front of some records.
    private func piece(from number: Int, count: Int) throws(SystemError) -> IndexImage? {
        let count = min(count, header.recordCount - number)
        guard count > 0 else { return nil }
        let offset = header.startOffset + number * header.recordByteCount
        let bytes = try file.read(at: Int64(offset), count: count * header.recordByteCount)
        return Self.image(head + bytes)
    }

    /// Whether a file of that status, under the same name, has the same content: every change of Cyrus's rewrites the
    /// header, with a higher modseq or a new time.
    func isCurrent(as now: FileStatus?) throws(SystemError) -> Bool {
        guard let now, now.device == status.device, now.inode == status.inode, now.byteCount == status.byteCount,
            now.ctimeNanoseconds == status.ctimeNanoseconds
        else { return false }
        return try file.read(at: 0, count: head.count) == head
    }
}

/// A cyrus.cache, of which pieces are read as they are asked for.
final class CacheFile {
    let path: StorePath
    let byteCount: Int
    private let file: Descriptor
    private var window: [UInt8] = []
    private var windowOffset = 0

    private static let windowBytes = 256 << 10

    init(_ file: consuming Descriptor, _ path: StorePath) throws(SystemError) {
        self.path = path
        byteCount = Int(try file.status().byteCount)
        self.file = file
    }

    /// That of the index it belongs to; nothing for an empty file.
    func generation() throws(SystemError) -> UInt32? {
        CacheRecord.generation(of: try file.read(at: 0, count: CacheRecord.fileHeaderByteCount)[...])
    }

    func verdict(on record: IndexRecord) throws(SystemError) -> CacheVerdict {
        guard record.cacheOffset != 0 else { return .none }
        guard let range = try range(at: record.cacheOffset) else { return .missing }
        guard record.cacheCRC != 0 else { return .unchecked(range) }
        return try checksum(of: range) == record.cacheCRC ? .sound(range) : .wrongCRC(range)
    }

    /// As `CacheRecord.range`, of a file that is not in memory.
    private func range(at offset: Int) throws(SystemError) -> Range<Int>? {
        guard offset >= CacheRecord.fileHeaderByteCount else { return nil }
        var end = offset
        for _ in 0..<CacheRecord.itemCount {
            guard end + 4 <= byteCount else { return nil }
            let bytes = try bytes(end..<end + 4)
            guard bytes.count == 4 else { return nil }
            let itemByteCount = bytes.reduce(0) { $0 << 8 | Int($1) }
            end += 4 + (itemByteCount + 3) & ~3
            guard end <= byteCount else { return nil }
        }
        return offset..<end
    }

    private func checksum(of range: Range<Int>) throws(SystemError) -> UInt32 {
        var sum: UInt32 = 0
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.windowBytes) {
            let piece = try bytes(start..<min(start + Self.windowBytes, range.upperBound))
            sum = piece.withUnsafeBytes { crc32($0, continuing: sum) }
        }
        return sum
    }

    /// At most a window full.
    private func bytes(_ range: Range<Int>) throws(SystemError) -> ArraySlice<UInt8> {
        if range.lowerBound < windowOffset || range.upperBound > windowOffset + window.count {
            window = try file.read(at: Int64(range.lowerBound), count: Self.windowBytes)
            windowOffset = range.lowerBound
        }
        let start = range.lowerBound - windowOffset
        return window[start..<min(start + range.count, window.count)]
    }
}

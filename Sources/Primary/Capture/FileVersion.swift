import Delta
import Digests
import Formats
import Linux

/// A file as it was read, once, while nobody wrote it: the table of its pages, and of the bytes as many as are needed.
struct FileVersion: Sendable {
    let status: FileStatus
    let attributes: [ExtendedAttribute]
    let table: PageTable
    private(set) var content: Content

    enum Content: Sendable {
        case whole([UInt8])
        /// The pages that the version last shipped does not have, by number; all others are as they were there.
        case changedPages([Int: [UInt8]])
        /// A content too large to be held, copied into a file of our own.
        case copied(OwnFile)
    }

    /// Larger contents are not held in memory unless little of them changed.
    static let wholeBytesMax = 8 << 20
    private static let pieceBytes = 256 << 10
    /// When more than this changed, the pages are not worth picking out.
    private static let changedBytesMax = 2 << 20

    /// Reads `file` of `status`, which must not change meanwhile (a lock, or a file that is only ever replaced).
    ///
    /// `old` is the table of the version last shipped, if there is one. `appendOnly`: bytes that `old` covers are known
    /// not to change, as of cyrus.cache (imap/mailbox.c, mailbox_append_cache), and are not read again.
    init(
        reading file: borrowing Descriptor, _ status: FileStatus, old: PageTable?, appendOnly: Bool = false,
        copyingTo spare: OwnFiles
    ) throws(SystemError) {
        self.status = status
        attributes = try file.extendedAttributes()
        let byteCount = Int(status.byteCount)
        if let old, let (table, pages) = try Self.changedPages(of: file, byteCount, since: old, appendOnly: appendOnly)
        {
            self.table = table
            content = .changedPages(pages)
        } else if byteCount <= Self.wholeBytesMax {
            let bytes = try file.read(at: 0, count: byteCount)
            guard bytes.count == byteCount else { throw Self.changedWhileRead(file.path) }
            table = PageTable(of: bytes)
            content = .whole(bytes)
        } else {
            let copy = try spare.make()
            var table = PageTable()
            var offset: Int64 = 0
            try file.readPieces(of: Self.pieceBytes) { (piece) throws(SystemError) in
                table.append(piece)
                try copy.file.write(piece, at: offset)
                offset += Int64(piece.count)
            }
            guard table.byteCount == byteCount else { throw Self.changedWhileRead(file.path) }
            self.table = table
            content = .copied(copy)
        }
    }

    private static func changedWhileRead(_ path: String) -> SystemError {
        SystemError(call: "read", path: path, errno: .busy)
    }

    /// A cache that was made anew may have got the number of an inode that is free; its generation, in the first bytes, is another
    /// (imap/mailbox.c, mailbox_repack_setup).
    private static func isOfOneBeginning(
        _ file: borrowing Descriptor, _ old: PageTable
    ) throws(SystemError) -> Bool {
        guard old.byteCount >= PageTable.pageBytes else { return true }
        let first = PageTable(of: try file.read(at: 0, count: PageTable.pageBytes))
        return first.leaves.first == old.leaves.first
    }

    /// Nothing if too much changed to be picked out.
    private static func changedPages(
        of file: borrowing Descriptor, _ byteCount: Int, since old: PageTable, appendOnly: Bool
    ) throws(SystemError) -> (PageTable, [Int: [UInt8]])? {
        guard old.byteCount > 0, byteCount - old.byteCount <= changedBytesMax else { return nil }
        var table = PageTable()
        var offset = 0
        if appendOnly, byteCount >= old.byteCount, try isOfOneBeginning(file, old) {
            offset = old.byteCount / PageTable.pageBytes * PageTable.pageBytes
            table = old
            table.keepWholePages()
        }
        var pages: [Int: [UInt8]] = [:]
        var changedBytes = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(0, min(pieceBytes, byteCount - offset)), alignment: 64)
        defer { buffer.deallocate() }
        while offset < byteCount {
            let wanted = min(buffer.count, byteCount - offset)
            let count = try file.read(into: .init(rebasing: buffer[..<wanted]), at: Int64(offset))
            if count == 0 { break }
            let first = table.leaves.count
            let piece = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            table.append(piece)
            for page in first..<table.leaves.count
            where page >= old.leaves.count || table.leaves[page] != old.leaves[page] {
                let start = (page - first) * PageTable.pageBytes
                pages[page] = Array(piece[start..<min(start + PageTable.pageBytes, count)])
                changedBytes += PageTable.pageBytes
            }
            guard changedBytes <= changedBytesMax else { return nil }
            offset += count
            // Cut while it was read: what would follow now is of another version.
            if count < wanted { break }
        }
        guard table.byteCount == byteCount else { throw changedWhileRead(file.path) }
        return (table, pages)
    }

    /// The same, without what `old` has as well, if little changed: rounds hold what they read.
    func reduced(since old: PageTable?) -> FileVersion {
        guard case .whole(let bytes) = content, let old, old.byteCount > 0 else { return self }
        let changed = table.changedPages(against: old)
        guard changed.count * PageTable.pageBytes <= min(bytes.count / 2, Self.changedBytesMax) else { return self }
        var version = self
        version.content = .changedPages(
            Dictionary(
                uniqueKeysWithValues: changed.map { page in
                    let start = page * PageTable.pageBytes
                    return (page, Array(bytes[start..<min(start + PageTable.pageBytes, bytes.count)]))
                }))
        return version
    }

    /// The bytes of `range`; pages that did not change come from `shadow`.
    func bytes(
        _ range: Range<Int>, unchanged shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> [UInt8] {
        switch content {
        case .whole(let bytes):
            return Array(bytes[range])
        case .copied(let copy):
            return try copy.file.read(at: Int64(range.lowerBound), count: range.count)
        case .changedPages(let pages):
            var result: [UInt8] = []
            result.reserveCapacity(range.count)
            var at = range.lowerBound
            while at < range.upperBound {
                let page = at / PageTable.pageBytes
                let start = page * PageTable.pageBytes
                let end = min(start + PageTable.pageBytes, range.upperBound)
                if let bytes = pages[page] {
                    result.append(contentsOf: bytes[(at - start)..<(end - start)])
                } else {
                    result.append(contentsOf: try shadow(at..<end))
                }
                at = end
            }
            return result
        }
    }
}

/// Files of our own for contents too large for memory; gone with their last user.
final class OwnFiles: Sendable {
    private let directory: String

    /// `directory` is emptied: what is in it was left by a process that died.
    init(_ directory: String) throws(SystemError) {
        self.directory = directory
        let files = try Directory.make(directory)
        for entry in try files.entries() { try files.unlink(entry.name) }
    }

    func make() throws(SystemError) -> OwnFile {
        let name = Entropy.bytes(8).map { String($0, radix: 16) }.joined()
        let file = try Descriptor.open(directory + "/" + name, for: .creatingNew)
        // Unlinked at once: it lives as long as it is open.
        try Directory(directory).unlink(Array(name.utf8))
        return OwnFile(file)
    }
}

final class OwnFile: Sendable {
    let file: Descriptor

    init(_ file: consuming Descriptor) { self.file = file }
}

internal import Digests
internal import Formats
internal import Linux

/// A segment on disk, open. One thread appends; any thread reads what is behind `end`.
final class SegmentFile: Sendable {
    let path: String
    let head: SegmentHead
    private let file: Descriptor

    /// Zeros written ahead of the end at a time.
    private static let aheadBytes = 1 << 20

    /// A new, empty one; on disk when this returns, its name too. A crash leaves either none or all of it.
    static func create(in directory: String, head: SegmentHead) throws(SystemError) -> SegmentFile {
        let name = name(after: head.position)
        try AtomicFile.replace(directory: directory, name: name, bytes: head.encoded(), mode: 0o600)
        let path = directory + "/" + name
        return SegmentFile(path: path, head: head, file: try Descriptor.open(path, for: .updating))
    }

    /// An old one; throws `JournalError.damaged` if its head is not one.
    static func open(_ path: String) throws(JournalError) -> SegmentFile {
        do {
            let file = try Descriptor.open(path, for: .updating)
            let head = try SegmentHead(decoding: try file.read(at: 0, count: SegmentHead.byteCount))
            return SegmentFile(path: path, head: head, file: file)
        } catch let error as MalformedBytes {
            throw .damaged(segment: path, why: error.description)
        } catch let error as SystemError {
            throw .system(error)
        } catch {
            preconditionFailure("no other error is thrown here: \(error)")
        }
    }

    private init(path: String, head: SegmentHead, file: consuming Descriptor) {
        self.path = path
        self.head = head
        self.file = file
    }

    /// By sequence number, so that names sort as the log goes.
    static func name(after position: Position) -> String { hexadecimal(position.sequence.number) + ".journal" }

    func read(at offset: Int, count: Int) throws(SystemError) -> [UInt8] {
        try file.read(at: Int64(offset), count: count)
    }

    /// Writes `bytes` at `end`; returns where zeros written ahead end now.
    func write(_ bytes: [UInt8], at end: Int, zeroedTo zeroed: Int) throws(SystemError) -> Int {
        try file.write(bytes, at: Int64(end))
        guard end + bytes.count > zeroed else { return zeroed }
        try file.write([UInt8](repeating: 0, count: Self.aheadBytes), at: Int64(end + bytes.count))
        return end + bytes.count + Self.aheadBytes
    }

    /// Writes what is before `end` once more, from what the kernel has in memory.
    ///
    /// After a flush that failed the kernel holds pages that it believes written and that are not on disk: another flush
    /// would say that all is well, and only a new write makes it try again.
    func writeAgain(through end: Int) throws(SystemError) {
        var offset = 0
        while offset < end {
            let piece = try file.read(at: Int64(offset), count: min(Self.aheadBytes, end - offset))
            guard !piece.isEmpty else { return }
            try file.write(piece, at: Int64(offset))
            offset += piece.count
        }
    }

    /// One fdatasync.
    func flush() throws(SystemError) { try file.flushData() }

    /// Cuts what is behind `end`, on disk when this returns.
    func cut(at end: Int) throws(SystemError) {
        try file.truncate(to: Int64(end))
        try file.flush()
    }

    func byteCount() throws(SystemError) -> Int { Int(try file.status().byteCount) }
}

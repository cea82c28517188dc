import Digests
import Formats
import Linux
import ReplicationLog

/// Where a journal begins that has no segment yet: `log-start` in the state directory.
struct JournalStart {
    let position: Position
    let hash: ChainHash

    private static let fileName = "log-start"

    init(position: Position, hash: ChainHash) {
        self.position = position
        self.hash = hash
    }

    /// At the beginning of everything if there is no such file.
    init(in directory: String) throws {
        let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 4096) ?? []
        let head = try? SegmentHead(decoding: bytes)  // damaged: no start, and the primary refuses what follows
        self.init(position: head?.position ?? .zero, hash: head?.hash ?? .zero)
    }

    /// The journal of a replica that has applied all up to `applied`.
    ///
    /// Where a crash cut off a jump, its old log is still there, and ends before what is applied: it is dropped, as it was about
    /// to be.
    static func openJournal(
        in state: String, applied: Position, segmentBytes: Int = Journal.segmentBytes
    ) throws -> Journal {
        let path = state + "/journal"
        _ = try Directory.make(path)
        let start = try JournalStart(in: state)
        func open() throws(JournalError) -> Journal {
            try Journal.open(in: path, orStartAfter: start.position, hash: start.hash, segmentBytes: segmentBytes)
        }
        let journal = try open()
        guard journal.flushed.position < applied, start.position == applied else { return journal }
        try dropJournal(in: state)
        return try open()
    }

    /// The log ends at `position`, on disk too, when this returns; it begins there as well. A crash before leaves it as it was.
    static func cutJournal(in state: String, after position: Position) throws {
        let journal = try openJournal(in: state, applied: position)
        guard let hash = try journal.hash(at: position) else {
            throw JournalError.damaged(segment: state + "/journal", why: "the log does not tell of \(position)")
        }
        try JournalStart(position: position, hash: hash).save(in: state)
        try dropJournal(in: state)
        _ = try openJournal(in: state, applied: position)
    }

    /// Its segments are gone, on disk too, when this returns; the newest first, so that what a crash leaves is a log.
    static func dropJournal(in state: String) throws(SystemError) {
        let path = state + "/journal"
        let directory = try Directory.make(path)
        for name in try Journal.segmentNames(in: path).reversed() { try directory.unlink(Array(name.utf8)) }
        try directory.flushDirectory()
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        try AtomicFile.replace(
            directory: directory, name: Self.fileName, bytes: SegmentHead(after: position, hash: hash).encoded())
    }
}

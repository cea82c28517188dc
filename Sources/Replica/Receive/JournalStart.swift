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

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        try AtomicFile.replace(
            directory: directory, name: Self.fileName, bytes: SegmentHead(after: position, hash: hash).encoded())
    }
}

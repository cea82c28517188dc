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
        do throws(SystemError) {
            let bytes = try Descriptor.open(directory + "/" + Self.fileName, for: .reading).readAll(max: 4096)
            let head = SegmentHead.self
            let decoded = try? head.init(decoding: bytes)  // damaged: no start, and the primary refuses what follows
            self.init(position: decoded?.position ?? .zero, hash: decoded?.hash ?? .zero)
        } catch {
            guard error.errno == .noEntry else { throw error }
            self.init(position: .zero, hash: .zero)
        }
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        try AtomicFile.replace(
            directory: directory, name: Self.fileName, bytes: SegmentHead(after: position, hash: hash).encoded())
    }
}

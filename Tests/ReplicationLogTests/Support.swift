import Digests
import Formats
import Glibc
import Linux
import ReplicationLog

/// A new directory that goes, with all in it, when the test lets go of it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/mailsync-log-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "mkdtemp: \(Glibc.errno)")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        // What can't be removed stays in /tmp; no test depends on it.
        guard let root = try? Directory(path) else { return }
        for entry in (try? root.entries()) ?? [] { try? root.unlink(entry.name) }
        rmdir(path)
    }

    func callAsFunction(_ name: String) -> String { path + "/" + name }

    func names() throws -> [String] {
        try Directory(path).entries().map { String(decoding: $0.name, as: UTF8.self) }.sorted()
    }

    func bytes(_ name: String) throws -> [UInt8] {
        try Descriptor.open(self(name), for: .reading).readAll(max: 1 << 30)
    }

    /// The file has exactly `bytes` then.
    func put(_ bytes: [UInt8], at name: String) throws {
        let file = try Descriptor.open(self(name), for: .updatingOrCreating)
        try file.truncate(to: 0)
        try file.write(bytes, at: 0)
    }

    func flip(bit: Int, at offset: Int, of name: String) throws {
        let file = try Descriptor.open(self(name), for: .updating)
        let byte = try file.read(at: Int64(offset), count: 1)[0]
        try file.write([byte ^ (1 << UInt8(bit))], at: Int64(offset))
    }
}

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

func position(_ epoch: UInt32, _ sequence: UInt64) -> Position {
    Position(epoch: Epoch(epoch), sequence: SequenceNumber(sequence))
}

/// Seals batches one after the other, as a primary does.
struct BatchChain {
    private(set) var position: Position
    private(set) var hash: ChainHash

    init(after position: Position = .zero, hash: ChainHash = .zero) {
        self.position = position
        self.hash = hash
    }

    /// The next one; `epoch` is another after a promotion.
    mutating func next(
        _ payload: [UInt8] = utf8("payload"), epoch: UInt32? = nil, kind: BatchHeader.Kind = .log
    ) -> SealedBatch {
        let at = Position(epoch: epoch.map(Epoch.init) ?? position.epoch, sequence: position.sequence.next)
        let batch = SealedBatch.seal(
            payload: payload, rawBytes: payload.count, recordCount: 0, at: at, after: hash,
            timeNanoseconds: Int64(at.sequence.number), kind: kind)
        position = at
        hash = batch.chainHash(after: hash)
        return batch
    }

    mutating func next(_ count: Int, byteCount: Int = 100) -> [SealedBatch] {
        (0..<count).map { _ in
            next([UInt8](repeating: UInt8(truncatingIfNeeded: position.sequence.number), count: byteCount))
        }
    }
}

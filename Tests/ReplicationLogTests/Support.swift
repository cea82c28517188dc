import Digests
import Formats
import Linux
import ReplicationLog
import Scratch

extension TemporaryDirectory {
    func names() throws -> [String] {
        try Directory(path).entries().map { String(decoding: $0.name, as: UTF8.self) }.sorted()
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

import Delta
import Digests
import Formats
import Linux

/// Gathers records until they are a batch.
struct BatchWriter {
    private var writer: ByteWriter
    private var recordCount = 0
    var bytesMax: Int

    /// `expected`: so many bytes are about to come.
    init(bytesMax: Int, expected: Int = 0) {
        self.bytesMax = bytesMax
        writer = ByteWriter(reserving: expected)
    }

    var isEmpty: Bool { recordCount == 0 }
    /// Time to seal: one more record still fits, whatever it is.
    var isFull: Bool { writer.count >= bytesMax || recordCount >= BatchHeader.recordCountMax / 2 }
    var isHalfFull: Bool { writer.count >= bytesMax / 2 }

    mutating func add(_ record: Record) {
        record.encode(into: &writer)
        recordCount += 1
    }

    /// Compressed, if that makes it smaller.
    func seal(
        at position: Position, after previous: ChainHash, time: Timestamp, kind: BatchHeader.Kind = .log
    ) throws(DeltaError) -> SealedBatch {
        let raw = writer.bytes
        let payload = try Compression.compress(raw) ?? raw
        return SealedBatch.seal(
            payload: payload, rawBytes: raw.count, recordCount: recordCount, at: position, after: previous,
            timeNanoseconds: time.nanoseconds, kind: kind)
    }
}

import Digests
import Formats
import Seeded
import Testing

@Suite struct BatchTests {
    private var records: [Record] {
        WireFixture.records.filter { $0.name == "metadata" || $0.name == "remove" }.map(\.record)
    }

    private var sealed: SealedBatch {
        let payload = records.flatMap(\.encoded)
        return SealedBatch.seal(
            payload: payload, rawBytes: payload.count, recordCount: 2, at: position(3, 4211),
            after: WireFixture.previous, timeNanoseconds: WireFixture.mtime)
    }

    @Test func `a sealed batch is, byte for byte, what its fixture says`() throws {
        let bytes = try WireFixture.bytes("batch")
        #expect(sealed.bytes == bytes)
        let batch = try SealedBatch(checking: bytes)
        #expect(batch == sealed)
        #expect(batch.position == position(3, 4211))
        #expect(batch.header.timeNanoseconds == WireFixture.mtime)
        #expect(batch.header.recordCount == 2)
        #expect(batch.header.kind == .log)
        #expect(!batch.header.isCompressed)
        var reader = ByteReader(batch.payload)
        #expect([try Record(decoding: &reader), try Record(decoding: &reader)] == records)
        #expect(reader.isAtEnd)
    }

    @Test func `a compressed part of a seed is read as its fixture says`() throws {
        let batch = try SealedBatch(checking: try WireFixture.bytes("batch-compressed"))
        #expect(batch.position == position(3, 9))
        #expect(batch.header.kind == .seed)
        #expect(batch.header.isCompressed)
        #expect(batch.header.payloadBytes == 32)
        #expect(batch.header.rawBytes == 80)
        #expect(batch.follows(.zero))
        let again = SealedBatch.seal(
            payload: Array(batch.payload), rawBytes: 80, recordCount: 1, at: position(3, 9), after: .zero,
            timeNanoseconds: WireFixture.mtime, kind: .seed)
        #expect(again == batch)
    }

    @Test(arguments: ["batch", "batch-compressed"]) func `a flipped bit anywhere is refused`(_ name: String) throws {
        let bytes = try WireFixture.bytes(name)
        for offset in bytes.indices {
            for bit in 0..<8 {
                #expect(throws: MalformedBytes.self, "bit \(bit) at \(offset)") {
                    try SealedBatch(checking: bytes.flipping(bit: bit, at: offset))
                }
            }
        }
    }

    @Test func `a batch cut off anywhere, or with a byte too many, is refused`() throws {
        let bytes = try WireFixture.bytes("batch")
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self, "\(count) bytes") {
                try SealedBatch(checking: Array(bytes.prefix(count)))
            }
        }
        #expect(throws: MalformedBytes.self) { try SealedBatch(checking: bytes + [0]) }
    }

    @Test func `a batch of no records is one`() throws {
        let batch = SealedBatch.seal(
            payload: [], rawBytes: 0, recordCount: 0, at: position(1, 1), after: .zero, timeNanoseconds: -1)
        #expect(batch.bytes.count == BatchHeader.byteCount)
        #expect(try SealedBatch(checking: batch.bytes) == batch)
    }

    @Test func `mutated batches never trap`() throws {
        let seed: UInt64 = 0x5eed_0003
        var generator = SeededGenerator(seed: seed)
        let bytes = try WireFixture.bytes("batch")
        for round in 0..<10_000 {
            let mutated = bytes.mutated(using: &generator)
            guard mutated != bytes else { continue }
            #expect(throws: MalformedBytes.self, "seed \(seed), round \(round)") { try SealedBatch(checking: mutated) }
        }
    }

    @Test(
        arguments: [
            (24, UInt32(65 << 20), "allowed"),  // payload of more than the raw bytes
            (28, UInt32(64 << 20) + 1, "allowed"), (28, .max, "allowed"), (28, 0, "allowed"),
            (32, .max, "records in"), (36, 2, "unknown kind 2"), (0, 0x4d53_4232, "not a batch"),
        ])
    func `a head that no writer writes is refused before its lengths are used`(
        _ offset: Int, _ value: UInt32, _ why: String
    ) throws {
        var head = Array(try WireFixture.bytes("batch").prefix(BatchHeader.byteCount))
        head.put(value, at: offset)
        do throws(MalformedBytes) {
            _ = try BatchHeader(decoding: head)
            Issue.record("taken")
        } catch {
            #expect(error.description.contains(why))
        }
    }

    // MARK: - the chain

    @Test func `the chain hash is SHA-256 of the one before and all bytes`() throws {
        let batch = sealed
        #expect(batch.follows(WireFixture.previous))
        #expect(!batch.follows(.zero))
        #expect(batch.chainHash(after: WireFixture.previous) == ChainHash(of: WireFixture.previous.bytes + batch.bytes))
    }

    @Test func `the half of the hash that travels tells every other hash with another first half`() {
        for offset in 0..<16 {
            let other = ChainHash(bytes: WireFixture.previous.bytes.flipping(bit: 0, at: offset))
            #expect(!sealed.follows(other), "\(offset)")
        }
    }
}

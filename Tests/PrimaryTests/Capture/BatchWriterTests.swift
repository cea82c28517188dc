import Delta
import Digests
import Formats
import Foundation
import Linux
import Testing

@testable import Primary

@Suite struct BatchWriterTests {
    private let time = Timestamp(nanoseconds: 77)

    private func record(_ bytes: [UInt8]) -> Record {
        Record(
            StorePath(mail, "1."),
            .whole(Metadata(mode: 0o600, mtimeNanoseconds: 0), result: PageTable.digest(of: bytes), bytes: bytes))
    }

    @Test func `a batch of very many records is full, however small they are`() {
        var writer = BatchWriter(bytesMax: 64 << 20)
        let record = Record(StorePath(mail, "1."), .remove)
        for _ in 1..<BatchHeader.recordCountMax / 2 { writer.add(record) }
        #expect(!writer.isFull)
        writer.add(record)
        #expect(writer.isFull)
    }

    @Test func `what is full for some records takes more of others`() {
        var writer = BatchWriter(bytesMax: 5000)
        writer.add(record(content(2000)))
        #expect(!writer.isHalfFull)
        writer.add(record(content(1000)))
        #expect(writer.isHalfFull && !writer.isFull)
        writer.add(record(content(3000)))
        #expect(writer.isFull)
        writer.bytesMax = 50_000
        #expect(!writer.isFull && !writer.isHalfFull)
    }

    @Test(arguments: [true, false]) func `what goes in comes out, in order`(_ compressible: Bool) throws {
        let bytes = compressible ? [UInt8](repeating: 7, count: 5000) : content(5000)
        // Of more than one record the names alone would get smaller.
        let more = [record([]), Record(StorePath(mail, "2."), .remove)]
        let records = [record(bytes)] + (compressible ? more : [])
        var writer = BatchWriter(bytesMax: 1 << 20)
        #expect(writer.isEmpty)
        for record in records { writer.add(record) }
        #expect(!writer.isEmpty && !writer.isFull)
        let position = Position(epoch: Epoch(1), sequence: SequenceNumber(1))
        let batch = try writer.seal(at: position, after: .zero, time: time)
        #expect(batch.header.isCompressed == compressible)
        #expect(batch.header.recordCount == records.count)
        #expect(batch.header.timeNanoseconds == 77)
        #expect(batch.follows(.zero))
        #expect(try BatchReader.records(of: batch) == records)
    }

    @Test func `a compressed batch that was made without our code opens`() throws {
        let url = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../../Fixtures/wire/batch-compressed.hex")
        let text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let bytes = text.split(separator: "\n").flatMap { line in
            line.prefix { $0 != "#" }.split(separator: " ").map { UInt8($0, radix: 16)! }
        }
        let batch = try SealedBatch(checking: bytes)
        let path = StorePath(mail, String(repeating: "a", count: 60))
        #expect(try BatchReader.records(of: batch) == [Record(path, .remove)])
    }

    @Test func `it is full at its bound, and the record that filled it is in it`() throws {
        var writer = BatchWriter(bytesMax: 1000)
        writer.add(record(content(500)))
        #expect(!writer.isFull)
        writer.add(record(content(500)))
        #expect(writer.isFull)
    }
}

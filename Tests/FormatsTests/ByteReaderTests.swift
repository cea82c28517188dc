import Formats
import Testing

@Suite struct ByteReaderTests {
    @Test func `integers are big-endian`() throws {
        var reader = ByteReader([0x01, 0x02, 0x03, 0x80, 0, 0, 0, 0xff])
        #expect(try reader.read(UInt16.self, "a") == 0x0102)
        #expect(try reader.read(UInt8.self, "b") == 3)
        #expect(try reader.read(Int32.self, "c") == .min)
        #expect(reader.offset == 7)
        #expect(reader.remainingCount == 1)
        #expect(try reader.read(Int8.self, "d") == -1)
        #expect(reader.isAtEnd)
    }

    @Test func `a slice is read from its own start`() throws {
        let bytes: [UInt8] = [9, 9, 1, 2, 9]
        var reader = ByteReader(bytes[2..<4])
        #expect(try reader.read(UInt16.self, "a") == 0x0102)
        #expect(throws: MalformedBytes("b", at: 2, "1 bytes needed, 0 there")) { try reader.read(UInt8.self, "b") }
    }

    @Test(arguments: 0..<8) func `an integer cut off is refused and nothing is taken`(_ count: Int) {
        var reader = ByteReader([UInt8](repeating: 1, count: count))
        #expect(throws: MalformedBytes("x", at: 0, "8 bytes needed, \(count) there")) {
            try reader.read(UInt64.self, "x")
        }
        #expect(reader.offset == 0)
    }

    @Test(arguments: [0, 1, 127, 128, 300, 16383, 16384, UInt64(1) << 46, .max - 1, .max])
    func `a count is read as it was written`(_ value: UInt64) throws {
        var writer = ByteWriter()
        writer.write(count: value)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.readCount(max: .max, "count") == value)
        #expect(reader.isAtEnd)
        for count in 0..<writer.bytes.count {
            var cut = ByteReader(Array(writer.bytes.prefix(count)))
            #expect(throws: MalformedBytes.self) { try cut.readCount(max: .max, "count") }
        }
        guard value > 0 else { return }
        var bounded = ByteReader(writer.bytes)
        #expect(throws: MalformedBytes.self) { try bounded.readCount(max: value - 1, "count") }
    }

    @Test(
        arguments: [
            [UInt8](repeating: 0xff, count: 9) + [0x02],  // 65 bits
            [UInt8](repeating: 0xff, count: 9) + [0x81, 0x00], [UInt8](repeating: 0x80, count: 10) + [0x01],
            [UInt8](repeating: 0x80, count: 100),
        ])
    func `a count of more than 64 bits is refused`(_ bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        #expect(throws: MalformedBytes.self) { try reader.readCount(max: .max, "count") }
    }

    @Test func `a string is bounded by its count, its bound, and what is there`() throws {
        var reader = ByteReader([3, 0x61, 0x62, 0x63, 2, 0x64])
        #expect(Array(try reader.readString(max: 3, "string")) == utf8("abc"))
        #expect(throws: MalformedBytes("string", at: 5, "2 bytes needed, 1 there")) {
            try reader.readString(max: 3, "string")
        }
        var bounded = ByteReader([3, 0x61, 0x62, 0x63])
        #expect(throws: MalformedBytes.self) { try bounded.readString(max: 2, "string") }
        var hostile = ByteReader([UInt8](repeating: 0xff, count: 9) + [0x01])
        #expect(throws: MalformedBytes.self) { try hostile.readString(max: .max, "string") }
    }

    @Test(arguments: [-1, Int.min, 4, .max]) func `raw bytes that are not there are refused`(_ byteCount: Int) {
        var reader = ByteReader([1, 2, 3])
        #expect(throws: MalformedBytes.self) { try reader.read(raw: byteCount, "raw") }
        #expect(reader.offset == 0)
    }

    @Test func `the end is expected where it is`() throws {
        var reader = ByteReader([1, 2])
        #expect(throws: MalformedBytes("piece", at: 0, "2 bytes too many")) { try reader.expectEnd("piece") }
        _ = try reader.read(raw: 2, "raw")
        #expect(throws: Never.self) { try reader.expectEnd("piece") }
    }
}

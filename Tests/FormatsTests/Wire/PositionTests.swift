import Formats
import Testing

@Suite struct PositionTests {
    @Test func `positions are ordered by epoch first`() {
        let ordered = [.zero, position(0, 9), position(1, 0), position(1, 5), position(2, 3)]
        #expect(ordered.shuffled().sorted() == ordered)
        #expect(position(1, 5).next == position(1, 6))
        #expect(Epoch(1).next == Epoch(2))
    }

    @Test func `a position is written and read as EPOCH, slash, SEQ`() {
        for one in [.zero, position(3, 4211), position(.max, .max)] {
            #expect(Position(one.description) == one)
        }
        #expect(position(3, 4211).description == "3/4211")
    }

    @Test(arguments: [
        "", "/", "3", "3/", "/4", "3/4/5", "3/x", "-1/4", " 3/4", "3/4 ", "4294967296/1", "0x3/4", "+3/4", "3/+4",
    ])
    func `anything else is no position`(_ text: String) {
        #expect(Position(text) == nil)
    }

    @Test func `twelve bytes, big-endian`() throws {
        var writer = ByteWriter()
        writer.write(position(0x0102_0304, 0x0506_0708_090a_0b0c))
        #expect(writer.bytes == Array(1...12))
        var reader = ByteReader(writer.bytes)
        #expect(try reader.readPosition("position") == position(0x0102_0304, 0x0506_0708_090a_0b0c))
        var short = ByteReader(Array(writer.bytes.dropLast()))
        #expect(throws: MalformedBytes.self) { try short.readPosition("position") }
    }
}

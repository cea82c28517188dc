import Formats
import Testing

@Suite struct ByteWriterTests {
    @Test func `integers are written big-endian`() {
        var writer = ByteWriter()
        writer.write(UInt8(1))
        writer.write(UInt16(0x0203))
        writer.write(Int32(-2))
        writer.write(UInt64(0x0102_0304_0506_0708))
        #expect(writer.count == 15)
        #expect(writer.finish() == [1, 2, 3, 0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8])
    }

    @Test(
        arguments: [
            (0, [0]), (127, [0x7f]), (128, [0x80, 1]), (300, [0xac, 2]), (16384, [0x80, 0x80, 1]),
            (UInt64.max, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] as [(UInt64, [UInt8])])
    func `a count is LEB128, as short as it can be`(_ value: UInt64, _ bytes: [UInt8]) {
        var writer = ByteWriter()
        writer.write(count: value)
        #expect(writer.finish() == bytes)
    }

    @Test func `a string comes behind its length, raw bytes do not`() {
        var writer = ByteWriter()
        writer.write(string: utf8("ab"))
        writer.write(string: [])
        writer.write(raw: utf8("cd"))
        #expect(writer.finish() == [2, 0x61, 0x62, 0, 0x63, 0x64])
    }

    @Test func `overwriting changes these bytes and no others`() {
        var writer = ByteWriter()
        writer.write(UInt64(0))
        writer.overwrite(UInt32(0x0102_0304), at: 2)
        #expect(writer.finish() == [0, 0, 1, 2, 3, 4, 0, 0])
    }
}

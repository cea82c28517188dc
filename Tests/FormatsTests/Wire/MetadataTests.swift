import Formats
import Testing

@Suite struct MetadataTests {
    private func encoded(_ metadata: Metadata) -> [UInt8] {
        var writer = ByteWriter()
        metadata.encode(into: &writer)
        return writer.finish()
    }

    private func decoded(_ bytes: [UInt8]) throws(MalformedBytes) -> Metadata {
        var reader = ByteReader(bytes)
        let metadata = try Metadata(decoding: &reader)
        try reader.expectEnd("metadata")
        return metadata
    }

    @Test func `the usual file costs eleven bytes`() {
        #expect(encoded(Metadata(mode: 0o600, mtimeNanoseconds: 1)) == [0, 0x01, 0x80, 0, 0, 0, 0, 0, 0, 0, 1])
    }

    @Test(
        arguments: [
            Metadata(mode: 0, mtimeNanoseconds: .min), Metadata(mode: 0o7777, mtimeNanoseconds: .max),
            Metadata(mode: 0o644, mtimeNanoseconds: 0, owner: 127),
            Metadata(mode: 0o644, mtimeNanoseconds: 0, group: 128),
            Metadata(
                mode: 0o644, mtimeNanoseconds: 0, owner: .max, group: 0,
                attributes: [.init(name: [0xff], value: [UInt8](repeating: 7, count: 65536))]),
        ])
    func `what is written is read`(_ metadata: Metadata) throws {
        #expect(try decoded(encoded(metadata)) == metadata)
    }

    @Test func `what no writer writes is refused`() {
        let plain = encoded(Metadata(mode: 0o600, mtimeNanoseconds: 0))
        for flag in 3..<8 { #expect(throws: MalformedBytes.self) { try decoded(plain.flipping(bit: flag, at: 0)) } }
        // Above the permission bits.
        for bit in 4..<8 { #expect(throws: MalformedBytes.self) { try decoded(plain.flipping(bit: bit, at: 1)) } }
        var owner = plain
        owner[0] = 1
        #expect(throws: MalformedBytes.self) { try decoded(owner + [0x80, 0x80, 0x80, 0x80, 0x10]) }  // 2^32
        var attributes = plain
        attributes[0] = 4
        #expect(throws: MalformedBytes.self) { try decoded(attributes + [0x81, 0x02]) }  // 257
        #expect(throws: MalformedBytes.self) { try decoded(attributes + [1, 1, 0x61, 0x81, 0x80, 0x04]) }  // 65537
    }
}

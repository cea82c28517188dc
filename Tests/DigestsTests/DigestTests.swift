import Digests
import Testing

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite struct DigestTests {
    /// What `xxh128sum` prints of these bytes.
    @Test func `it is XXH3-128, as xxh128sum prints it`() {
        #expect(Digest.empty.description == "99aa06d3014798d86001c324468d497f")
        #expect(Digest(of: utf8("abc")).description == "06b05ab6733a618578af5f94892f3950")
        #expect(Digest(of: [UInt8](0..<200)).description == "cb0395310643ba0edd97e9af3609d9f5")
        #expect(Digest(of: []) == Digest(low: 0x6001_c324_468d_497f, high: 0x99aa_06d3_0147_98d8))
    }

    @Test func `a flipped bit changes it`() {
        let bytes = [UInt8](0..<200)
        let digest = Digest(of: bytes)
        for offset in bytes.indices {
            var other = bytes
            other[offset] ^= 0x10
            #expect(Digest(of: other) != digest, "\(offset)")
        }
    }

    @Test func `hexadecimal digits keep their zeros`() {
        #expect(Digest(low: 1, high: 0).description == "00000000000000000000000000000001")
        #expect(hexadecimal(0xab) == "00000000000000ab")
    }
}

@Suite struct CRC32Tests {
    /// The check value that every catalogue of CRCs gives.
    @Test func `it is the ordinary CRC-32`() {
        #expect(crc32(utf8("123456789")) == 0xcbf4_3926)
        #expect(crc32([]) == 0)
        #expect(crc32(utf8("xx123456789")[2...]) == 0xcbf4_3926)
        #expect(crc32(AnyCollection(utf8("123456789"))) == 0xcbf4_3926)
    }
}

@Suite struct ChainHashTests {
    /// FIPS 180-2, appendix B.
    @Test func `it is SHA-256`() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(ChainHash(of: utf8("abc")).description == abc)
        #expect(ChainHash(of: utf8("a"), [], utf8("bc")).description == abc)
        #expect(ChainHash.zero.description == String(repeating: "0", count: 64))
    }
}

@Suite struct MessageGUIDTests {
    /// FIPS 180-2, appendix A.
    @Test func `it is SHA-1`() {
        #expect(
            MessageGUID(of: utf8("abc")).bytes == [
                0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c,
                0xd0, 0xd8, 0x9d,
            ])
        #expect(!MessageGUID(of: []).isNull)
        #expect(MessageGUID(bytes: [UInt8](repeating: 0, count: 20)).isNull)
    }
}

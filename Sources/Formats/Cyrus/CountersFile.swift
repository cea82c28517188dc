/// counters.db, a user's highest modseqs (imap/mboxname.c, mboxname_load_fcounters).
///
///     0 generation 4 | 4 version 4 | 8 modseqs 8 each | … | uidvalidity 4 | crc32 4, of all before
///
/// Its length follows from its version. Replaced as a whole, by rename.
package struct CountersFile: Equatable, Sendable {
    package let generation: UInt32
    package let version: UInt32
    package let highestModseq: UInt64
    package let uidValidity: UInt32
    package let storedCRC: UInt32
    package let computedCRC: UInt32

    package var isCRCRight: Bool { storedCRC == computedCRC }

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        let image = FileImage(bytes)
        guard image.holds(16, at: 0) else {
            throw MalformedBytes("counters", at: bytes.count, "\(bytes.count) bytes hold no counters")
        }
        generation = image.integer(at: 0)
        version = image.integer(at: 4)
        guard version < Self.byteCounts.count else {
            throw MalformedBytes("counters", at: 4, "version \(version) is not known")
        }
        let byteCount = Self.byteCounts[Int(version)]
        guard bytes.count == byteCount else {
            throw MalformedBytes(
                "counters", at: bytes.count, "\(bytes.count) bytes, version \(version) has \(byteCount)")
        }
        highestModseq = image.integer(at: 8)
        uidValidity = image.integer(at: byteCount - 8)
        storedCRC = image.integer(at: byteCount - 4)
        computedCRC = image.checksum(of: 0..<byteCount - 4)
    }

    private static let byteCounts = [48, 56, 64, 88, 104, 120, 200, 232, 264, 296]
}

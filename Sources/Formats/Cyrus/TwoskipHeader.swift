/// The first 64 bytes of a twoskip database.
///
///     0   magic 20            A1 02 8B 0D "twoskip file" 00 00 00 00
///     20  version 4           1
///     24  generation 8        one more at each repack, which is a new file renamed over the old
///     32  num_records 8       live ones
///     40  repack_size 8       bytes after the last repack
///     48  current_size 8      end of the last committed transaction
///     56  flags 4             bit 0: DIRTY, a transaction is being written
///     60  crc32 4             of bytes 0 to 59
package struct TwoskipHeader: Equatable, Sendable {
    package let generation: UInt64
    package let recordCount: UInt64
    package let repackByteCount: UInt64
    package let committedByteCount: UInt64
    package let isDirty: Bool
    package let storedCRC: UInt32
    package let computedCRC: UInt32

    package static let byteCount = 64
    package static let magic = cyrusMagic + Array("twoskip file\0\0\0\0".utf8)

    /// Reads the header at the beginning of `bytes`. A wrong checksum is not an error here; ask `isCRCRight`.
    package init(decoding bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }

    init(_ image: FileImage) throws(MalformedBytes) {
        guard image.holds(Self.byteCount, at: 0) else {
            throw MalformedBytes("twoskip", at: image.byteCount, "\(image.byteCount) bytes hold no header")
        }
        guard image.starts(with: Self.magic) else { throw MalformedBytes("twoskip", at: 0, "not its magic bytes") }
        let version: UInt32 = image.integer(at: 20)
        guard version == 1 else { throw MalformedBytes("twoskip", at: 20, "version \(version) is not known") }
        generation = image.integer(at: 24)
        recordCount = image.integer(at: 32)
        repackByteCount = image.integer(at: 40)
        committedByteCount = image.integer(at: 48)
        isDirty = image.integer(UInt32.self, at: 56) & 1 == 1
        storedCRC = image.integer(at: 60)
        computedCRC = image.checksum(of: 0..<60)
    }

    package var isCRCRight: Bool { storedCRC == computedCRC }

    /// Whether no transaction is under way and none was interrupted: Cyrus opens such a file as it is, and repairs
    /// any other.
    package func isClean(fileByteCount: Int) -> Bool {
        isCRCRight && !isDirty && committedByteCount == UInt64(fileByteCount)
    }
}

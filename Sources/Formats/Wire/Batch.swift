package import Digests

/// The head of a batch.
///
///     offset  bytes
///      0       4   magic "MSB1"
///      4       4   epoch
///      8       8   sequence number
///     16       8   time: the primary's clock when the batch was read, ns since 1970; the store as of then
///     24       4   payload bytes, as they follow
///     28       4   raw bytes: of the payload decompressed; the same number if it is not compressed
///     32       4   records
///     36       4   kind: 0 a batch of the log, 1 a part of a seed
///     40      16   link: the first half of the chain hash of the batch before
///     56       8   checksum: XXH3-64 of (XXH3-64 of bytes 0..<56 ‖ XXH3-64 of the payload)
///     64       …   payload
///
/// All big-endian. A batch is valid if the checksum holds; it follows another if its sequence number is one more and
/// its link is the other's chain hash, which is SHA-256(chain hash of the batch before ‖ all bytes of this batch).
package struct BatchHeader: Hashable, Sendable {
    package let position: Position
    package let timeNanoseconds: Int64
    package let payloadBytes: Int
    package let rawBytes: Int
    package let recordCount: Int
    package let kind: Kind
    /// 16 bytes.
    package let link: [UInt8]
    package let checksum: UInt64

    package enum Kind: UInt32, Sendable {
        case log = 0, seed = 1
    }

    package static let byteCount = 64
    package static let magic: UInt32 = 0x4d53_4231
    static let linkBytes = 16
    /// A batch is closed long before; this bounds what a reader will hold.
    package static let rawBytesMax = 64 << 20
    /// A record takes some hundred bytes of memory, however few it has on the wire. A primary
    /// closes a batch at half of it.
    package static let recordCountMax = 1 << 20

    /// Reads a head; that the checksum holds is for `SealedBatch` to say.
    package init(decoding bytes: some Collection<UInt8>) throws(MalformedBytes) {
        var reader = ByteReader(Array(bytes))
        guard try reader.read(UInt32.self, "batch: magic") == Self.magic else {
            throw MalformedBytes("batch: magic", at: 0, "not a batch")
        }
        position = try reader.readPosition("batch: position")
        timeNanoseconds = try reader.read(Int64.self, "batch: time")
        payloadBytes = Int(try reader.read(UInt32.self, "batch: payload bytes"))
        rawBytes = Int(try reader.read(UInt32.self, "batch: raw bytes"))
        recordCount = Int(try reader.read(UInt32.self, "batch: records"))
        let kindNumber = try reader.read(UInt32.self, "batch: kind")
        link = Array(try reader.read(raw: Self.linkBytes, "batch: link"))
        checksum = try reader.read(UInt64.self, "batch: checksum")
        guard let kind = Kind(rawValue: kindNumber) else {
            throw MalformedBytes("batch: kind", at: 36, "unknown kind \(kindNumber)")
        }
        self.kind = kind
        guard rawBytes <= Self.rawBytesMax, payloadBytes <= rawBytes else {
            throw MalformedBytes(
                "batch: raw bytes", at: 28, "\(payloadBytes) of \(rawBytes), \(Self.rawBytesMax) allowed")
        }
        guard recordCount <= rawBytes, recordCount <= Self.recordCountMax else {
            throw MalformedBytes("batch: records", at: 32, "\(recordCount) records in \(rawBytes) bytes")
        }
    }

    package var isCompressed: Bool { payloadBytes < rawBytes }
}

/// A batch as it travels and lies: made once on the primary, and the same bytes ever after.
package struct SealedBatch: Hashable, Sendable {
    package let header: BatchHeader
    /// Header and payload.
    package let bytes: [UInt8]

    package var position: Position { header.position }
    package var payload: ArraySlice<UInt8> { bytes[BatchHeader.byteCount...] }

    /// Seals `payload`, which is compressed if it has fewer than `rawBytes` bytes.
    package static func seal(
        payload: [UInt8], rawBytes: Int, recordCount: Int, at position: Position, after previous: ChainHash,
        timeNanoseconds: Int64, kind: BatchHeader.Kind = .log
    ) -> SealedBatch {
        precondition(payload.count <= rawBytes && rawBytes <= BatchHeader.rawBytesMax, "a batch of \(rawBytes) bytes")
        var writer = ByteWriter(reserving: BatchHeader.byteCount + payload.count)
        writer.write(BatchHeader.magic)
        writer.write(position)
        writer.write(timeNanoseconds)
        writer.write(UInt32(payload.count))
        writer.write(UInt32(rawBytes))
        writer.write(UInt32(recordCount))
        writer.write(kind.rawValue)
        writer.write(raw: previous.bytes.prefix(BatchHeader.linkBytes))
        writer.write(UInt64(0))
        writer.write(raw: payload)
        writer.overwrite(checksum(of: writer.bytes), at: 56)
        let bytes = writer.finish()
        guard let header = try? BatchHeader(decoding: bytes.prefix(BatchHeader.byteCount)) else {  // just written
            preconditionFailure("a sealed batch does not read back")
        }
        return SealedBatch(header: header, bytes: bytes)
    }

    private init(header: BatchHeader, bytes: [UInt8]) {
        self.header = header
        self.bytes = bytes
    }

    /// Takes the bytes of exactly one batch; throws if anything about them is not as it was sealed.
    package init(checking bytes: [UInt8]) throws(MalformedBytes) {
        let header = try BatchHeader(decoding: bytes.prefix(BatchHeader.byteCount))
        guard bytes.count == BatchHeader.byteCount + header.payloadBytes else {
            throw MalformedBytes(
                "batch \(header.position)", at: bytes.count,
                "\(bytes.count) bytes, \(BatchHeader.byteCount + header.payloadBytes) told by its head")
        }
        guard Self.checksum(of: bytes) == header.checksum else {
            throw MalformedBytes("batch \(header.position)", at: 56, "checksum mismatch")
        }
        self.init(header: header, bytes: bytes)
    }

    /// Whether this is the batch after the one whose chain hash is `previous`.
    package func follows(_ previous: ChainHash) -> Bool {
        header.link[...] == previous.bytes.prefix(BatchHeader.linkBytes)
    }

    /// The chain hash at this batch.
    package func chainHash(after previous: ChainHash) -> ChainHash { ChainHash(of: previous.bytes, bytes) }

    /// Over the head without its last field, and the payload.
    private static func checksum(of bytes: [UInt8]) -> UInt64 {
        bytes.withUnsafeBytes { all in
            let head = checksum64(UnsafeRawBufferPointer(rebasing: all[..<56]))
            let payload = checksum64(UnsafeRawBufferPointer(rebasing: all[BatchHeader.byteCount...]))
            var pair = (head.bigEndian, payload.bigEndian)
            return withUnsafeBytes(of: &pair) { checksum64($0) }
        }
    }
}

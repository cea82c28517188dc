package import Digests
package import Formats

/// One file of a journal, as bytes.
///
///     offset  bytes
///      0       4   magic "MSJ1"
///      4      12   position before the first batch
///     16       8   unused, zero
///     24      32   chain hash at that position
///     56       8   checksum: XXH3-64 of bytes 0..<56
///     64       …   batches, one directly behind the other
///      …       …   zeros: room written ahead, so that a flush has no file size to write
///
/// The end of the log is the first place where no batch is that follows the one before it.
package struct SegmentHead: Equatable, Sendable {
    package let position: Position
    package let hash: ChainHash

    package static let byteCount = 64
    private static let magic: UInt32 = 0x4d53_4a31

    package init(after position: Position, hash: ChainHash) {
        self.position = position
        self.hash = hash
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: Self.byteCount)
        writer.write(Self.magic)
        writer.write(position)
        writer.write(UInt64(0))
        writer.write(raw: hash.bytes)
        writer.write(writer.bytes.withUnsafeBytes { checksum64($0) })
        return writer.finish()
    }

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt32.self, "segment: magic") == Self.magic else {
            throw MalformedBytes("segment: magic", at: 0, "not a segment of a journal")
        }
        position = try reader.readPosition("segment: position")
        _ = try reader.read(UInt64.self, "segment: unused")
        hash = try reader.readChainHash("segment: chain hash")
        let checksum = try reader.read(UInt64.self, "segment: checksum")
        guard bytes.prefix(56).withUnsafeBytes({ checksum64($0) }) == checksum else {
            throw MalformedBytes("segment: head", at: 56, "checksum mismatch")
        }
    }
}

/// Walks the batches of a segment in order, believing nothing: checksum, sequence and chain of each are checked.
///
/// Pure but for `read`, which gives the bytes at an offset, fewer at the end of the file.
package struct SegmentScan {
    package private(set) var receiver: Receiver
    /// Where the next batch begins.
    package private(set) var offset: Int

    package enum Found: Sendable {
        case batch(SealedBatch)
        /// Nothing more: the log ends here, and clean is what follows.
        case end
        /// Something is there that is not the next batch: a torn write, or damage.
        case torn(why: String)
    }

    package init(head: SegmentHead) {
        receiver = Receiver(after: head.position, hash: head.hash)
        offset = SegmentHead.byteCount
    }

    package mutating func next<Failure: Error>(
        _ read: (_ offset: Int, _ byteCount: Int) throws(Failure) -> [UInt8]
    ) throws(Failure) -> Found {
        // Most batches are small: one read gets the head and all of them.
        let first = try read(offset, 4096)
        if first.prefix(BatchHeader.byteCount).allSatisfy({ $0 == 0 }) { return .end }
        let header: BatchHeader
        do throws(MalformedBytes) {
            header = try BatchHeader(decoding: first.prefix(BatchHeader.byteCount))
        } catch {
            return .torn(why: "\(error)")
        }
        let byteCount = BatchHeader.byteCount + header.payloadBytes
        let bytes = byteCount <= first.count ? Array(first.prefix(byteCount)) : try read(offset, byteCount)
        do throws(MalformedBytes) {
            let batch = try SealedBatch(checking: bytes)
            switch receiver.arrived(batch) {
            case .append:
                offset += byteCount
                return .batch(batch)
            case .duplicate:
                return .torn(why: "batch \(batch.position) again, after \(receiver.position)")
            case .refuse(let problem):
                return .torn(why: problem.description)
            }
        } catch {
            return .torn(why: "\(error)")
        }
    }

    /// Steps over `batch`, which the caller has from elsewhere, and with it `after`, who has taken it in this log.
    mutating func take(_ batch: SealedBatch, _ after: Receiver) {
        precondition(
            after.position.sequence == receiver.position.sequence.next && batch.follows(receiver.hash),
            "batch \(batch.position) is not after \(receiver.position)")
        receiver = after
        offset += batch.bytes.count
    }
}

package import Formats

/// What stands behind the last batch of a segment that follows the one before it.
///
/// A write that was cut off by a crash left nothing whole behind it; or, when several batches were written and none of
/// them flushed, sectors that were never written, which are zeros. A whole batch further on, and no such sector before
/// it, means that bytes have changed which once were right. The first of these sectors may hold the end of an older
/// batch: then its rest is zeros, where a batch would have its magic.
package enum SegmentTail: Equatable, Sendable {
    /// The end of the log; what is there, if anything, was never flushed.
    case unfinished
    case damaged(later: Position, offset: Int)

    private static let sectorBytes = 512
    private static let pieceBytes = 1 << 20

    /// Looks at what is behind `scan`, which found no batch there; `read` as for `SegmentScan.next`.
    package static func behind<Failure: Error>(
        _ scan: SegmentScan, _ read: (_ offset: Int, _ byteCount: Int) throws(Failure) -> [UInt8]
    ) throws(Failure) -> SegmentTail {
        var offset = scan.offset
        while true {
            let piece = try read(offset, pieceBytes)
            for place in magicPlaces(in: piece) where place > 0 || offset > scan.offset {
                guard let batch = try batch(at: offset + place, read),
                    batch.position.sequence > scan.receiver.position.sequence
                else { continue }
                let isUnwritten = try hasZeroSector(scan.offset..<offset + place, read)
                return isUnwritten ? .unfinished : .damaged(later: batch.position, offset: offset + place)
            }
            guard piece.count == pieceBytes else { return .unfinished }
            // The magic may lie across the pieces.
            offset += pieceBytes - (magic.count - 1)
        }
    }

    private static let magic: [UInt8] = (0..<4).map {
        UInt8(truncatingIfNeeded: BatchHeader.magic >> (24 - 8 * UInt32($0)))
    }

    private static func magicPlaces(in bytes: [UInt8]) -> [Int] {
        var places: [Int] = []
        guard bytes.count >= magic.count else { return [] }
        for place in 0...bytes.count - magic.count
        where bytes[place] == magic[0] && bytes[place..<place + magic.count].elementsEqual(magic) {
            places.append(place)
        }
        return places
    }

    /// Nothing if none is whole there.
    private static func batch<Failure: Error>(
        at offset: Int, _ read: (Int, Int) throws(Failure) -> [UInt8]
    ) throws(Failure) -> SealedBatch? {
        let head = try read(offset, BatchHeader.byteCount)
        // Most places are none, and that they are not is no error.
        guard let header = try? BatchHeader(decoding: head) else { return nil }
        let bytes = try read(offset, BatchHeader.byteCount + header.payloadBytes)
        return try? SealedBatch(checking: bytes)  // the same
    }

    /// Whether a whole sector of the file within `range` is zeros, or the rest of the one that `range` begins in.
    private static func hasZeroSector<Failure: Error>(
        _ range: Range<Int>, _ read: (Int, Int) throws(Failure) -> [UInt8]
    ) throws(Failure) -> Bool {
        let first = (range.lowerBound + sectorBytes - 1) / sectorBytes * sectorBytes
        if first > range.lowerBound, first <= range.upperBound {
            let rest = try read(range.lowerBound, first - range.lowerBound)
            if rest.count == first - range.lowerBound, rest.allSatisfy({ $0 == 0 }) { return true }
        }
        for start in stride(from: first, to: range.upperBound, by: pieceBytes) {
            let piece = try read(start, min(pieceBytes, range.upperBound - start))
            for sector in stride(from: 0, through: piece.count - sectorBytes, by: sectorBytes)
            where piece[sector..<sector + sectorBytes].allSatisfy({ $0 == 0 }) {
                return true
            }
        }
        return false
    }
}

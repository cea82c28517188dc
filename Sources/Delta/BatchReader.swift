package import Formats

/// Opens a sealed batch: decompresses, and takes the records apart.
///
/// Throws on anything that is not exactly what its header tells; `DeltaError` for the compression.
package enum BatchReader {
    package static func records(of batch: SealedBatch) throws -> [Record] {
        let header = batch.header
        let raw =
            header.isCompressed
            ? try Compression.decompress(batch.payload, rawBytes: header.rawBytes)[...] : batch.payload
        var reader = ByteReader(raw)
        var records: [Record] = []
        records.reserveCapacity(min(header.recordCount, 4096))
        var pieceCount = 0
        for _ in 0..<header.recordCount {
            let record = try Record(decoding: &reader)
            pieceCount += record.pieceCount
            guard pieceCount <= Record.pieceCountMax else {
                throw MalformedBytes("batch \(header.position)", at: reader.offset, "too many small pieces")
            }
            records.append(record)
        }
        try reader.expectEnd("batch \(header.position)")
        return records
    }
}

/// The bytes of a cyrus.index, read at one moment: its header and a view of each record.
///
/// `findings` is the gate: what is wrong with it by its own account, cheap enough to ask on every read
/// (a CRC-32 over the records asked for).
package struct IndexImage: Sendable {
    package let header: IndexHeader
    let image: FileImage

    /// Throws for bytes that no Cyrus would open as an index: no header, an unknown version, sizes that aren't the
    /// version's. A wrong checksum or missing records are findings.
    package init(_ bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }
    package init(_ bytes: ArraySlice<UInt8>) throws(MalformedBytes) { try self.init(FileImage(bytes)) }
    package init(copying bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        try self.init(FileImage(copying: bytes))
    }

    init(_ image: FileImage) throws(MalformedBytes) {
        self.image = image
        header = try IndexHeader(image)
    }

    package var bytes: ArraySlice<UInt8> { image.bytes }

    /// Counted by the header and wholly there.
    package var recordCount: Int { min(header.recordCount, wholeRecordCount) }
    /// Wholly there, counted or left by an interrupted append.
    package var wholeRecordCount: Int { (image.byteCount - header.startOffset) / header.recordByteCount }

    /// `number` counts from 0 and is below `recordCount`.
    package func record(at number: Int) -> IndexRecord {
        precondition(number >= 0 && number < recordCount, "record \(number) of \(recordCount)")
        return IndexRecord(
            image: image, base: offset(ofRecord: number), fields: header.layout.record, time: header.layout.time,
            byteCount: header.recordByteCount)
    }

    package func offset(ofRecord number: Int) -> Int { header.startOffset + number * header.recordByteCount }

    /// All counted records, in the order of their UIDs.
    package var records: some RandomAccessCollection<IndexRecord> & Sendable { IndexRecords(index: self) }

    /// The record of `uid`, expunged or not. By halving: needs the order that `findings` checks.
    package func record(uid: UInt32) -> IndexRecord? {
        let number = numberOfFirst(from: uid)
        guard number < recordCount, self.uid(at: number) == uid else { return nil }
        return record(at: number)
    }

    /// The number of the first record with that UID or a higher one; `recordCount` if there is none.
    package func numberOfFirst(from uid: UInt32) -> Int {
        var low = 0
        var high = recordCount
        while low < high {
            let middle = (low + high) / 2
            if self.uid(at: middle) < uid { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The UID is a record's first field in all versions.
    func uid(at number: Int) -> UInt32 { image.integer(at: offset(ofRecord: number)) }
}

private struct IndexRecords: RandomAccessCollection, Sendable {
    let index: IndexImage
    var startIndex: Int { 0 }
    var endIndex: Int { index.recordCount }
    subscript(number: Int) -> IndexRecord { index.record(at: number) }
}

package import Digests

// How a new version of a file is sent, the cheapest first:
//
//     tables alike ── yes ──> .same
//       │ no
//     extents of the changed pages: at most a quarter of the file, or a small file ──> .extents, or .whole if about as long
//       │ more
//     sample of the new version against the old one's signature: less than half in common ──> .extents or .whole
//       │ more
//     librsync's delta, given up at half of the file ──> the smallest of the three, as LZ4 would leave it

/// What to send of a new version to someone who has the old one.
package enum DeltaChoice: Equatable, Sendable {
    case same
    /// Bytes of the new version to be written over the old one, which is cut or grown to the new length.
    case extents([Extent])
    /// librsync's delta against the old version.
    case delta([UInt8])
    case whole

    /// Extents of at most this share of the new version are taken without asking librsync.
    static let extentsShareMax = 0.25
    /// Extents of more than this share save too little: the whole needs nothing from the receiver.
    static let wholeShareMin = 0.9
    /// A shorter file isn't worth librsync's blocks.
    static let deltaFileBytesMin = 16 * 1024
    /// A delta longer than this share of the new version is given up: 25 ns a byte for what one gigabit carries in 8.
    static let deltaShareMax = 0.5
    /// A delta must save as much, for the receiver has to read the old version and write a new one.
    static let deltaSavingMin = 4096
    /// Longer files are sampled first: in 100 MB with nothing in common a delta would cost seconds.
    static let sampledFileBytesMin = 2 * 1024 * 1024
    static let samplePieceCount = 16
    static let samplePieceBytes = 64 * 1024
    /// What an extent's offset and length cost, about.
    static let extentHeadBytes = 8

    /// The smallest way from `old` to `new`; the tables must be of what the readers give. What has more than `payloadBytesMax` to
    /// carry is `.whole`, and never in memory.
    package static func smallest(
        from old: PageTable, to new: PageTable, payloadBytesMax: Int = .max, oldBytes: RangeReader,
        newBytes: RangeReader
    ) throws(DeltaError) -> DeltaChoice {
        let pages = new.changedPages(against: old)
        guard !pages.isEmpty || old.byteCount != new.byteCount else { return .same }
        let extents = try Extents.between(
            oldBytes: old.byteCount, newBytes: new.byteCount, pages: pages, old: oldBytes, new: newBytes)
        let inPlace =
            Double(cost(of: extents)) < Double(new.byteCount) * wholeShareMin
                && Extents.payloadBytes(extents) <= payloadBytesMax ? DeltaChoice.extents(extents) : .whole
        guard new.byteCount >= deltaFileBytesMin, old.byteCount >= deltaFileBytesMin,
            Double(cost(of: extents)) > Double(new.byteCount) * extentsShareMax
        else { return inPlace }

        let signature = try Signature.make(
            byteCount: old.byteCount, blockBytes: localBlockBytes(forFileBytes: old.byteCount), old: oldBytes)
        let loaded = try LoadedSignature.load(signature)
        guard try hasMuchInCommon(loaded, byteCount: new.byteCount, new: newBytes) else { return inPlace }
        let bytesMax = min(Int(Double(new.byteCount) * deltaShareMax), cost(of: extents), payloadBytesMax)
        guard
            let delta = try RsyncDelta.encode(
                loaded, byteCount: new.byteCount, deltaBytesMax: bytesMax, new: newBytes)
        else { return inPlace }
        return try smaller(of: delta, inPlace, byteCount: new.byteCount, new: newBytes)
    }

    /// The same of two versions in memory.
    package static func smallest(
        from old: UnsafeRawBufferPointer, _ oldTable: PageTable, to new: UnsafeRawBufferPointer, _ newTable: PageTable
    ) throws(DeltaError) -> DeltaChoice {
        try smallest(from: oldTable, to: newTable, oldBytes: { Array(old[$0]) }, newBytes: { Array(new[$0]) })
    }

    /// Of a signature that never travels: shorter blocks than `Signature.blockBytes`, and so a shorter delta; at 40
    /// bytes of memory a block.
    static func localBlockBytes(forFileBytes byteCount: Int) -> Int {
        switch byteCount {
        case ..<(1 << 20): 512
        case ..<(1 << 28): 1024
        default: max(4096, Signature.blockBytes(forFileBytes: byteCount) / 4)
        }
    }

    private static func cost(of extents: [Extent]) -> Int {
        Extents.payloadBytes(extents) + extents.count * extentHeadBytes
    }

    /// Whether a sample of the new version, spread over it, has at least half in common with the old one.
    private static func hasMuchInCommon(
        _ old: borrowing LoadedSignature, byteCount: Int, new: RangeReader
    ) throws(DeltaError) -> Bool {
        guard byteCount >= sampledFileBytesMin else { return true }
        let lastStart = byteCount - samplePieceBytes
        var sample: [UInt8] = []
        sample.reserveCapacity(samplePieceCount * samplePieceBytes)
        for piece in 0..<samplePieceCount {
            let start = lastStart / (samplePieceCount - 1) * piece
            sample += try fetch(start..<start + samplePieceBytes, from: new)
        }
        let bytesMax = Int(Double(sample.count) * deltaShareMax)
        let delta = try RsyncDelta.encode(old, byteCount: sample.count, deltaBytesMax: bytesMax) { Array(sample[$0]) }
        return delta != nil
    }

    /// `delta` or `other`, whichever is smaller when LZ4 has been over it.
    private static func smaller(
        of delta: [UInt8], _ other: DeltaChoice, byteCount: Int, new: RangeReader
    ) throws(DeltaError) -> DeltaChoice {
        let extents = if case .extents(let extents) = other { extents } else { [Extent(offset: 0, length: byteCount)] }
        let otherBytes = try Compression.estimatedBytes(
            of: Extents.payloadBytes(extents), like: sample(of: extents, from: new))
        let deltaSample = try sample(of: [Extent(offset: 0, length: delta.count)]) { Array(delta[$0]) }
        let deltaBytes = try Compression.estimatedBytes(of: delta.count, like: deltaSample)
        return deltaBytes + deltaSavingMin < otherBytes + extents.count * extentHeadBytes ? .delta(delta) : other
    }

    /// Up to 64 pieces of up to 4 KiB, evenly spread over the bytes of `extents`.
    private static func sample(of extents: [Extent], from bytes: RangeReader) throws(DeltaError) -> [UInt8] {
        let stepBytes = max(4096, Extents.payloadBytes(extents) / 64)
        var sample: [UInt8] = []
        var bytesToNext = 0
        for extent in extents {
            var offset = extent.offset + bytesToNext
            while offset < extent.end {
                sample += try fetch(offset..<min(offset + 4096, extent.end), from: bytes)
                offset += stepBytes
            }
            bytesToNext = offset - extent.end
        }
        return sample
    }
}

internal import CLZ4

/// LZ4 blocks: one piece, whose raw length is known from elsewhere; no head, no checksum.
package enum Compression {
    /// The most that one piece may have, a little less than 2 GiB.
    package static let rawBytesMax = Int(LZ4_MAX_INPUT_SIZE)

    /// How hard to search for repetitions; the raw value is LZ4's "acceleration".
    package enum Effort: Int32, Sendable {
        case balanced = 1
        case fast = 4
    }

    /// `raw` made smaller; nil when it doesn't get smaller, and then it is sent as it is.
    package static func compress(
        _ raw: UnsafeRawBufferPointer, effort: Effort = .balanced
    ) throws(DeltaError) -> [UInt8]? {
        guard raw.count <= rawBytesMax else { throw .tooLarge(byteCount: raw.count, bytesMax: rawBytesMax) }
        guard raw.count > 1 else { return nil }
        // LZ4 stops as soon as its result doesn't fit, so the room is what is worth having.
        let room = raw.count - 1
        let compressed = [UInt8](unsafeUninitializedCapacity: room) { target, count in
            let source = raw.bindMemory(to: CChar.self).baseAddress
            let made = target.withMemoryRebound(to: CChar.self) {
                LZ4_compress_fast(source, $0.baseAddress, Int32(raw.count), Int32(room), effort.rawValue)
            }
            count = max(0, Int(made))
        }
        return compressed.isEmpty ? nil : compressed
    }

    package static func compress(_ raw: [UInt8], effort: Effort = .balanced) throws(DeltaError) -> [UInt8]? {
        try raw.span.bytes.withUnsafeBytes { raw throws(DeltaError) in try compress(raw, effort: effort) }
    }

    /// The raw bytes; exactly `rawBytes` of them, or it throws. The caller has checked `rawBytes` against its own
    /// bound; nothing is allocated for a length that `compressed` can't have.
    package static func decompress(
        _ compressed: UnsafeRawBufferPointer, rawBytes: Int
    ) throws(DeltaError) -> [UInt8] {
        guard (1...rawBytesMax).contains(rawBytes), compressed.count < rawBytes else { throw .corrupt(.compressed) }
        // A byte of an LZ4 block stands for 255 at most.
        guard rawBytes / 255 <= compressed.count else { throw .corrupt(.compressed) }
        var made: Int32 = 0
        let raw = [UInt8](unsafeUninitializedCapacity: rawBytes) { target, count in
            let source = compressed.bindMemory(to: CChar.self).baseAddress
            made = target.withMemoryRebound(to: CChar.self) {
                LZ4_decompress_safe(source, $0.baseAddress, Int32(compressed.count), Int32(rawBytes))
            }
            count = max(0, Int(made))
        }
        guard made >= 0 else { throw .corrupt(.compressed) }
        guard raw.count == rawBytes else { throw .wrongLength(expectedBytes: rawBytes, foundBytes: raw.count) }
        return raw
    }

    package static func decompress(_ compressed: [UInt8], rawBytes: Int) throws(DeltaError) -> [UInt8] {
        try decompress(compressed[...], rawBytes: rawBytes)
    }

    /// Of a slice of a batch; not copied first.
    package static func decompress(_ compressed: ArraySlice<UInt8>, rawBytes: Int) throws(DeltaError) -> [UInt8] {
        try compressed.span.bytes.withUnsafeBytes { compressed throws(DeltaError) in
            try decompress(compressed, rawBytes: rawBytes)
        }
    }

    /// About what `byteCount` bytes like `sample` are when compressed.
    package static func estimatedBytes(of byteCount: Int, like sample: [UInt8]) throws(DeltaError) -> Int {
        guard let compressed = try compress(sample, effort: .fast) else { return byteCount }
        return Int(Double(byteCount) * Double(compressed.count) / Double(sample.count))
    }
}

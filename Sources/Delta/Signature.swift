internal import CLibrsync

// A signature, as librsync writes it (all big-endian):
//
//     offset 0  4  0x72730147, RS_RK_BLAKE2_SIG_MAGIC
//            4  4  block length B in bytes
//            8  4  length S of a strong sum in bytes
//           12     for each block of the basis: 4 bytes rolling sum, S bytes of BLAKE2b; the last block may be short

/// Describes a basis block by block, so that a delta can be made by someone who hasn't the basis.
package enum Signature {
    /// 128 bits of BLAKE2b beside the 32 of the rolling sum: nobody finds two blocks alike, and a signature is half
    /// as long as with all 256. Mail is written by strangers, so never MD4, which librsync has too.
    static let strongBytes = 16
    static let headBytes = 12
    static let blockBytesRange = 128...65_536

    /// 2 KiB up to a file of 4 MiB, then the square root of the file's length (a multiple of BLAKE2b's 128), where
    /// signature and unmatched rests of blocks grow alike; 64 KiB at most. For a signature that travels.
    package static func blockBytes(forFileBytes byteCount: Int) -> Int {
        var block = 2048
        while block < blockBytesRange.upperBound, block * block < byteCount { block += 128 }
        return block
    }

    /// The signature of `old`; `blockBytes` defaults to the rule above and is brought into 128 B...64 KiB.
    package static func make(of old: UnsafeRawBufferPointer, blockBytes: Int? = nil) throws(DeltaError) -> [UInt8] {
        try make(byteCount: old.count, blockBytes: blockBytes) { Array(old[$0]) }
    }

    package static func make(of old: [UInt8], blockBytes: Int? = nil) throws(DeltaError) -> [UInt8] {
        try make(byteCount: old.count, blockBytes: blockBytes) { Array(old[$0]) }
    }

    /// The same of a file that is read piece by piece.
    package static func make(byteCount: Int, blockBytes: Int? = nil, old: RangeReader) throws(DeltaError) -> [UInt8] {
        let range = blockBytesRange
        let wanted = blockBytes ?? self.blockBytes(forFileBytes: byteCount)
        let block = min(max(wanted, range.lowerBound), range.upperBound)
        var signature: [UInt8] = []
        signature.reserveCapacity(headBytes + (byteCount / block + 1) * (4 + strongBytes))
        var job = try RsyncJob({ rs_sig_begin(block, strongBytes, RS_RK_BLAKE2_SIG_MAGIC) }, reads: .file)
        for range in pieces(of: byteCount) {
            let piece = try fetch(range, from: old)
            try job.feed(piece) { made in signature.append(contentsOf: made) }
        }
        try job.finish { made in signature.append(contentsOf: made) }
        return signature
    }
}

/// A signature ready for making deltas: the owner of an `rs_signature_t`.
///
/// Each block takes about 40 bytes of memory. Not for two jobs at once: librsync counts in it.
package struct LoadedSignature: ~Copyable {
    let signature: OpaquePointer
    /// Of its blocks.
    let blockBytes: Int

    /// Reads a signature; throws `.truncated` or `.corrupt` of `.signature` for bytes that aren't one.
    package static func load(_ bytes: [UInt8]) throws(DeltaError) -> LoadedSignature {
        let blockBytes = try checkedBlockBytes(bytes)
        var loaded: OpaquePointer?
        var job = try RsyncJob({ rs_loadsig_begin(&loaded) }, reads: .signature)
        // `rs_loadsig_begin` allocates it, and the job doesn't free it.
        guard let loaded else { throw .librsync(code: RS_MEM_ERROR.rawValue) }
        let owner = LoadedSignature(owning: loaded, blockBytes: blockBytes)
        try job.feed(bytes) { _ in }
        try job.finish { _ in }
        let result = rs_build_hash_table(loaded)
        guard result == RS_DONE else { throw .librsync(code: result.rawValue) }
        return owner
    }

    private init(owning signature: OpaquePointer, blockBytes: Int) {
        self.signature = signature
        self.blockBytes = blockBytes
    }

    deinit { rs_free_sumset(signature) }

    /// librsync believes the head; with blocks of 1 byte or 2 GiB it would work for hours or eat the memory.
    private static func checkedBlockBytes(_ bytes: [UInt8]) throws(DeltaError) -> Int {
        guard bytes.count >= Signature.headBytes else { throw .truncated(.signature) }
        func word(_ offset: Int) -> Int { bytes[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) } }
        let strongBytes = word(8)
        guard word(0) == Int(RS_RK_BLAKE2_SIG_MAGIC.rawValue), Signature.blockBytesRange.contains(word(4)),
            (8...32).contains(strongBytes), (bytes.count - Signature.headBytes) % (4 + strongBytes) == 0
        else { throw .corrupt(.signature) }
        return word(4)
    }
}

extension RsyncJob {
    /// A piece that is an array.
    mutating func feed(
        _ piece: [UInt8], push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void
    ) throws(DeltaError) {
        try piece.span.bytes.withUnsafeBytes { bytes throws(DeltaError) in try feed(bytes, push: push) }
    }
}

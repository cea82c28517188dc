/// Gives the bytes of one version of a file, for a range inside it; all of them, or it throws.
///
/// Files are passed like this, not as arrays, so that 100 MB need not be in memory. Ranges are at most
/// `pieceBytesMax` long.
package typealias RangeReader = (Range<Int>) throws -> [UInt8]

/// The most that is read, or handed to librsync, at once: it keeps a copy of what it is given.
let pieceBytesMax = 256 * 1024

/// `0..<byteCount` cut into pieces.
func pieces(of byteCount: Int) -> some Sequence<Range<Int>> {
    stride(from: 0, to: byteCount, by: pieceBytesMax).lazy.map { $0..<min($0 + pieceBytesMax, byteCount) }
}

/// The bytes of `range`, exactly as many; what the caller's closure throws comes out as `.caller`.
func fetch(_ range: Range<Int>, from read: RangeReader) throws(DeltaError) -> [UInt8] {
    let bytes: [UInt8]
    do { bytes = try read(range) } catch { throw .caller(error) }
    guard bytes.count == range.count else {
        throw .shortRead(offset: range.lowerBound, expectedBytes: range.count, foundBytes: bytes.count)
    }
    return bytes
}

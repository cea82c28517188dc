internal import Digests

/// The bytes of one of Cyrus's files as they were read, with offsets from its beginning.
///
/// A view, not a copy: it shares its storage with the array it came from. All of Cyrus's integers are big-endian.
package struct FileImage: Sendable {
    package let bytes: ArraySlice<UInt8>

    package init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }
    package init(_ bytes: [UInt8]) { self.bytes = bytes[...] }
    /// For mapped memory: one copy, so that nothing outlives the map.
    package init(copying bytes: UnsafeRawBufferPointer) { self.init([UInt8](bytes)) }

    package var byteCount: Int { bytes.count }

    /// Whether `byteCount` bytes at `offset` are there; true for no `offset` or count that overflows.
    func holds(_ byteCount: Int, at offset: Int) -> Bool {
        offset >= 0 && byteCount >= 0 && byteCount <= bytes.count && offset <= bytes.count - byteCount
    }

    /// The integer at `offset`, which must be within the bytes (`holds`).
    @inline(__always)
    func integer<Value: FixedWidthInteger>(_ type: Value.Type = Value.self, at offset: Int) -> Value {
        precondition(holds(Value.bitWidth / 8, at: offset), "offset \(offset) of \(bytes.count) bytes")
        return bytes.withUnsafeBytes { Value(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }

    /// The bytes in `range`, which must be within the file (`holds`).
    func slice(_ range: Range<Int>) -> ArraySlice<UInt8> {
        bytes[(bytes.startIndex + range.lowerBound)..<(bytes.startIndex + range.upperBound)]
    }

    /// CRC-32 of `range`, which must be within the file (`holds`).
    func checksum(of range: Range<Int>) -> UInt32 {
        precondition(holds(range.count, at: range.lowerBound), "range \(range) of \(bytes.count) bytes")
        return bytes.withUnsafeBytes { crc32(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    func starts(with prefix: [UInt8]) -> Bool { bytes.starts(with: prefix) }
}

/// `A1 02 8B 0D`: what cyrus.header, twoskip and skiplist files begin with.
let cyrusMagic: [UInt8] = [0xa1, 0x02, 0x8b, 0x0d]

/// `value` in four hexadecimal bytes, as Cyrus's own log lines write a checksum.
func hexadecimal32(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
}

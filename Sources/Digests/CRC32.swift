internal import CZlib

/// The ordinary CRC-32 (zlib, IEEE), which Cyrus keeps in its indexes, caches and databases (lib/crc32.c).
///
/// `before` is that of the bytes in front of these, for what is read piece by piece.
package func crc32(_ bytes: UnsafeRawBufferPointer, continuing before: UInt32 = 0) -> UInt32 {
    UInt32(truncatingIfNeeded: crc32_z(UInt(before), bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count))
}

package func crc32(_ bytes: some Collection<UInt8>) -> UInt32 {
    let sum = bytes.withContiguousStorageIfAvailable { crc32(UnsafeRawBufferPointer($0)) }
    return sum ?? Array(bytes).withUnsafeBytes { crc32($0) }
}

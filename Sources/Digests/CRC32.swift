internal import CZlib

/// The ordinary CRC-32 (zlib, IEEE), which Cyrus keeps in its indexes, caches and databases (lib/crc32.c).
package func crc32(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    UInt32(truncatingIfNeeded: crc32_z(0, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count))
}

package func crc32(_ bytes: some Collection<UInt8>) -> UInt32 {
    let sum = bytes.withContiguousStorageIfAvailable { crc32(UnsafeRawBufferPointer($0)) }
    return sum ?? Array(bytes).withUnsafeBytes { crc32($0) }
}

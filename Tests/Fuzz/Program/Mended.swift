import Digests
import Formats

/// Makes checksums right that a mutation broke, so that what is behind them is reached.
enum Mended {
    /// The header's checksum, and those of the records that lie one behind the other from the first on.
    static func twoskip(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        guard bytes.count >= TwoskipHeader.byteCount else { return bytes }
        put(crc32(bytes[..<60]), &bytes, at: 60)
        var offset = TwoskipHeader.byteCount
        while let end = mendRecord(&bytes, offset), end > offset { offset = end }
        return bytes
    }

    private static func mendRecord(_ bytes: inout [UInt8], _ offset: Int) -> Int? {
        guard offset + 24 <= bytes.count else { return nil }
        let (level, keyCount, valueCount) = (
            Int(bytes[offset + 1]), Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3]),
            bytes[offset + 4..<offset + 8].reduce(0) { $0 << 8 | Int($1) }
        )
        let head = offset + 8 + 8 * (level + 1)
        let end = head + 8 + (keyCount + valueCount + 7) / 8 * 8
        guard end <= bytes.count else { return nil }
        put(crc32(bytes[offset..<head]), &bytes, at: head)
        put(crc32(bytes[head + 8..<end]), &bytes, at: head + 4)
        return end
    }

    private static func put(_ value: UInt32, _ bytes: inout [UInt8], at offset: Int) {
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32(index))) }
    }
}

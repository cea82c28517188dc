/// Builds bytes: big-endian integers, variable-length counts, byte strings behind their length.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []

    package init(reserving byteCount: Int = 0) { bytes.reserveCapacity(byteCount) }

    package var count: Int { bytes.count }

    package mutating func write<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Seven bits a byte, the lowest first, the eighth says that more follow (LEB128): one byte below 128.
    package mutating func write(count value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    package mutating func write(raw piece: some Collection<UInt8>) { bytes.append(contentsOf: piece) }

    /// A count, then as many bytes.
    package mutating func write(string piece: some Collection<UInt8>) {
        write(count: UInt64(piece.count))
        bytes.append(contentsOf: piece)
    }

    /// A count, then as many bytes of UTF-8: as much of `text` as fits into `max`, in whole characters.
    package mutating func write(text: String, max: Int) {
        var cut = text[...]
        while cut.utf8.count > max { cut.removeLast() }
        write(string: cut.utf8)
    }

    /// Puts `value` over what stands at `offset`.
    package mutating func overwrite<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        withUnsafeBytes(of: value.bigEndian) { bytes.replaceSubrange(offset..<offset + $0.count, with: $0) }
    }

    package consuming func finish() -> [UInt8] { bytes }
}

/// Why bytes from a disk or a wire could not be read as what they should be.
package struct MalformedBytes: Error, Equatable, CustomStringConvertible {
    /// What was being read, as in "record: path".
    package let what: String
    /// Bytes from the start of the piece that was given to the reader.
    package let offset: Int
    package let why: String

    package init(_ what: String, at offset: Int, _ why: String) {
        self.what = what
        self.offset = offset
        self.why = why
    }

    package var description: String { "\(what): offset \(offset): \(why)" }
}

/// Takes bytes apart, checking every length before it is used; never traps on any input.
package struct ByteReader {
    package let bytes: ArraySlice<UInt8>
    /// Bytes taken so far.
    package private(set) var offset = 0

    package init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }
    package init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

    package var remainingCount: Int { bytes.count - offset }
    package var isAtEnd: Bool { remainingCount == 0 }

    package mutating func read<Value: FixedWidthInteger>(
        _ type: Value.Type = Value.self, _ what: @autoclosure () -> String
    ) throws(MalformedBytes) -> Value {
        let width = Value.bitWidth / 8
        guard remainingCount >= width else { throw truncated(what(), width) }
        var value: Value = 0
        let start = bytes.startIndex + offset
        for index in start..<start + width { value = (value << 8) | Value(truncatingIfNeeded: bytes[index]) }
        offset += width
        return value
    }

    /// A LEB128 count of at most `max`.
    package mutating func readCount(max: UInt64, _ what: @autoclosure () -> String) throws(MalformedBytes) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            let byte = try read(UInt8.self, what())
            let part = UInt64(byte & 0x7f)
            guard shift < 63 || part <= 1 else { break }
            value |= part << shift
            if byte & 0x80 == 0 {
                guard value <= max else {
                    throw MalformedBytes(what(), at: offset, "\(value) is more than the \(max) allowed")
                }
                return value
            }
        }
        throw MalformedBytes(what(), at: offset, "a count of more than 64 bits")
    }

    package mutating func read(
        raw byteCount: Int, _ what: @autoclosure () -> String
    ) throws(MalformedBytes) -> ArraySlice<UInt8> {
        guard byteCount >= 0, remainingCount >= byteCount else { throw truncated(what(), byteCount) }
        let start = bytes.startIndex + offset
        offset += byteCount
        return bytes[start..<start + byteCount]
    }

    /// A count of at most `max`, then as many bytes.
    package mutating func readString(
        max: Int, _ what: @autoclosure () -> String
    ) throws(MalformedBytes) -> ArraySlice<UInt8> {
        let count = try readCount(max: UInt64(max), what())
        return try read(raw: Int(count), what())
    }

    /// A count of at most `max`, then as many bytes of UTF-8. What is none is replaced; if the text is longer than `max` bytes then,
    /// it is refused.
    package mutating func readText(max: Int, _ what: @autoclosure () -> String) throws(MalformedBytes) -> String {
        let text = String(decoding: try readString(max: max, what()), as: UTF8.self)
        guard text.utf8.count <= max else { throw MalformedBytes(what(), at: offset, "no UTF-8") }
        return text
    }

    package func expectEnd(_ what: @autoclosure () -> String) throws(MalformedBytes) {
        guard isAtEnd else { throw MalformedBytes(what(), at: offset, "\(remainingCount) bytes too many") }
    }

    private func truncated(_ what: String, _ needed: Int) -> MalformedBytes {
        MalformedBytes(what, at: offset, "\(needed) bytes needed, \(remainingCount) there")
    }
}

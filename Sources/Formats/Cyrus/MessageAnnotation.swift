/// One entry of cyrus.annotations (imap/annotate.c): something said of a message beside its flags.
///
///     key      uid in decimal 00 | entry 00 | userid 00              of the owner the userid is "[.OwNeR.]"
///     value    size, a slot of an unsigned long: 4 bytes big-endian, zeros behind
///              value | 00 | "text/plain" 00 | time, such a slot
///              modseq 8 | flags 1, bit 0: deleted                    since 2.5
package struct MessageAnnotation: Equatable, Sendable {
    package let uid: UInt32
    package let entry: [UInt8]
    /// Nothing: the owner of the mailbox, whoever that is.
    package let user: [UInt8]?
    package let value: ArraySlice<UInt8>
    package let isDeleted: Bool

    static let owner = Array("[.OwNeR.]".utf8)

    /// Nothing for an entry that is not about a message.
    package init?(key: ArraySlice<UInt8>, value: ArraySlice<UInt8>) throws(MalformedBytes) {
        let parts = key.split(separator: 0, maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count >= 3 else { throw MalformedBytes("annotation", at: 0, "a key without three parts") }
        guard let uid = UInt32(String(decoding: parts[0], as: UTF8.self)), uid != 0 else { return nil }
        self.uid = uid
        entry = Array(parts[1])
        user = parts[2].elementsEqual(Self.owner) ? nil : Array(parts[2])
        (self.value, isDeleted) = try Self.content(value)
    }

    private static func content(_ bytes: ArraySlice<UInt8>) throws(MalformedBytes) -> (ArraySlice<UInt8>, Bool) {
        let image = FileImage(bytes)
        guard image.holds(4, at: 0) else { throw MalformedBytes("annotation", at: bytes.count, "a value without size") }
        let byteCount = Int(image.integer(UInt32.self, at: 0))
        // Hosts of 64 bits wrote eight bytes, those of 32 four.
        for slot in [8, 4] {
            let end = slot + byteCount
            guard image.holds(type.count, at: end), image.slice(end..<end + type.count).elementsEqual(type) else {
                continue
            }
            let flags = end + type.count + slot + 8
            let isDeleted = image.holds(1, at: flags) && image.integer(UInt8.self, at: flags) & 1 == 1
            return (image.slice(slot..<end), isDeleted)
        }
        throw MalformedBytes("annotation", at: 0, "no type behind a value of \(byteCount) bytes")
    }

    private static let type = [0] + Array("text/plain".utf8) + [0]
}

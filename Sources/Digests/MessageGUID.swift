internal import Crypto

/// SHA-1 of a whole message file, which is what Cyrus calls its GUID (imap/message_guid.c).
package struct MessageGUID: Hashable, Sendable {
    /// 20 bytes; all zero is Cyrus's "none".
    package let bytes: [UInt8]

    package static let byteCount = 20

    package init(bytes: [UInt8]) { self.bytes = bytes }

    package init(of message: [UInt8]) { bytes = Array(Insecure.SHA1.hash(data: message)) }

    package var isNull: Bool { bytes.allSatisfy { $0 == 0 } }
}

extension MessageGUID: CustomStringConvertible {
    /// 40 hexadecimal digits.
    package var description: String {
        bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}

/// The same of a message that is read piece by piece.
package struct MessageGUIDSum {
    private var hash = Insecure.SHA1()

    package init() {}

    package mutating func append(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }

    package func finish() -> MessageGUID { MessageGUID(bytes: Array(hash.finalize())) }
}

internal import Crypto

/// SHA-256: what links batches into a chain, and names certificates.
package struct ChainHash: Hashable, Sendable, CustomStringConvertible {
    /// 32 bytes.
    package let bytes: [UInt8]

    package static let byteCount = 32
    /// What the first batch of a first epoch follows.
    package static let zero = ChainHash(bytes: [UInt8](repeating: 0, count: byteCount))

    package init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "a chain hash has 32 bytes, not \(bytes.count)")
        self.bytes = bytes
    }

    /// SHA-256 of the pieces, one after the other.
    package init(of pieces: [UInt8]...) {
        var hash = SHA256()
        for piece in pieces { hash.update(data: piece) }
        bytes = Array(hash.finalize())
    }

    /// 64 hexadecimal digits.
    package var description: String {
        bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}

/// The same of bytes that come piece by piece.
package struct ChainHashSum {
    private var hash = SHA256()

    package init() {}

    package mutating func append(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }
    package mutating func append(_ bytes: [UInt8]) { hash.update(data: bytes) }

    package func finish() -> ChainHash { ChainHash(bytes: Array(hash.finalize())) }
}

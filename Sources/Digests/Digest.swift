internal import CDigest

/// The fingerprint of some content: 128 bits of XXH3.
///
/// Not a defence against a forger (the chain of batches is SHA-256, `ChainHash`); against everything that happens
/// by accident it is as good, at memory speed.
package struct Digest: Hashable, Sendable {
    package let low: UInt64
    package let high: UInt64

    package static let byteCount = 16
    /// Of no bytes at all.
    package static let empty = Digest(of: [])

    package init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    /// The digest of `bytes` as one piece; of a file's content take `PageTable.digest`.
    package init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { Digest(of: $0) }
    }

    package init(of bytes: UnsafeRawBufferPointer) {
        let hash = ms_xxh128(bytes.baseAddress, bytes.count)
        self.init(low: hash.low, high: hash.high)
    }
}

extension Digest: CustomStringConvertible {
    /// 32 hexadecimal digits.
    package var description: String { hexadecimal(high) + hexadecimal(low) }
}

/// Sixteen lower-case digits.
package func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// XXH3-64: notices damage in transit and at rest.
package func checksum64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    ms_xxh64(bytes.baseAddress, bytes.count)
}

package import Digests

/// The digest of a set of files: the sum, modulo 2^128, of the digests of (path, content). Order does not matter.
package struct ManifestSum: Equatable, Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    package init() {}

    package mutating func add(_ path: StorePath, _ content: Digest) {
        var writer = ByteWriter(reserving: path.path.count + 64)
        writer.write(path)
        writer.write(content)
        let digest = Digest(of: writer.bytes)
        let (sum, carried) = low.addingReportingOverflow(digest.low)
        low = sum
        high = high &+ digest.high &+ (carried ? 1 : 0)
    }

    package var digest: Digest { Digest(low: low, high: high) }
}

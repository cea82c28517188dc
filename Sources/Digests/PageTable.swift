internal import CDigest

/// The digests of a file's pages: tells which pages two versions of a file do not share, and names the whole.
///
///     file   = page 0 | page 1 | … | last page (may be short)      4096 bytes each
///     leaf i = XXH3-128(page i)
///     digest = leaf 0 when there is one page, XXH3-128(leaf 0 ‖ leaf 1 ‖ …) when there are more, of nothing when none
///
/// A change of one page costs the hash of that page and of 16 bytes a page, not of the whole file.
package struct PageTable: Equatable, Sendable {
    package static let pageBytes = 4096

    package private(set) var leaves: [Digest]
    /// Bytes of the file.
    package private(set) var byteCount: Int

    package init() {
        leaves = []
        byteCount = 0
    }

    package init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { PageTable(of: $0) }
    }

    package init(of bytes: UnsafeRawBufferPointer) {
        self.init()
        append(bytes)
    }

    /// Adds what follows; every piece but the last must be a multiple of a page long.
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        precondition(byteCount % Self.pageBytes == 0, "a piece after a short page: \(byteCount) bytes so far")
        byteCount += bytes.count
        leaves.reserveCapacity(Self.pageCount(of: byteCount))
        for start in stride(from: 0, to: bytes.count, by: Self.pageBytes) {
            let page = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + Self.pageBytes, bytes.count)])
            leaves.append(Digest(of: page))
        }
    }

    /// Drops a last page that is short, so that more can be appended.
    package mutating func keepWholePages() {
        guard byteCount % Self.pageBytes != 0 else { return }
        leaves.removeLast()
        byteCount = leaves.count * Self.pageBytes
    }

    /// Pages changed in place, and a new length: `page` must give the bytes of each page named.
    package mutating func update<Failure: Error>(
        pages changed: some Sequence<Int>, byteCount newCount: Int, page: (Int) throws(Failure) -> [UInt8]
    ) throws(Failure) {
        let count = Self.pageCount(of: newCount)
        if leaves.count > count { leaves.removeLast(leaves.count - count) }
        while leaves.count < count { leaves.append(.empty) }
        byteCount = newCount
        for index in changed where index < count { leaves[index] = Digest(of: try page(index)) }
    }

    /// What names this content; with `byteCount` it stands for the bytes.
    package var digest: Digest {
        switch leaves.count {
        case 0: .empty
        case 1: leaves[0]
        default: leaves.withUnsafeBytes { Digest(of: $0) }
        }
    }

    package static func pageCount(of byteCount: Int) -> Int { (byteCount + pageBytes - 1) / pageBytes }

    /// The digest of a whole content.
    package static func digest(of bytes: [UInt8]) -> Digest { PageTable(of: bytes).digest }
}

import Digests
import Testing

@Suite struct PageTableTests {
    private let page = PageTable.pageBytes

    private func content(_ byteCount: Int, salt: UInt64 = 1) -> [UInt8] {
        var state = salt
        return (0..<byteCount).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
    }

    @Test(arguments: [0, 1, 4095, 4096, 4097, 8192, 20_000])
    func `leaves are digests of pages, the last of what is left`(_ byteCount: Int) {
        let bytes = content(byteCount)
        let table = PageTable(of: bytes)
        #expect(table.byteCount == byteCount)
        #expect(table.leaves.count == PageTable.pageCount(of: byteCount))
        for (index, leaf) in table.leaves.enumerated() {
            #expect(leaf == Digest(of: Array(bytes[index * page..<min((index + 1) * page, byteCount)])))
        }
    }

    @Test func `the digest of up to a page is the plain one, and above it is of the leaves`() {
        #expect(PageTable().digest == .empty)
        let short = content(100)
        #expect(PageTable(of: short).digest == Digest(of: short))
        let long = PageTable(of: content(page + 1))
        // High half last: the two numbers as they lie in memory, on the little-endian machines there are.
        let leaves = long.leaves.flatMap { leaf in
            (0..<8).map { UInt8(truncatingIfNeeded: leaf.low >> (8 * $0)) }
                + (0..<8).map { UInt8(truncatingIfNeeded: leaf.high >> (8 * $0)) }
        }
        #expect(long.digest == Digest(of: leaves))
        #expect(PageTable.digest(of: content(page + 1)) == long.digest)
    }

    @Test func `appending in pieces gives the same`() {
        let bytes = content(5 * page + 17)
        var table = PageTable()
        for range in [0..<page, page..<4 * page, 4 * page..<bytes.count] {
            Array(bytes[range]).withUnsafeBytes { table.append($0) }
        }
        #expect(table == PageTable(of: bytes))
    }

    @Test(arguments: [0, 1, 4096, 8192, 8193]) func `whole pages stay, and the rest can be appended anew`(
        _ byteCount: Int
    ) {
        let bytes = content(byteCount)
        var table = PageTable(of: bytes)
        table.keepWholePages()
        #expect(table == PageTable(of: Array(bytes.prefix(byteCount / page * page))))
        let longer = bytes + content(3000, salt: 2)
        Array(longer[table.byteCount...]).withUnsafeBytes { table.append($0) }
        #expect(table == PageTable(of: longer))
    }

    @Test(
        arguments: [
            (20_000, 20_000, [0]), (20_000, 20_000, [1, 4]), (20_000, 30_000, [4, 5, 6, 7]), (20_000, 9000, [2]),
            (20_000, 8192, []), (0, 5000, [0, 1]), (20_000, 0, []),
        ])
    func `an update of the changed pages gives the table of the new content`(
        _ oldCount: Int, _ newCount: Int, _ changed: [Int]
    ) {
        let old = content(oldCount)
        var new = Array(old.prefix(newCount)) + content(max(0, newCount - oldCount), salt: 2)
        for index in changed where index * page < new.count { new[index * page] ^= 0xff }
        var table = PageTable(of: old)
        table.update(pages: changed, byteCount: newCount) { Array(new[$0 * page..<min(($0 + 1) * page, new.count)]) }
        #expect(table == PageTable(of: new))
    }

    @Test func `an update that fails says so`() {
        struct Unreadable: Error {}
        var table = PageTable(of: content(page))
        #expect(throws: Unreadable.self) {
            try table.update(pages: [0], byteCount: page) { (_) throws(Unreadable) in throw Unreadable() }
        }
    }
}

import Digests
import Seeded
import Testing

@testable import Delta

@Suite struct ExtentsTests {
    @Test(arguments: Mutation.allCases) func `extents written over the old version give the new one`(
        mutation: Mutation
    ) throws {
        for (seed, length) in lengths.enumerated() {
            var random = SeededGenerator(seed: UInt64(seed) + 100)
            let old = random.mail(length)
            let new = mutation(old, &random)
            let pages = PageTable(of: new).changedPages(against: PageTable(of: old))
            let extents = between(old, new, pages: pages)
            #expect(patched(old, extents, from: new) == new, "length \(length)")
            #expect(isTidy(extents, newBytes: new.count))
            let read = try Extents.between(
                oldBytes: old.count, newBytes: new.count, pages: pages, old: { Array(old[$0]) },
                new: { Array(new[$0]) })
            #expect(read == extents)
        }
    }

    @Test func `extents are exactly the differing bytes, merged over short gaps`() {
        for seed in 0..<300 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let old = random.bytes(Int.random(in: 1...300, using: &random))
            var new = old
            for _ in 0..<Int.random(in: 0...12, using: &random) {
                new[Int.random(in: 0..<new.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            }
            let gap = Int.random(in: 6...20, using: &random)
            #expect(between(old, new, mergeGap: gap) == byteByByte(old, new, gap: gap), "seed \(seed)")
        }
    }

    @Test func `equal versions have no extents`() {
        var random = SeededGenerator(seed: 1)
        let bytes = random.bytes(10_000)
        #expect(between(bytes, bytes).isEmpty)
        #expect(between([], []).isEmpty)
    }

    @Test func `appended bytes are one extent, though no page is named`() {
        var random = SeededGenerator(seed: 2)
        let old = random.bytes(5000)
        #expect(between(old, old + random.bytes(9000), pages: []) == [Extent(offset: 5000, length: 9000)])
    }

    @Test func `a change at the end of the old version is one extent with what is appended`() {
        var random = SeededGenerator(seed: 3)
        let old = random.bytes(5000)
        var new = old + random.bytes(100)
        new[4995] ^= 1
        #expect(between(old, new) == [Extent(offset: 4995, length: 105)])
    }

    @Test func `a shorter version has no extents past its end`() {
        var random = SeededGenerator(seed: 4)
        let old = random.bytes(9000)
        #expect(between(old, Array(old[..<4500])).isEmpty)
        #expect(between(old, []).isEmpty)
    }

    @Test func `pages past the end of a version are passed over`() {
        var random = SeededGenerator(seed: 5)
        let old = random.bytes(5000)
        var new = old
        new[0] ^= 1
        #expect(between(old, new, pages: [0, 1, 2, 1_000_000_000]) == [Extent(offset: 0, length: 1)])
    }

    @Test func `a version with differences without number has a bounded number of extents`() {
        let old = [UInt8](repeating: 0, count: 1_600_000)
        var new = old
        for index in stride(from: 0, to: new.count, by: 16) { new[index] = 1 }
        let extents = between(old, new)
        #expect(extents.count <= Extents.countMax)
        #expect(patched(old, extents, from: new) == new)
        #expect(isTidy(extents, newBytes: new.count))
    }

    @Test func `without the old bytes extents are pages`() {
        #expect(
            Extents.of(pages: [0, 1, 3, 5], newBytes: 4096 * 5 + 10) == [
                Extent(offset: 0, length: 8192), Extent(offset: 12288, length: 4096), Extent(offset: 20480, length: 10),
            ])
    }

    @Test func `changed pages are those that differ, those appended and an old last one that grew`() {
        var random = SeededGenerator(seed: 6)
        let old = random.bytes(4096 * 3 + 100)
        var new = old + random.bytes(4096)
        new[4096] ^= 1
        #expect(PageTable(of: new).changedPages(against: PageTable(of: old)) == [1, 3, 4])
        #expect(PageTable(of: old).changedPages(against: PageTable(of: old)).isEmpty)
        #expect(PageTable(of: []).changedPages(against: PageTable(of: old)).isEmpty)
    }

    private func between(
        _ old: [UInt8], _ new: [UInt8], pages: [Int]? = nil, mergeGap: Int = Extents.mergeGap
    ) -> [Extent] {
        let pages = pages ?? Array(0..<PageTable.pageCount(of: new.count))
        return old.withUnsafeBytes { old in
            new.withUnsafeBytes { Extents.between(old: old, new: $0, pages: pages, mergeGap: mergeGap) }
        }
    }

    /// The slow and plain way.
    private func byteByByte(_ old: [UInt8], _ new: [UInt8], gap: Int) -> [Extent] {
        var extents: [Extent] = []
        for index in new.indices where index >= old.count || old[index] != new[index] {
            if let last = extents.last, index - last.end <= gap {
                extents[extents.count - 1].length = index + 1 - last.offset
            } else {
                extents.append(Extent(offset: index, length: 1))
            }
        }
        return extents
    }

    /// Ascending, apart, within the file.
    private func isTidy(_ extents: [Extent], newBytes: Int) -> Bool {
        zip(extents, extents.dropFirst()).allSatisfy { $0.end < $1.offset }
            && extents.allSatisfy { $0.offset >= 0 && $0.length > 0 && $0.end <= newBytes }
    }
}

/// What a replica does with extents.
func patched(_ old: [UInt8], _ extents: [Extent], from new: [UInt8]) -> [UInt8] {
    var result = Array(old.prefix(new.count))
    result += [UInt8](repeating: 0, count: new.count - result.count)
    for extent in extents { result[extent.range] = new[extent.range] }
    return result
}

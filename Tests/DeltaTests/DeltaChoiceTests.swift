import Digests
import Seeded
import Testing

@testable import Delta

@Suite struct DeltaChoiceTests {
    @Test(arguments: Mutation.allCases) func `whatever is chosen makes the new version from the old one`(
        mutation: Mutation
    ) throws {
        for (seed, length) in lengths.enumerated() {
            var random = SeededGenerator(seed: UInt64(seed) + 7)
            let old = random.mail(length)
            let new = mutation(old, &random)
            let result: [UInt8] =
                switch try choice(old, new) {
                case .same: old
                case .extents(let extents): patched(old, extents, from: new)
                case .delta(let delta): try RsyncDelta.apply(delta, basis: old, resultBytesMax: new.count)
                case .whole: new
                }
            #expect(result == new, "length \(length)")
        }
    }

    @Test func `the same bytes are the same`() throws {
        var random = SeededGenerator(seed: 1)
        let bytes = random.bytes(50_000)
        #expect(try choice(bytes, bytes) == .same)
        #expect(try choice([], []) == .same)
    }

    @Test func `a change in place is sent as extents`() throws {
        var random = SeededGenerator(seed: 2)
        let old = random.bytes(50_000)
        var new = old
        new[30_000] ^= 1
        #expect(try choice(old, new) == .extents([Extent(offset: 30_000, length: 1)]))
    }

    @Test func `a file that was only cut is sent as no extents`() throws {
        var random = SeededGenerator(seed: 3)
        let old = random.bytes(50_000)
        #expect(try choice(old, Array(old[..<20_000])) == .extents([]))
    }

    @Test func `an insertion is sent as a delta`() throws {
        var random = SeededGenerator(seed: 4)
        let old = random.bytes(100_000)
        guard case .delta(let delta) = try choice(old, [1, 2, 3] + old) else {
            Issue.record("no delta")
            return
        }
        #expect(delta.count < 1000)
    }

    @Test func `a rewritten file is sent whole`() throws {
        var random = SeededGenerator(seed: 5)
        #expect(try choice(random.bytes(100_000), random.bytes(100_000)) == .whole)
        #expect(try choice([], random.bytes(100_000)) == .whole)
        #expect(try choice(random.bytes(100_000), []) == .whole)
    }

    @Test func `a long rewritten file is given up after a sample`() throws {
        var random = SeededGenerator(seed: 6)
        let old = random.bytes(DeltaChoice.sampledFileBytesMin)
        let new = random.bytes(DeltaChoice.sampledFileBytesMin)
        var readBytes = 0
        let choice = try DeltaChoice.smallest(
            from: PageTable(of: old), to: PageTable(of: new), oldBytes: { Array(old[$0]) },
            newBytes: {
                readBytes += $0.count
                return Array(new[$0])
            })
        #expect(choice == .whole)
        // Once for the extents, then the sample.
        #expect(readBytes == new.count + DeltaChoice.samplePieceCount * DeltaChoice.samplePieceBytes)
    }

    @Test func `a long file that moved is found by the sample`() throws {
        var random = SeededGenerator(seed: 7)
        let old = random.bytes(DeltaChoice.sampledFileBytesMin)
        guard case .delta = try choice(old, [1, 2, 3] + old) else {
            Issue.record("no delta")
            return
        }
    }

    @Test(arguments: [0, 3]) func `what would carry more than it may is sent whole`(_ moved: Int) throws {
        var random = SeededGenerator(seed: 9)
        let old = random.bytes(100_000)
        // In place, or moved; both need 10,000 bytes.
        let new = random.bytes(moved) + random.bytes(10_000) + old[10_000...]
        func choice(_ payloadBytesMax: Int) throws -> DeltaChoice {
            try .smallest(
                from: PageTable(of: old), to: PageTable(of: new), payloadBytesMax: payloadBytesMax,
                oldBytes: { Array(old[$0]) }, newBytes: { Array(new[$0]) })
        }
        #expect(try choice(16_000) != .whole)
        #expect(try choice(8_000) == .whole)
    }

    @Test func `a small file is never sent as a delta`() throws {
        var random = SeededGenerator(seed: 8)
        let old = random.bytes(10_000)
        #expect(try choice(old, [1, 2, 3] + old) == .whole)
    }

    @Test func `a change that LZ4 makes nearly nothing is left to it`() throws {
        // A file of zeros that got longer by a half: what a delta could save is not worth a rewrite.
        let old = [UInt8](repeating: 0, count: 100_000)
        let new = [UInt8](repeating: 0, count: 150_000)
        #expect(try choice(old, new) == .extents([Extent(offset: 100_000, length: 50_000)]))
    }

    private func choice(_ old: [UInt8], _ new: [UInt8]) throws -> DeltaChoice {
        try old.withUnsafeBytes { old in
            try new.withUnsafeBytes { new in
                try DeltaChoice.smallest(from: old, PageTable(of: old), to: new, PageTable(of: new))
            }
        }
    }
}

import Seeded
import Testing

@testable import Delta

@Suite struct RsyncDeltaTests {
    @Test(arguments: Mutation.allCases) func `a delta applied to its basis gives the new version`(
        mutation: Mutation
    ) throws {
        for (seed, length) in lengths.enumerated() {
            var random = SeededGenerator(seed: UInt64(seed))
            let old = random.mail(length)
            let new = mutation(old, &random)
            let signature = try Signature.make(of: old, blockBytes: [256, 2048].randomElement(using: &random))
            let delta = try RsyncDelta.encode(signature: signature, new: new)
            let result = try RsyncDelta.apply(delta, basis: old, resultBytesMax: new.count)
            #expect(result == new, "length \(length)")
        }
    }

    @Test(arguments: Mutation.allCases) func `a streamed patch gives what a patch in memory gives`(
        mutation: Mutation
    ) throws {
        var random = SeededGenerator(seed: 4711)
        let old = random.mail(300_000)
        let new = mutation(old, &random)
        let delta = try RsyncDelta.encode(signature: Signature.make(of: old), new: new)
        var result: [UInt8] = []
        let count = try RsyncDelta.apply(
            delta, basisBytes: old.count, basis: { Array(old[$0]) }, resultBytesMax: new.count,
            sink: { made in result.append(contentsOf: made) })
        #expect(result == new)
        #expect(count == new.count)
    }

    @Test func `a delta of an insertion is little longer than what was inserted`() throws {
        var random = SeededGenerator(seed: 1)
        let old = random.bytes(300_000)
        let new = random.bytes(200) + old
        let delta = try RsyncDelta.encode(signature: Signature.make(of: old), new: new)
        #expect(delta.count < 300)
    }

    @Test func `a delta without end fits no bound and is given up`() throws {
        var random = SeededGenerator(seed: 2)
        let signature = try LoadedSignature.load(Signature.make(of: random.bytes(600_000)))
        let new = random.bytes(600_000)
        var readBytes = 0
        let delta = try RsyncDelta.encode(signature, byteCount: new.count, deltaBytesMax: 100_000) { range in
            readBytes = range.upperBound
            return Array(new[range])
        }
        #expect(delta == nil)
        #expect(readBytes < new.count)
    }

    @Test func `every cut delta is an error`() throws {
        let (old, new, delta) = try smallDelta()
        for length in 0..<delta.count {
            #expect(throws: DeltaError.self) {
                try RsyncDelta.apply(Array(delta[..<length]), basis: old, resultBytesMax: new.count)
            }
        }
    }

    @Test func `a flipped bit anywhere never traps and the result stays in its bound`() throws {
        let (old, new, delta) = try smallDelta()
        for bit in 0..<delta.count * 8 {
            var bad = delta
            bad[bit / 8] ^= 1 << (bit % 8)
            expectBounded(bad, basis: old, resultBytesMax: new.count)
        }
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func `random commands never trap and the result stays in its bound`(
        seed: UInt64
    ) throws {
        var random = SeededGenerator(seed: seed)
        let basis = random.bytes(5000)
        // Copies with every width of offset and length are the commands 0x45...0x54.
        var delta = magic
        for _ in 0..<20 {
            delta.append(UInt8.random(in: 0x40...0x60, using: &random))
            delta += random.bytes(Int.random(in: 0...16, using: &random)).map { $0 & 0x87 }
        }
        expectBounded(delta, basis: basis, resultBytesMax: 20_000)
    }

    @Test func `bytes after the end of a delta are an error`() throws {
        let (old, new, delta) = try smallDelta()
        let error = #expect(throws: DeltaError.self) {
            try RsyncDelta.apply(delta + [0], basis: old, resultBytesMax: new.count)
        }
        #expect(error?.description == "delta: not valid")
    }

    @Test(arguments: [
        magic + [0x54, 0, 0, 0, 0, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 11, 0],
        magic + [0x54, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 11, 0],
        magic + [0x54, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0],
        magic + [0x54, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0],
        magic + [0x54, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0],
        magic + [0x45, 200, 1, 0],
    ])
    func `a copy from outside the basis is an error`(delta: [UInt8]) throws {
        let basis = [UInt8](repeating: 7, count: 100)
        #expect(throws: DeltaError.self) { try RsyncDelta.apply(delta, basis: basis, resultBytesMax: .max) }
    }

    @Test func `a delta that copies again and again stops at the bound`() throws {
        let basis = [UInt8](repeating: 7, count: 50_000)
        // Copy 50,000 bytes from offset 0, a hundred times: 5 MB from 500 bytes.
        var delta = magic
        for _ in 0..<100 { delta += [0x46, 0, 0xc3, 0x50] }
        delta.append(0)
        var sunkBytes = 0
        let error = #expect(throws: DeltaError.self) {
            try RsyncDelta.apply(
                delta, basisBytes: basis.count, basis: { Array(basis[$0]) }, resultBytesMax: 120_000,
                sink: { sunkBytes += $0.count })
        }
        #expect(error?.description == "delta: result: longer than 120000 bytes")
        #expect(sunkBytes <= 120_000)
        #expect(try RsyncDelta.apply(delta, basis: basis, resultBytesMax: 5_000_000).count == 5_000_000)
    }

    @Test func `what a reader or a sink throws comes out`() throws {
        struct Gone: Error {}
        let (old, new, delta) = try smallDelta()
        func isGone(_ error: DeltaError?) -> Bool {
            if case .caller(let inner) = error { inner is Gone } else { false }
        }
        let reading = #expect(throws: DeltaError.self) {
            try RsyncDelta.apply(
                delta, basisBytes: old.count, basis: { _ in throw Gone() }, resultBytesMax: new.count, sink: { _ in })
        }
        #expect(isGone(reading))
        let sinking = #expect(throws: DeltaError.self) {
            try RsyncDelta.apply(
                delta, basisBytes: old.count, basis: { Array(old[$0]) }, resultBytesMax: new.count,
                sink: { _ in throw Gone() })
        }
        #expect(isGone(sinking))
        let encoding = #expect(throws: DeltaError.self) {
            try Signature.make(byteCount: 10) { _ in throw Gone() }
        }
        #expect(isGone(encoding))
    }

    @Test func `a reader that gives less than it was asked for is an error`() throws {
        let (old, new, delta) = try smallDelta()
        #expect(throws: DeltaError.self) {
            try RsyncDelta.apply(
                delta, basisBytes: old.count, basis: { Array(old[$0].dropLast()) }, resultBytesMax: new.count,
                sink: { _ in })
        }
    }

    /// A delta with literals and copies of several widths.
    private func smallDelta() throws -> (old: [UInt8], new: [UInt8], delta: [UInt8]) {
        var random = SeededGenerator(seed: 42)
        let old = random.bytes(70_000)
        let new = Array(old[66_000...] + random.bytes(70) + old[300..<2300] + random.bytes(5) + old[..<600])
        let delta = try RsyncDelta.encode(signature: Signature.make(of: old, blockBytes: 128), new: new)
        try #require(delta.count < 1000)
        return (old, new, delta)
    }

    private func expectBounded(_ delta: [UInt8], basis: [UInt8], resultBytesMax: Int) {
        do throws(DeltaError) {
            let result = try RsyncDelta.apply(delta, basis: basis, resultBytesMax: resultBytesMax)
            #expect(result.count <= resultBytesMax)
        } catch {
            if case .librsync(let code) = error { Issue.record("librsync: \(code)") }
        }
    }
}

/// RS_DELTA_MAGIC
private let magic: [UInt8] = [0x72, 0x73, 0x02, 0x36]

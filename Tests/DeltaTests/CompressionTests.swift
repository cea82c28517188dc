import Seeded
import Testing

@testable import Delta

@Suite struct CompressionTests {
    @Test(arguments: [Compression.Effort.balanced, .fast]) func `what is compressed comes out as it was`(
        effort: Compression.Effort
    ) throws {
        for (seed, length) in lengths.enumerated() {
            var random = SeededGenerator(seed: UInt64(seed))
            let raw = random.mail(length)
            guard let compressed = try Compression.compress(raw, effort: effort) else { continue }
            #expect(compressed.count < raw.count)
            #expect(try Compression.decompress(compressed, rawBytes: raw.count) == raw)
        }
    }

    @Test func `a slice of a batch is decompressed where it lies`() throws {
        var random = SeededGenerator(seed: 1)
        let raw = random.mail(10_000)
        let compressed = try #require(try Compression.compress(raw))
        let batch = [1, 2, 3] + compressed + [4]
        #expect(try Compression.decompress(batch[3..<batch.count - 1], rawBytes: raw.count) == raw)
    }

    @Test func `what doesn't get smaller isn't compressed`() throws {
        var random = SeededGenerator(seed: 2)
        #expect(try Compression.compress([UInt8]()) == nil)
        #expect(try Compression.compress([7]) == nil)
        #expect(try Compression.compress(random.bytes(5000)) == nil)
    }

    @Test func `every cut piece is an error`() throws {
        let (raw, compressed) = try small()
        for length in 0..<compressed.count {
            #expect(throws: DeltaError.self) {
                try Compression.decompress(compressed[..<length], rawBytes: raw.count)
            }
        }
    }

    @Test func `a flipped bit never traps, and the length stays what was announced`() throws {
        let (raw, compressed) = try small()
        for bit in 0..<compressed.count * 8 {
            var bad = compressed
            bad[bit / 8] ^= 1 << (bit % 8)
            do throws(DeltaError) {
                #expect(try Compression.decompress(bad, rawBytes: raw.count).count == raw.count)
            } catch {
                if case .librsync = error { Issue.record("\(error)") }
            }
        }
    }

    @Test func `another raw length than the true one is an error`() throws {
        let (raw, compressed) = try small()
        for length in [Int.min, -1, 0, 1, raw.count - 1, raw.count + 1, raw.count * 2, 1 << 31, .max] {
            #expect(throws: DeltaError.self) { try Compression.decompress(compressed, rawBytes: length) }
        }
    }

    @Test func `a bomb stops at the length announced`() throws {
        let bomb = try #require(try Compression.compress([UInt8](repeating: 0, count: 4_000_000)))
        #expect(bomb.count < 20_000)
        #expect(throws: DeltaError.self) { try Compression.decompress(bomb, rawBytes: 100_000) }
    }

    @Test func `no memory is taken for a length that can't be`() throws {
        // 1 GiB from 100 bytes: refused before it is allocated.
        let error = #expect(throws: DeltaError.self) {
            try Compression.decompress([UInt8](repeating: 0xff, count: 100), rawBytes: 1 << 30)
        }
        #expect(error?.description == "compressed: not valid")
    }

    @Test func `more than LZ4 takes at once is an error`() throws {
        // Only the length is looked at.
        var byte: UInt8 = 0
        withUnsafePointer(to: &byte) { pointer in
            let huge = UnsafeRawBufferPointer(start: pointer, count: Compression.rawBytesMax + 1)
            #expect(throws: DeltaError.self) { try Compression.compress(huge) }
        }
    }

    @Test func `an estimate is near the truth`() throws {
        var random = SeededGenerator(seed: 3)
        let raw = random.mail(300_000)
        let compressed = try #require(try Compression.compress(raw))
        let estimate = try Compression.estimatedBytes(of: raw.count, like: Array(raw[100_000..<150_000]))
        #expect(abs(estimate - compressed.count) < compressed.count / 10)
    }

    private func small() throws -> (raw: [UInt8], compressed: [UInt8]) {
        var random = SeededGenerator(seed: 4)
        let raw = random.mail(2000)
        return (raw, try #require(try Compression.compress(raw)))
    }
}

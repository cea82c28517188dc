import Digests
import Formats
import Seeded
import Testing

@Suite struct CacheRecordTests {
    private func index() throws -> IndexImage { try IndexImage(CyrusFixture.bytes("mailbox/cyrus.index")) }
    private func cache() throws -> [UInt8] { try CyrusFixture.bytes("mailbox/cyrus.cache") }

    @Test func `each message of the fixture has a sound record and the generation agrees`() throws {
        let (index, cache) = (try index(), try cache())
        #expect(CacheRecord.generation(of: cache[...]) == index.header.generation)
        var end = CacheRecord.fileHeaderByteCount
        for record in index.records {
            guard case .sound(let range) = CacheRecord.verdict(on: record, in: cache[...]) else {
                Issue.record("uid \(record.uid)")
                continue
            }
            #expect(range.lowerBound == end)
            end = range.upperBound
        }
        #expect(end == cache.count)
    }

    @Test func `a part of the file is enough`() throws {
        let (index, cache) = (try index(), try cache())
        let offset = index.record(at: 3).cacheOffset
        let verdict = CacheRecord.verdict(on: index.record(at: 3), in: cache[offset...], from: offset)
        #expect(verdict == CacheRecord.verdict(on: index.record(at: 3), in: cache[...]))
        #expect(CacheRecord.verdict(on: index.record(at: 2), in: cache[offset...], from: offset) == .missing)
    }

    @Test func `every truncation and every flipped bit of a record is found`() throws {
        let (index, cache) = (try index(), try cache())
        let record = index.record(at: 7)
        guard case .sound(let range) = CacheRecord.verdict(on: record, in: cache[...]) else { return }
        for end in range.lowerBound..<range.upperBound {
            #expect(CacheRecord.verdict(on: record, in: cache[..<end]) == .missing)
        }
        for offset in range {
            for bit in 0..<8 {
                #expect(!CacheRecord.verdict(on: record, in: cache.flipping(bit: bit, at: offset)[...]).isSound)
            }
        }
    }

    @Test func `no record, no checksum, no file`() throws {
        let builder = IndexBuilder.all[10]
        let image = try IndexImage(
            builder.bytes(
                [:],
                records: [
                    ["uid": 1], ["uid": 2, "cacheOffset": 4], ["uid": 3, "cacheOffset": 3],
                    ["uid": 4, "cacheOffset": 0xffff_fff0, "cacheVersion": 0xffff_000b],
                ]))
        let empty = [UInt8](repeating: 0, count: 44)
        #expect(CacheRecord.verdict(on: image.record(at: 0), in: []) == .none)
        #expect(CacheRecord.verdict(on: image.record(at: 1), in: empty[...]) == .unchecked(4..<44))
        #expect(CacheRecord.verdict(on: image.record(at: 2), in: empty[...]) == .missing)
        #expect(image.record(at: 3).cacheOffset == 0xffff_ffff_fff0)
        #expect(CacheRecord.verdict(on: image.record(at: 3), in: empty[...]) == .missing)
        #expect(CacheRecord.generation(of: []) == nil)
    }

    @Test func `mutations never trap`() throws {
        let (index, cache) = (try index(), try cache())
        var generator = SeededGenerator(seed: 6)
        for _ in 0..<1000 {
            let mutant = cache.mutated(using: &generator)
            for record in index.records { _ = CacheRecord.verdict(on: record, in: mutant[...]) }
        }
    }
}

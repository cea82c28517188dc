import Seeded
import Testing

@testable import Formats

@Suite struct SkiplistDatabaseTests {
    @Test func `the pairs are those that Cyrus shows`() throws {
        let database = try SkiplistDatabase(CyrusFixture.bytes("conversations.db"))
        let shown: [UInt8] = try database.entries().flatMap { Array($0.key) + [0x09] + Array($0.value) + [0x0a] }
        #expect(try CyrusFixture.bytes("conversations.db.show") == shown)
        #expect(database.findings() == [])
        #expect(try database.committedByteCount() == database.image.byteCount)
        #expect(database.header.levelMax == 20)
    }

    @Test func `an empty database`() throws {
        var bytes = SkiplistHeader.magic
        for value in [1, 2, 20, 1, 0, 144, 1_700_000_000, 257, 0, 0] as [UInt32] { bytes.add(value) }
        bytes += [UInt8](repeating: 0, count: 80) + [0xff, 0xff, 0xff, 0xff]
        let database = try SkiplistDatabase(bytes)
        #expect(try database.entries().isEmpty)
        #expect(database.header.lastRecovery == 1_700_000_000)
        #expect(try database.committedByteCount() == 144)
        #expect(database.findings() == [])
    }

    /// Which the end alone tells, without the log between.
    private func isClean(_ bytes: [UInt8]) throws -> Bool {
        try SkiplistHeader(decoding: Array(bytes.prefix(SkiplistHeader.byteCount)))
            .isClean(fileByteCount: bytes.count, last: bytes.suffix(SkiplistHeader.lastByteCount))
    }

    @Test func `a file ends with a transaction or with its list`() throws {
        let bytes = try CyrusFixture.bytes("conversations.db")
        let database = try SkiplistDatabase(bytes)
        #expect(try isClean(bytes))
        #expect(try isClean(Array(bytes[..<database.header.logStart])))
        #expect(try !isClean(bytes + [0, 0, 0, 0]))
        #expect(try !isClean(bytes + [0, 0, 0, 255]))
        #expect(try isClean(bytes + [0, 0, 0, 4, 0, 0, 0, 144, 0, 0, 0, 255]))
        #expect(try !isClean(bytes.dropLast()))
        #expect(try !isClean(bytes.dropLast(4)))
        #expect(try !isClean(Array(bytes[..<(database.header.logStart - 4)])))
        #expect(throws: MalformedBytes.self) { try isClean(bytes.prefix(47) + []) }
    }

    @Test func `an unfinished transaction is told`() throws {
        let bytes = try CyrusFixture.bytes("conversations.db")
        for tail in [[0, 0, 0, 2], [0, 0, 0, 4, 0, 0, 0, 144], [0, 0, 0, 2, 0, 0, 0, 9]] as [[UInt8]] {
            let database = try SkiplistDatabase(bytes + tail)
            #expect(
                database.findings() == [
                    .unfinished(committedByteCount: bytes.count, fileByteCount: bytes.count + tail.count)
                ])
            #expect(try !isClean(bytes + tail))
        }
    }

    @Test func `every truncation is found and read without harm`() throws {
        let bytes = try CyrusFixture.bytes("conversations.db")
        for count in stride(from: 0, to: bytes.count, by: 3) {
            guard let database = try? SkiplistDatabase(Array(bytes[..<count])) else { continue }
            let committed = try? database.committedByteCount()
            // Cut exactly behind a COMMIT a shorter file is whole by its log; then links lead out of it.
            if committed == count { #expect(database.findings().tellDamage) }
            #expect(!database.findings().isEmpty)
        }
    }

    @Test func `flipped bits never trap or loop`() throws {
        let bytes = try CyrusFixture.bytes("conversations.db")
        for offset in stride(from: 0, to: bytes.count, by: 7) {
            let database = try? SkiplistDatabase(bytes.flipping(bit: offset % 8, at: offset))
            _ = database?.findings()
        }
    }

    @Test func `a list that bites its tail ends with an error`() throws {
        var bytes = try CyrusFixture.bytes("conversations.db")
        let database = try SkiplistDatabase(bytes)
        let entries = try database.entries()
        let last = try database.record(at: entries[entries.count - 1].offset)
        bytes.put(UInt32(entries[0].offset), at: last.pointers)
        #expect(throws: MalformedBytes.self) { try SkiplistDatabase(bytes).entries() }
        #expect(try SkiplistDatabase(bytes).findings().tellDamage)
    }

    @Test func `mutations never trap`() throws {
        let bytes = try CyrusFixture.bytes("conversations.db")
        var generator = SeededGenerator(seed: 8)
        for _ in 0..<300 {
            guard let database = try? SkiplistDatabase(bytes.mutated(using: &generator)) else { continue }
            _ = database.findings()
            _ = try? database.entries()
        }
    }
}

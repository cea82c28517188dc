import Digests
import Seeded
import Testing

@testable import Formats

@Suite struct TwoskipDatabaseTests {
    /// As `cyr_dbtool … show` prints: key, tab, value, line feed.
    private func shown(_ entries: [DatabaseEntry]) -> [UInt8] {
        entries.flatMap { Array($0.key) + [0x09] + Array($0.value) + [0x0a] }
    }

    @Test(arguments: ["mailboxes.db", "annotations.db", "deliver.db", "seen.db"])
    func `the pairs are those that Cyrus shows`(_ name: String) throws {
        let database = try TwoskipDatabase(CyrusFixture.bytes(name))
        #expect(try shown(database.entries()) == CyrusFixture.bytes(name + ".show"))
        #expect(database.isClean)
        #expect(database.findings() == [])
    }

    @Test(arguments: ["mailboxes.db", "deliver.db"])
    func `each key is found by its value`(_ name: String) throws {
        let database = try TwoskipDatabase(CyrusFixture.bytes(name))
        for entry in try database.entries() { #expect(try database.value(of: entry.key) == entry.value) }
        for missing in ["", "A", "Nuser", "zzz", "\u{1}"] { #expect(try database.value(of: utf8(missing)) == nil) }
    }

    /// Each step of the walk is as long as the file: found by reading, not by fuzzing.
    @Test func `a list whose every step goes through thousands of deletions ends in reasonable time`() throws {
        let count = 20_000
        var bytes = TwoskipBuilder.file(
            [.pair("a", [1], level: 1)] + [TwoskipBuilder.Item](repeating: .deletion, count: count))
        // The last deletion leads back to the pair, so the pair follows itself, a file further on each time.
        let pair = 64 + 8 + 32 * 8 + 8
        let last = bytes.count - 24 - 24
        bytes.replaceSubrange(
            last + 8..<last + 16, with: (0..<8).map { UInt8(truncatingIfNeeded: pair >> (56 - 8 * $0)) })
        let crc = crc32(bytes[last..<last + 16])
        bytes.replaceSubrange(
            last + 16..<last + 20, with: (0..<4).map { UInt8(truncatingIfNeeded: crc >> (24 - 8 * $0)) })
        let database = try TwoskipDatabase(bytes)
        let start = ContinuousClock.now
        #expect(throws: MalformedBytes.self) { try database.entries() }
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test func `an empty database has no pairs`() throws {
        let database = try TwoskipDatabase(CyrusFixture.bytes("mailbox/cyrus.annotations"))
        #expect(try database.entries().isEmpty)
        #expect(try database.value(of: utf8("x")) == nil)
        #expect(database.findings() == [])
    }

    @Test(arguments: ["annotations.db", "deliver.db", "seen.db"])
    func `every truncation is found and read without harm`(_ name: String) throws {
        let bytes = try CyrusFixture.bytes(name)
        for count in 0..<bytes.count {
            guard let database = try? TwoskipDatabase(Array(bytes[..<count])) else {
                #expect(count < 64)
                continue
            }
            #expect(!database.isClean)
            #expect(database.findings().tellDamage)
            _ = try? database.entries()
            _ = try? database.value(of: utf8("Nuser"))
        }
    }

    /// Bytes of header, dummy and live records: all under some checksum.
    private func protected(_ database: TwoskipDatabase) throws -> [Range<Int>] {
        var ranges = [0..<336]
        var cursor = TwoskipCursor(database)
        while let record = try cursor.nextRecord() { ranges.append(record.offset..<record.end) }
        return ranges
    }

    @Test(arguments: ["annotations.db", "deliver.db", "seen.db"])
    func `one flipped bit in what is live is found, in what is not it does no harm`(_ name: String) throws {
        let bytes = try CyrusFixture.bytes(name)
        let live = try protected(TwoskipDatabase(bytes))
        for offset in bytes.indices {
            for bit in 0..<8 {
                let database = try? TwoskipDatabase(bytes.flipping(bit: bit, at: offset))
                let findings = database?.findings() ?? [.wrongHeaderCRC(stored: 0, computed: 0)]
                if live.contains(where: { $0.contains(offset) }) { #expect(!findings.isEmpty, "offset \(offset)") }
            }
        }
    }

    @Test func `flipped bits of a large file are found`() throws {
        let bytes = try CyrusFixture.bytes("mailboxes.db")
        let live = try protected(TwoskipDatabase(bytes))
        for range in live {
            let offset = range.lowerBound + (range.lowerBound / 8) % range.count
            let database = try? TwoskipDatabase(bytes.flipping(bit: offset % 8, at: offset))
            #expect(database?.findings().tellDamage ?? true)
        }
    }

    @Test func `mutations never trap and never loop`() throws {
        var generator = SeededGenerator(seed: 7)
        for name in ["deliver.db", "annotations.db", "mailboxes.db"] {
            let bytes = try CyrusFixture.bytes(name)
            for _ in 0..<(name == "mailboxes.db" ? 100 : 2000) {
                guard let database = try? TwoskipDatabase(bytes.mutated(using: &generator)) else { continue }
                _ = database.findings()
                _ = try? database.value(of: utf8("Nuser\u{1f}alice"))
            }
        }
    }

    /// A forger can make the checksums right.
    @Test func `a list that bites its tail ends with an error`() throws {
        var items = [TwoskipBuilder.Item]()
        for key in ["a", "b", "c"] { items.append(.pair(key, [1], level: 1)) }
        let good = TwoskipBuilder.file(items)
        let database = try TwoskipDatabase(good)
        #expect(database.findings() == [])
        let third = try database.entries()[2].offset
        var bad = good
        bad.put(UInt64(336), at: third + 8)
        bad.put(FileImage(bad).checksum(of: third..<third + 24), at: third + 24)
        let looped = try TwoskipDatabase(bad)
        #expect(throws: MalformedBytes.self) { try looped.entries() }
        #expect(looped.findings().contains(.keyNotAscending(offset: 336)))
        #expect(throws: MalformedBytes.self) { try looped.value(of: utf8("d")) }
    }

    @Test func `deletions that lead to each other end with an error`() throws {
        var bytes = TwoskipBuilder.file([.deletion, .deletion])
        let second = 336 + 24
        bytes.put(UInt64(336), at: second + 8)
        bytes.put(FileImage(bytes).checksum(of: second..<second + 16), at: second + 16)
        let database = try TwoskipDatabase(bytes)
        #expect(throws: MalformedBytes.self) { try database.entries() }
        #expect(database.findings().tellDamage)
    }

    @Test func `keys of more than 65534 bytes and empty values`() throws {
        let long = String(repeating: "k", count: 70_000)
        let bytes = TwoskipBuilder.file([
            .pair("a", [], level: 2), .pair(long, [7], level: 1), .pair("z", [8, 9], level: 3),
        ])
        let database = try TwoskipDatabase(bytes)
        #expect(database.findings() == [])
        #expect(try database.entries().map(\.key.count) == [1, 70_000, 1])
        #expect(try database.value(of: utf8(long)) == [7])
        #expect(try database.value(of: utf8("z")) == [8, 9])
        #expect(try database.value(of: utf8("a")) == [])
    }

    @Test func `deletions are passed over`() throws {
        let bytes = TwoskipBuilder.file([
            .deletion, .pair("b", [2], level: 1), .deletion, .deletion, .pair("e", [5], level: 1), .deletion,
        ])
        let database = try TwoskipDatabase(bytes)
        #expect(database.findings() == [])
        #expect(try database.entries().map(\.key) == [[0x62], [0x65]])
        #expect(try database.value(of: utf8("c")) == nil)
    }

    @Test func `what was not committed is not seen`() throws {
        let whole = TwoskipBuilder.file([.pair("a", [1], level: 1), .pair("b", [2], level: 1)])
        let first = 336
        let second = first + 8 + 16 + 8 + 8
        // As if "b" were being added: the header still ends before it, "a" already points to it.
        var bytes = whole
        bytes.replaceSubrange(0..<64, with: TwoskipBuilder.header(1, 1, second, flags: 1))
        let database = try TwoskipDatabase(bytes)
        #expect(try database.entries().map(\.value) == [[1]])
        #expect(!database.isClean && database.header.isDirty)
        #expect(database.findings() == [.unfinished(committedByteCount: second, fileByteCount: whole.count)])
        #expect(!database.findings().tellDamage)
    }

    @Test func `a header tells whether a file of some length is clean`() throws {
        let header = try TwoskipHeader(decoding: TwoskipBuilder.header(3, 5, 1000))
        #expect(header.isClean(fileByteCount: 1000))
        #expect(!header.isClean(fileByteCount: 1008))
        #expect(header.generation == 3 && header.recordCount == 5)
        #expect(
            !(try TwoskipHeader(decoding: TwoskipBuilder.header(3, 5, 1000, flags: 1)).isClean(fileByteCount: 1000)))
        #expect(throws: MalformedBytes.self) {
            try TwoskipHeader(decoding: utf8("not a database, but long enough to hold the sixty-four bytes of one"))
        }
    }

    @Test func `a wrong count and keys out of order are found`() throws {
        let wrong = TwoskipBuilder.file([.pair("a", [1], level: 1)], recordCount: 9)
        #expect(try TwoskipDatabase(wrong).findings() == [.wrongCount(stored: 9, computed: 1)])
        let swapped = TwoskipBuilder.file([.pair("b", [1], level: 1), .pair("a", [1], level: 1)])
        #expect(try TwoskipDatabase(swapped).findings() == [.keyNotAscending(offset: 336 + 40)])
    }

    @Test func `the older order has dots before letters`() throws {
        let bytes = TwoskipBuilder.file([.pair("a.b", [1], level: 2), .pair("a-b", [2], level: 1)])
        #expect(try TwoskipDatabase(bytes).findings(order: .mailbox) == [])
        #expect(try TwoskipDatabase(bytes).findings(order: .raw) != [])
        #expect(try TwoskipDatabase(bytes).value(of: utf8("a-b"), order: .mailbox) == [2])
    }

    @Test func `a broken upper link is found`() throws {
        var bytes = TwoskipBuilder.file([.pair("a", [1], level: 2), .pair("b", [2], level: 2)])
        // The dummy's lane 1: pointer 2 of 32, behind 8 bytes.
        bytes.put(UInt64(0), at: 64 + 8 + 16)
        bytes.put(FileImage(bytes).checksum(of: 64..<64 + 8 + 256), at: 64 + 8 + 256)
        #expect(try TwoskipDatabase(bytes).findings().contains(.brokenLink(offset: 336, level: 1)))
    }
}

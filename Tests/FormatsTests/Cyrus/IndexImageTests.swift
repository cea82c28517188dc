import Digests
import Formats
import Seeded
import Testing

@Suite struct IndexImageTests {
    // MARK: what Cyrus 3.6.1 wrote

    private func fixture() throws -> [UInt8] { try CyrusFixture.bytes("mailbox/cyrus.index") }

    @Test func `a mailbox of 3_6 is read`() throws {
        let index = try IndexImage(fixture())
        #expect(index.header.version == 17)
        #expect(index.recordCount == 8)
        #expect(index.header.lastUID == 8)
        #expect(index.header.exists == 7)
        #expect(index.records.map(\.uid) == Array(1...8))
        #expect(index.records.map(\.isExpunged) == [false, false, true, false, false, false, false, false])
        #expect(index.record(at: 0).flags.isSuperset(of: [.seen, .answered]))
        #expect(index.record(at: 1).flags.contains(.flagged))
        #expect(index.record(at: 0).hasUserFlag(0) && !index.record(at: 0).hasUserFlag(1))
        #expect(index.record(at: 1).hasUserFlag(1) && index.record(at: 1).hasUserFlag(2))
        #expect(!index.record(at: 1).hasUserFlag(128) && !index.record(at: 1).hasUserFlag(-1))
        #expect(index.findings() == [])
    }

    @Test func `the guid is the digest of the message and the size is its size`() throws {
        let index = try IndexImage(fixture())
        for uid in 1...2 {
            let message = try CyrusFixture.bytes("mailbox/\(uid).")
            #expect(index.record(uid: UInt32(uid))?.guid == MessageGUID(of: message))
            #expect(index.record(uid: UInt32(uid))?.size == UInt64(message.count))
        }
    }

    @Test func `every truncation is found`() throws {
        let bytes = try fixture()
        for count in 0..<bytes.count {
            guard let index = try? IndexImage(bytes[..<count]) else {
                #expect(count < 160)
                continue
            }
            #expect(index.findings().contains(.truncated(counted: 8, whole: (count - 160) / 112)))
        }
    }

    @Test func `one flipped bit at any offset is found`() throws {
        let bytes = try fixture()
        for offset in bytes.indices {
            for bit in 0..<8 {
                guard let index = try? IndexImage(bytes.flipping(bit: bit, at: offset)) else {
                    #expect((8..<20).contains(offset))
                    continue
                }
                #expect(index.findings().tellDamage)
            }
        }
    }

    @Test func `mutations never trap`() throws {
        let bytes = try fixture()
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<5000 {
            guard let index = try? IndexImage(bytes.mutated(using: &generator)) else { continue }
            _ = index.findings()
            for record in index.records {
                _ = (record.guid, record.cacheOffset, record.internalDate, record.isCRCRight)
            }
            _ = index.record(uid: 4)
        }
    }

    @Test func `a part is checked without the rest`() throws {
        let bytes = try fixture().flipping(bit: 0, at: 160 + 5 * 112 + 50)
        let index = try IndexImage(bytes)
        #expect(index.findings(records: 0..<5) == [])
        #expect(index.findings(records: 5..<6) == [.wrongRecordCRC(number: 5, uid: 6)])
        #expect(index.findings(records: 6..<900) == [])
        #expect(index.records(coveringBytes: 160 + 5 * 112..<160 + 5 * 112 + 1) == 5..<6)
        #expect(index.records(coveringBytes: 0..<160) == 0..<0)
        #expect(index.records(coveringBytes: 0..<161) == 0..<1)
        #expect(index.records(coveringBytes: 0..<100_000) == 0..<8)
    }

    // MARK: all versions

    private static let headerValues: [String: UInt64] = [
        "generation": 7, "lastAppend": 1_700_000_001, "lastUID": 9, "quota": 300, "uidValidity": 1_700_000_002,
        "deleted": 1,
        "answered": 1, "flagged": 0, "options": 1, "modseq": 50, "deletedModseq": 3, "exists": 2,
        "firstExpunged": 1_700_000_003,
        "repack": 1_700_000_004, "headerCRC": 0xdead_beef, "basic": 0x1234_5678, "recentUID": 8,
        "recentTime": 1_700_000_005,
        "annotQuota": 66, "annot": 12_345_678, "unseen": 1, "createdModseq": 2,
    ]
    private static let records: [[String: UInt64]] = [
        record(uid: 3, size: 100, flags: 0x11), record(uid: 5, size: 200, flags: 4),
        record(uid: 9, size: 400, flags: 0x8000_0000),
    ]

    private static func record(uid: UInt64, size: UInt64, flags: UInt64) -> [String: UInt64] {
        [
            "uid": uid, "internalDate": 1_700_000_000 + uid, "sentDate": 1_699_999_999, "size": size, "headerSize": 40,
            "cacheOffset": 4 + uid, "updated": 1_700_000_100, "flags": flags, "userFlags": 5, "saveDate": 1_700_000_200,
            "cacheVersion": 11, "guid": uid, "modseq": 40 + uid, "cid": 77, "createdModseq": 30 + uid,
            "cacheCRC": 0xabcd,
        ]
    }

    /// Version 20 keeps times in nanoseconds.
    private func scaled(_ values: [String: UInt64], _ version: Int) -> [String: UInt64] {
        guard version == 20 else { return values }
        let times: Set = [
            "lastAppend", "firstExpunged", "repack", "recentTime", "internalDate", "sentDate", "updated", "saveDate",
        ]
        return Dictionary(uniqueKeysWithValues: values.map { ($0, times.contains($0) ? $1 * 1_000_000_000 + 5 : $1) })
    }

    private func bytes(_ builder: IndexBuilder) -> [UInt8] {
        builder.bytes(
            scaled(Self.headerValues, builder.version), records: Self.records.map { scaled($0, builder.version) })
    }

    @Test(arguments: IndexBuilder.all.indices)
    func `headers of all versions`(_ number: Int) throws {
        let builder = IndexBuilder.all[number]
        let header = try IndexImage(bytes(builder)).header
        func stored(_ name: String) -> UInt64 { builder.hasHeaderField(name) ? Self.headerValues[name]! : 0 }
        #expect(header.version == builder.version)
        #expect(header.generation == 7)
        #expect(header.recordCount == 3)
        #expect(header.startOffset == builder.headerByteCount && header.recordByteCount == builder.recordByteCount)
        #expect(header.lastUID == 9)
        #expect(header.uidValidity == 1_700_000_002)
        #expect(header.lastAppendDate == 1_700_000_001)
        #expect(header.quotaMailboxUsed == 300)
        #expect(header.options == .pop3NewUIDL)
        #expect((header.deleted, header.answered, header.flagged) == (1, 1, 0))
        #expect(header.highestModseq == stored("modseq"))
        #expect(header.deletedModseq == stored("deletedModseq"))
        #expect(header.createdModseq == stored("createdModseq"))
        #expect(UInt64(header.exists) == (builder.version < 12 ? 3 : 2))
        #expect(header.firstExpunged == Int64(stored("firstExpunged")))
        #expect(header.lastRepackTime == Int64(stored("repack")))
        #expect(UInt64(header.recentUID) == stored("recentUID"))
        #expect(header.recentTime == Int64(stored("recentTime")))
        #expect(header.quotaAnnotationsUsed == stored("annotQuota"))
        #expect(UInt64(header.unseen) == stored("unseen"))
        #expect(header.headerFileCRC == (builder.version < 12 ? nil : 0xdead_beef))
        #expect(header.syncCRCBasic == (builder.version < 12 ? nil : 0x1234_5678))
        #expect(header.syncCRCAnnotations == (builder.version < 13 ? nil : 12_345_678))
        #expect(header.isCRCRight && (header.crc != nil) == builder.hasCRC)
        #expect(header.indexByteCount == bytes(builder).count)
    }

    @Test(arguments: IndexBuilder.all.indices)
    func `records of all versions`(_ number: Int) throws {
        let builder = IndexBuilder.all[number]
        let index = try IndexImage(bytes(builder))
        let record = index.record(at: 1)
        func stored(_ name: String) -> UInt64 { builder.hasRecordField(name) ? Self.records[1][name]! : 0 }
        #expect(index.records.map(\.uid) == [3, 5, 9])
        #expect(record.internalDate == 1_700_000_005)
        #expect(record.sentDate == 1_699_999_999)
        #expect(record.lastUpdated == 1_700_000_100)
        #expect(record.saveDate == Int64(stored("saveDate")))
        #expect(record.size == 200 && record.headerSize == 40)
        #expect(record.flags == .deleted)
        #expect(record.hasUserFlag(0) && !record.hasUserFlag(1) && record.hasUserFlag(2))
        #expect(record.cacheOffset == 9)
        #expect(UInt64(record.cacheVersion) == stored("cacheVersion"))
        #expect(UInt64(record.cacheCRC) == stored("cacheCRC"))
        #expect(record.guid == (builder.version < 10 ? nil : MessageGUID(bytes: [UInt8](repeating: 5, count: 20))))
        #expect(record.modseq == stored("modseq"))
        #expect(record.threadID == stored("cid"))
        #expect(record.createdModseq == stored("createdModseq"))
        #expect(record.isCRCRight && (record.crc != nil) == builder.hasCRC)
        #expect(index.record(at: 2).isExpunged)
        #expect(record.bytes.count == builder.recordByteCount)
        #expect(index.findings() == [])
    }

    @Test(arguments: IndexBuilder.all.indices)
    func `flipped bits in all versions that have checksums`(_ number: Int) throws {
        let builder = IndexBuilder.all[number]
        let bytes = bytes(builder)
        for offset in bytes.indices {
            let index = try? IndexImage(bytes.flipping(bit: offset % 8, at: offset))
            if builder.hasCRC { #expect(index?.findings().tellDamage ?? true) }
            for record in index.map({ Array($0.records) }) ?? [] { _ = (record.guid, record.size, record.cacheOffset) }
        }
    }

    @Test func `a header of 19 with records of 20 is read as 3_13 does`() throws {
        let (v19, v20) = (IndexBuilder.all[12], IndexBuilder.all[13])
        let mixed = IndexBuilder(19, 160, 144, true, v19.header, v20.record)
        let index = try IndexImage(mixed.bytes(Self.headerValues, records: [["uid": 3, "size": 1 << 40, "modseq": 1]]))
        #expect(index.record(at: 0).size == 1 << 40)
        #expect(index.record(at: 0).isCRCRight)
    }

    @Test func `versions and sizes that Cyrus would not open are refused`() throws {
        let good = bytes(IndexBuilder.all[10])
        for version in [0, 5, 11, 21, 1 << 31] as [UInt32] {
            var bad = good
            bad.put(version, at: 8)
            #expect(throws: MalformedBytes.self) { try IndexImage(bad) }
        }
        for (offset, value) in [(12, 128), (12, 164), (16, 104), (16, 0), (16, 116)] as [(Int, UInt32)] {
            var bad = good
            bad.put(value, at: offset)
            #expect(throws: MalformedBytes.self) { try IndexImage(bad) }
        }
    }

    // MARK: findings

    private func findings(_ records: [[String: UInt64]], header: [String: UInt64] = [:]) throws -> [IndexFinding] {
        let values = Self.headerValues.merging(header) { $1 }
        return try IndexImage(IndexBuilder.all[10].bytes(values, records: records)).findings()
    }

    @Test func `uids and modseqs that contradict the rest are told and are no damage`() throws {
        let records = [
            Self.records[0], Self.record(uid: 3, size: 200, flags: 4),
            Self.record(uid: 12, size: 0, flags: 0x8000_0000),
        ]
        let found = try findings(records)
        let expected: [IndexFinding] = [
            .uidNotAscending(number: 1, uid: 3, previous: 3), .uidAboveLast(number: 2, uid: 12, lastUID: 9),
            .modseqAboveHighest(number: 2, uid: 12, modseq: 52, highest: 50),
        ]
        #expect(found == expected)
        #expect(!found.tellDamage)
        #expect(found[0].description == "record 1: uid 3 follows uid 3")
    }

    @Test func `sums are compared`() throws {
        let found = try findings(Self.records, header: ["exists": 4, "unseen": 9, "quota": 1])
        #expect(
            Set(found.map(\.description)) == [
                "header: exists is 4, the records make 2", "header: unseen is 9, the records make 1",
                "header: quota_mailbox_used is 1, the records make 300",
            ])
    }

    @Test func `surplus bytes of an interrupted append are none of the records`() throws {
        let index = try IndexImage(bytes(IndexBuilder.all[10]) + [UInt8](repeating: 0xee, count: 150))
        #expect(index.findings() == [])
        #expect(index.recordCount == 3 && index.wholeRecordCount == 4)
    }

    @Test func `findings stop at the number asked for`() throws {
        let records = (0..<50).map { _ in Self.records[0] }
        #expect(try IndexImage(IndexBuilder.all[10].bytes([:], records: records)).findings(max: 7).count == 7)
    }

    @Test func `a record is found by halving`() throws {
        let index = try IndexImage(bytes(IndexBuilder.all[10]))
        #expect(index.record(uid: 5)?.size == 200)
        for uid in [0, 4, 6, 10] as [UInt32] { #expect(index.record(uid: uid) == nil) }
        #expect([0, 3, 4, 9, 10].map { index.numberOfFirst(from: $0) } == [0, 0, 1, 2, 3])
    }

    @Test func `slices that do not begin at zero are read alike`() throws {
        let padded = [0, 0, 0] + bytes(IndexBuilder.all[10])
        #expect(try IndexImage(padded[3...]).findings() == [])
        #expect(try IndexHeader(decoding: padded[3..<163]).lastUID == 9)
    }
}

import Formats
import Seeded
import Testing

@Suite struct FlatDatabaseTests {
    @Test func `a subscription file of 3_6 is read`() throws {
        let database = try FlatDatabase(CyrusFixture.bytes("sub.db"))
        #expect(
            database.entries.map(\.key)
                == ["\u{1f}VER\u{1f}", "NINBOX", "NINBOX\u{1f}Sent", "NINBOX\u{1f}Sub Folder"].map(utf8))
        #expect(database.value(of: utf8("\u{1f}VER\u{1f}")) == utf8("2"))
    }

    @Test func `escapes are undone`() throws {
        let bytes: [UInt8] = [0x61, 0xff, 0x89, 0xff, 0x8a, 0x09, 0xff, 0xff, 0xff, 0x80, 0x0a]
        let database = try FlatDatabase(bytes)
        #expect(database.entries.map(\.key) == [[0x61, 0x09, 0x0a]])
        #expect(database.entries.map(\.value) == [[0xff, 0x00]])
    }

    @Test func `lines without a tab or an end are refused`() throws {
        #expect(throws: MalformedBytes.self) { try FlatDatabase(utf8("a\n")) }
        #expect(throws: MalformedBytes.self) { try FlatDatabase(utf8("a\tb")) }
        #expect(try FlatDatabase([]).entries.isEmpty)
        #expect(try FlatDatabase([0x61, 0xff, 0x09, 0x0a]).entries.first?.key == [0x61])
    }

    @Test func `mutations never trap`() throws {
        let bytes = try CyrusFixture.bytes("sub.db")
        var generator = SeededGenerator(seed: 9)
        for _ in 0..<2000 { _ = try? FlatDatabase(bytes.mutated(using: &generator)) }
    }
}

@Suite struct QuotaFileTests {
    @Test func `a quota of 3_6 is read`() throws {
        let quota = try QuotaFile(decoding: CyrusFixture.bytes("quota-user.alice"))
        #expect(quota.storage.limit == 100_000 && quota.storage.used > 7000)
        #expect(quota.messages?.limit == 500 && quota.messages?.used ?? 0 > 7)
        #expect(quota.folders?.limit == nil && quota.folders?.used ?? 0 > 20)
        #expect(quota.modseq > 0 && !quota.isBeingScanned)
    }

    @Test func `the two lines of older versions are read`() throws {
        let quota = try QuotaFile(decoding: utf8("4711\n100\n"))
        #expect(quota.storage == QuotaFile.Resource(used: 4711, limit: 100))
        #expect(quota.messages == nil && quota.folders == nil, "not counted is not none")
        #expect(try QuotaFile(decoding: utf8("4711 -1 MESSAGE 3 4")).storage.limit == nil)
        #expect(try QuotaFile(decoding: utf8("-5 1")).storage.used == 0)
    }

    @Test func `other bytes are refused and never trap`() throws {
        for text in ["", "x", "1", "1 x", "%(S", "%"] {
            #expect(throws: MalformedBytes.self) { try QuotaFile(decoding: utf8(text)) }
        }
        let bytes = try CyrusFixture.bytes("quota-user.alice")
        for count in 0..<bytes.count - 1 {
            #expect(throws: MalformedBytes.self) { try QuotaFile(decoding: Array(bytes[..<count])) }
        }
        var generator = SeededGenerator(seed: 10)
        for _ in 0..<2000 { _ = try? QuotaFile(decoding: bytes.mutated(using: &generator)) }
    }
}

@Suite struct CountersFileTests {
    @Test func `the counters of 3_6 are read and every flipped bit is found`() throws {
        let bytes = try CyrusFixture.bytes("counters.db")
        let counters = try CountersFile(decoding: bytes)
        #expect(counters.version == 9 && counters.isCRCRight && counters.highestModseq > 100)
        for offset in bytes.indices {
            let changed = try? CountersFile(decoding: bytes.flipping(bit: offset % 8, at: offset))
            #expect(changed?.isCRCRight != true)
        }
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try CountersFile(decoding: Array(bytes[..<count])) }
        }
    }
}

@Suite struct SQLiteHeaderTests {
    @Test func `the head of a dav database is read`() throws {
        let header = try SQLiteHeader(decoding: CyrusFixture.bytes("dav.db.head"))
        #expect(header.pageByteCount == 4096)
        #expect(header.pageCount == 23)
        #expect(!header.isWriteAheadLogged)
        #expect(header.isWhole(fileByteCount: 94208))
        #expect(!header.isWhole(fileByteCount: 94207))
        #expect(!header.isWhole(fileByteCount: 90112))
    }

    @Test func `other bytes are refused and never trap`() throws {
        let bytes = try CyrusFixture.bytes("dav.db.head")
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try SQLiteHeader(decoding: Array(bytes[..<count])) }
        }
        for offset in bytes.indices {
            for bit in 0..<8 {
                _ = try? SQLiteHeader(decoding: bytes.flipping(bit: bit, at: offset)).isWhole(fileByteCount: 4096)
            }
        }
    }
}

@Suite struct MailboxesDatabaseTests {
    @Test func `every mailbox by name has one by uniqueid and the other way round`() throws {
        let database = try TwoskipDatabase(CyrusFixture.bytes("mailboxes.db"))
        var byName: [MailboxName: MailboxEntry] = [:]
        var byID: [[UInt8]: MailboxEntry] = [:]
        for entry in try database.entries() {
            switch try MailboxesDatabase.decode(key: entry.key, value: entry.value) {
            case .name(let name, let mailbox):
                byName[name] = mailbox
                #expect(MailboxesDatabase.nameKey(name)[...] == entry.key)
            case .uniqueID(let id, let mailbox):
                byID[id] = mailbox
                #expect(MailboxesDatabase.uniqueIDKey(id)[...] == entry.key)
            case .other: Issue.record("key \(entry.key)")
            }
        }
        let live = byName.filter { $0.value.type.hasFiles }
        #expect(live.count == byID.count && live.count > 40)
        for (name, mailbox) in live {
            #expect(mailbox.partition == "default" && mailbox.uidValidity > 0 && !mailbox.acl.isEmpty)
            #expect(byID[mailbox.uniqueID ?? []]?.name == name)
        }
        let deleted = live.keys.first { $0.isDeleted && $0.boxes == [utf8("Neue")] }
        let entry = deleted.flatMap { live[$0]?.uniqueID }.flatMap { byID[$0] }
        #expect(entry?.formerNames.map(\.description) == ["user.alice.Neue", "user.alice.Alte"])
        #expect(byName[MailboxName(internalName: utf8("user.alice.Neue"))]?.type.isTombstone == true)
    }

    @Test func `an entry tells the directory of its mailbox`() throws {
        let name = MailboxName(internalName: utf8("user.alice.Box"))
        let rules = PathRules(spoolHash: .hashed)
        func directory(_ value: String) throws -> [UInt8]? {
            try MailboxEntry(decoding: utf8(value)[...]).directory(name: name, rules: rules)
        }
        #expect(try directory("%(T e I abcd P default V 1 C 1 F 1 M 1 A %(alice lrs))") == utf8("uuid/a/b/abcd"))
        #expect(try directory("%(T el I abcd P default V 1)") == utf8("a/user/alice/Box"))
        #expect(try directory("%(T ed I abcd V 1)") == nil)
        #expect(throws: MalformedBytes.self) { try directory("0 default alice\tlrs\t") }
        #expect(throws: MalformedBytes.self) { try directory("(a b)") }
    }

    @Test func `other keys are told apart`() throws {
        #expect(
            try MailboxesDatabase.decode(key: utf8("\u{1f}VER\u{1f}")[...], value: utf8("2")[...])
                == .other(key: utf8("\u{1f}VER\u{1f}")))
    }
}

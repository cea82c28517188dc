import Digests
import Formats
import Seeded
import Testing

@Suite struct MailboxHeaderTests {
    @Test func `a header of 3_6 is read and the index knows its checksum`() throws {
        let bytes = try CyrusFixture.bytes("mailbox/cyrus.header")
        let header = try MailboxHeader(decoding: bytes)
        #expect(header.name == utf8("user.alice"))
        #expect(header.uniqueID == utf8("wwcnidzikcqmdvkpct92bhj3"))
        #expect(header.quotaRoot == utf8("user.alice"))
        #expect(header.type?.hasFiles == true)
        #expect(header.userFlags == [utf8("kw1"), utf8("kw2"), utf8("$Forwarded")])
        #expect(header.acl.map(\.identifier) == [utf8("alice"), utf8("bob")])
        let index = try IndexImage(CyrusFixture.bytes("mailbox/cyrus.index"))
        #expect(index.header.headerFileCRC == header.fileCRC)
    }

    @Test func `the three lines of older versions are read`() throws {
        let old = MailboxHeader.magic + utf8("user.a\t5f3a\nkw1  kw3\nalice\tlrs\tanyone\tp\t\n")
        let header = try MailboxHeader(decoding: old)
        #expect(header.quotaRoot == utf8("user.a"))
        #expect(header.uniqueID == utf8("5f3a"))
        #expect(header.userFlags == [utf8("kw1"), nil, utf8("kw3")])
        #expect(header.acl.map(\.rights) == [utf8("lrs"), utf8("p")])
        #expect(header.name == nil)
        #expect(header.fileCRC == crc32(old))
    }

    @Test func `old headers without a quota root, an id or flags`() throws {
        let header = try MailboxHeader(decoding: MailboxHeader.magic + utf8("\t5f3a\n\n\n"))
        #expect(
            header.quotaRoot == nil && header.uniqueID == utf8("5f3a") && header.userFlags.isEmpty && header.acl.isEmpty
        )
        let ancient = try MailboxHeader(decoding: MailboxHeader.magic + utf8("user.a\n\nx\t\n"))
        #expect(ancient.quotaRoot == utf8("user.a") && ancient.uniqueID == nil && ancient.acl.count == 1)
    }

    @Test func `other bytes are refused`() {
        for text in ["", "a\tb\n", "a\tb\n\n", "%(T e", "%(T e\n", "(a)\n", "%(T e)"] {
            #expect(throws: MalformedBytes.self) { try MailboxHeader(decoding: MailboxHeader.magic + utf8(text)) }
        }
        #expect(throws: MalformedBytes.self) { try MailboxHeader(decoding: []) }
    }

    @Test func `no truncation is a header, and flips and mutations never trap`() throws {
        let bytes = try CyrusFixture.bytes("mailbox/cyrus.header")
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try MailboxHeader(decoding: Array(bytes[..<count])) }
        }
        let sum = crc32(bytes)
        for offset in bytes.indices {
            let changed = try? MailboxHeader(decoding: bytes.flipping(bit: offset % 8, at: offset))
            #expect(changed?.fileCRC != sum)
        }
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<3000 { _ = try? MailboxHeader(decoding: bytes.mutated(using: &generator)) }
    }

    @Test func `the letters of a type tell whether there are files`() {
        #expect(MailboxType(utf8("e")).hasFiles)
        #expect(MailboxType(utf8("el")).hasLegacyDirectory)
        for letters in ["ed", "er", "ei", "ez"] { #expect(!MailboxType(utf8(letters)).hasFiles) }
    }
}

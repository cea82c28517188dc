import Formats
import Seeded
import Testing

@Suite struct MailboxNameTests {
    @Test(arguments: [
        ("user.alice", "alice", [String](), false),
        ("user.alice.Sub Folder", "alice", ["Sub Folder"], false),
        ("user.john^doe.a.b^c", "john.doe", ["a", "b.c"], false),
        ("example.org!user.carol.Box", "carol@example.org", ["Box"], false),
        ("DELETED.user.alice.Box.6B033AA3", "alice", ["Box"], true),
        ("example.org!DELETED.user.carol.Box.6B033AA3", "carol@example.org", ["Box"], true),
    ])
    func `a user's name is taken apart and put together`(
        _ internalName: String, _ user: String, _ boxes: [String], _ isDeleted: Bool
    ) {
        let name = MailboxName(internalName: utf8(internalName))
        #expect(name.userID == utf8(user))
        #expect(name.boxes == boxes.map(utf8))
        #expect(name.isDeleted == isDeleted)
        #expect(name.internalName() == utf8(internalName))
    }

    @Test func `a shared name has no user`() {
        for text in ["shared", "shared.List.deep^dot", "user", "example.org!team", "DELETED.shared.List.6B033AEF"] {
            let name = MailboxName(internalName: utf8(text))
            #expect(name.userID == nil)
            #expect(name.internalName() == utf8(text))
        }
    }

    @Test func `the inbox is the user's own name`() {
        #expect(MailboxName(internalName: utf8("user.alice")).isInbox)
        #expect(!MailboxName(internalName: utf8("user.alice.Sub")).isInbox)
        #expect(!MailboxName(internalName: utf8("DELETED.user.alice.6B033AA3")).isInbox)
        #expect(!MailboxName(internalName: utf8("shared")).isInbox)
    }

    @Test func `the time of deletion is the last component`() {
        let name = MailboxName(internalName: utf8("DELETED.user.alice.Box.6B033AA3"))
        #expect(name.deletedAt == 0x6b03_3aa3)
    }

    @Test func `the database's form has other separators and no escapes`() {
        let stored = utf8("example.org\u{1d}user\u{1f}Jo.Hn\u{1f}Sub Folder")
        let name = MailboxName(databaseName: stored)
        #expect(name.internalName() == utf8("example.org!user.Jo^Hn.Sub Folder"))
        #expect(name.databaseName() == stored)
        #expect(name.userID == utf8("Jo.Hn@example.org"))
    }

    @Test func `another prefix for deleted mailboxes may be configured`() {
        let rules = PathRules(deletedPrefix: utf8("GONE"))
        #expect(MailboxName(internalName: utf8("GONE.user.alice.1"), rules: rules).isDeleted)
        #expect(!MailboxName(internalName: utf8("DELETED.user.alice.1"), rules: rules).isDeleted)
    }

    @Test func `the default domain never shows`() {
        let rules = PathRules(defaultDomain: utf8("lab"))
        #expect(MailboxName(internalName: utf8("lab!user.alice"), rules: rules).userID == utf8("alice"))
    }

    @Test func `any bytes are some name and keep their form`() {
        var generator = SeededGenerator(seed: 2)
        let alphabet = utf8("user.DELETED!^\u{1f}\u{1d}aX0") + [0, 0xff]
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0...24, using: &generator)).map { _ in
                alphabet.randomElement(using: &generator)!
            }
            let name = MailboxName(internalName: bytes)
            let again = MailboxName(internalName: name.internalName())
            #expect(again == name || name.isDeleted || name.localpart != nil || bytes.first == 0x21 || bytes.isEmpty)
            _ = MailboxName(databaseName: bytes).databaseName()
            _ = MailboxPath.name(ofLegacyDirectory: bytes, rules: PathRules(spoolHash: .hashed, domains: .virtual))
        }
    }
}

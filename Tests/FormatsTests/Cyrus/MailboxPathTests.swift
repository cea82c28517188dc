import Formats
import Testing

/// Against listings of stores that Cyrus 3.6.1 made with `mailbox_legacy_dirs`, under three ways of hashing.
@Suite struct MailboxPathTests {
    static let listings: [(String, PathRules)] = [
        ("legacy-hashed-first", rules(.hashed, .first)), ("legacy-hashed-full", rules(.hashed, .ofWholeName)),
        ("legacy-plain-first", rules(.none, .first)),
    ]

    private static func rules(_ spool: PathRules.SpoolHash, _ letter: PathRules.HashLetter) -> PathRules {
        PathRules(spoolHash: spool, letter: letter, domains: .virtual, defaultDomain: utf8("lab"))
    }

    private func names(_ listing: String, _ rules: PathRules) throws -> [MailboxName] {
        try CyrusFixture.lines("paths/\(listing).show").filter { $0.hasPrefix("N") && !$0.contains("T edl") }.map {
            MailboxName(databaseName: utf8($0).dropFirst().prefix { $0 != 0x09 }, rules: rules)
        }
    }

    @Test(arguments: listings)
    func `legacy directories are where Cyrus put them`(_ listing: String, _ rules: PathRules) throws {
        let there = try Set(
            CyrusFixture.lines("paths/\(listing).txt").compactMap { line in
                line.hasPrefix("partition-default/") && line.hasSuffix("/cyrus.index")
                    ? String(line.dropFirst("partition-default/".count).dropLast("/cyrus.index".count)) : nil
            })
        let names = try names(listing, rules)
        let expected = names.map { String(decoding: MailboxPath.legacyDirectory(of: $0, rules: rules), as: UTF8.self) }
        #expect(Set(expected) == there.subtracting(leftovers(there, expected)))
        #expect(names.count == 13)
        for (name, path) in zip(names, expected) {
            #expect(MailboxPath.name(ofLegacyDirectory: utf8(path), rules: rules) == name)
        }
    }

    /// Directories whose mailbox is gone but for its files.
    private func leftovers(_ there: Set<String>, _ expected: [String]) -> Set<String> {
        there.subtracting(expected).filter { $0.hasSuffix("gone") || $0.hasSuffix("Box") || $0.hasSuffix("deep^dot") }
    }

    @Test(arguments: listings)
    func `locks are where Cyrus put them`(_ listing: String, _ rules: PathRules) throws {
        let there = try Set(CyrusFixture.lines("paths/\(listing).txt"))
        for user in ["alice", "u.dot", "9lives", "carol@example.org", "Jo.Hn@example.org", ""] {
            let lock = String(decoding: MailboxPath.userLock(utf8(user), rules: rules), as: UTF8.self)
            #expect(there.contains("configdirectory/lock/" + lock))
        }
        for name in try names(listing, rules) {
            let lock = String(decoding: MailboxPath.legacyMailboxLock(of: name, rules: rules), as: UTF8.self)
            #expect(there.contains("configdirectory/lock/" + lock))
        }
    }

    @Test(arguments: listings)
    func `users' legacy files are where Cyrus put them`(_ listing: String, _ rules: PathRules) throws {
        let there = try Set(CyrusFixture.lines("paths/\(listing).txt"))
        for name in try names(listing, rules) where name.isInbox {
            let path = MailboxPath.legacyUserFile(of: name, suffix: "counters", rules: rules)
            #expect(there.contains("configdirectory/" + String(decoding: path, as: UTF8.self)))
        }
        let shared = MailboxName(domain: utf8("example.org"), localpart: nil, boxes: [utf8("team")])
        let path = MailboxPath.legacyUserFile(of: shared, suffix: "counters", rules: rules)
        #expect(there.contains("configdirectory/" + String(decoding: path, as: UTF8.self)))
    }

    @Test func `uuid directories take the first two characters`() {
        let id = utf8("9vvjr55xk6d08lyw7qa111po")
        let path = utf8("uuid/9/v/9vvjr55xk6d08lyw7qa111po")
        #expect(MailboxPath.directory(uniqueID: id) == path)
        #expect(MailboxPath.uniqueID(in: path)?.elementsEqual(id) == true)
        #expect(MailboxPath.uniqueID(in: path + utf8("/cyrus.index"))?.elementsEqual(id) == true)
        #expect(MailboxPath.userFile(inboxID: id, suffix: "seen") == utf8("user/") + path + utf8("/seen.db"))
        #expect(
            MailboxPath.mailboxLock(uniqueID: id, rules: PathRules(spoolHash: .hashed)) == utf8("q/") + id
                + utf8(".lock"))
        #expect(
            MailboxPath.mailboxLock(uniqueID: utf8("wpex"), rules: PathRules(spoolHash: .hashed)) == utf8("w/wpex.lock")
        )
    }

    @Test func `what is not a uniqueid has no directory`() {
        for id in ["", "a", "../x", "a/b", ".x", "a\0", "a b"] {
            #expect(MailboxPath.directory(uniqueID: utf8(id)) == nil)
        }
        for path in ["uuid/9/v", "uuid/9/x/9vvj", "uuid/x/v/9vvj", "uuid", "", "user/9/v/9vvj"] {
            #expect(MailboxPath.uniqueID(in: utf8(path)) == nil)
        }
    }

    @Test func `a directory whose letter does not agree is no mailbox's`() {
        let rules = PathRules(spoolHash: .hashed)
        #expect(MailboxPath.name(ofLegacyDirectory: utf8("b/user/alice"), rules: rules) == nil)
        #expect(MailboxPath.name(ofLegacyDirectory: utf8("a"), rules: rules) == nil)
        #expect(MailboxPath.name(ofLegacyDirectory: utf8("stage."), rules: PathRules()) == nil)
        #expect(MailboxPath.name(ofLegacyDirectory: utf8(""), rules: PathRules()) == nil)
        #expect(MailboxPath.name(ofLegacyDirectory: utf8("uuid/9/v/9vvj"), rules: PathRules()) == nil)
    }
}

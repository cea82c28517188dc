import Formats
import Seeded
import Testing

@Suite struct FileRoleTests {
    private func role(_ root: String, _ path: String, _ rules: StoreRules = StoreRules()) -> FileRole {
        FileRole(of: StorePath(RootName(root), path), rules: rules)
    }

    private static let mailbox = "uuid/w/w/wwcnidzikcqmdvkpct92bhj3"

    @Test(arguments: [
        ("cyrus.index", FileRole.index), ("cyrus.header", .header), ("cyrus.cache", .cache),
        ("cyrus.annotations", .annotations),
        ("cyrus.dav", .database(.sqlite)), ("cyrus.squat", .derived), ("cyrus.squat.tmp", .derived),
        ("squat123", .derived),
        ("cyrus.index.NEW", .temporary), ("cyrus.cache.NEW", .temporary), ("cyrus.seen", .plain),
        ("cyrus.expunge", .plain),
        ("1.", .message(uid: 1)), ("4294967295.", .message(uid: .max)), ("4294967296.", .plain),
        ("99999999999.", .plain),
        ("0.", .plain), ("01.", .plain), ("1", .plain), (".", .plain), ("1.x", .plain), ("1a.", .plain),
        ("notes.txt", .plain),
    ])
    func `files of a mailbox's directory`(_ name: String, _ role: FileRole) {
        guard let path = StorePath(root: RootName("partition-default"), path: utf8("\(Self.mailbox)/\(name)")) else {
            return
        }
        #expect(FileRole(of: path) == role)
    }

    @Test func `messages are in partitions and archives and in directories`() {
        #expect(role("archivepartition-default", "\(Self.mailbox)/1.") == .message(uid: 1))
        #expect(role("metapartition-default", "\(Self.mailbox)/1.") == .plain)
        #expect(role("metapartition-default", "\(Self.mailbox)/cyrus.index") == .index)
        #expect(role("metadir-cache-default", "\(Self.mailbox)/cyrus.cache") == .cache)
        #expect(role("partition-default", "1.") == .plain)
    }

    @Test(arguments: ["travel-journal", "squat", "squatters", "xapian", "lock", "proc", "a-wal", "user", "quota"])
    func `a mailbox in a legacy directory may be called anything`(_ name: String) {
        #expect(role("partition-default", "a/user/alice/\(name)") == .plain)
        #expect(role("partition-default", "a/user/alice/\(name)/1.") == .message(uid: 1))
    }

    @Test func `search indexes among the mailboxes are derived`() {
        for path in ["user/uuid/w/w/wwcn/xapian", "\(Self.mailbox)/squatAbCdEf", "a/user/alice/xapian.1"] {
            #expect(role("partition-default", path) == .derived)
        }
    }

    @Test func `journals are those of databases`() {
        #expect(role("partition-default", "\(Self.mailbox)/cyrus.dav-journal") == .temporary)
        #expect(role("configdirectory", "domain/m/my-journal") == .plain)
        #expect(role("configdirectory", "domain/m/my.NEW") == .plain)
        #expect(role("configdirectory", "-journal") == .plain)
    }

    @Test func `staging directories are temporary with all that is below`() {
        for path in ["stage.", "stage./123-1700000000-0", "sync.", "sync./77/1."] {
            #expect(role("partition-default", path) == .temporary)
        }
    }

    @Test(arguments: [
        ("mailboxes.db", FileRole.database(.twoskip)), ("annotations.db", .database(.twoskip)),
        ("deliver.db", .database(.twoskip)),
        ("user_deny.db", .database(.flat)), ("quotas.db", .database(.quota)), ("zoneinfo.db", .database(.twoskip)),
        ("caldav_alarm.sqlite3", .database(.sqlite)), ("caldav_alarm.sqlite3-journal", .temporary),
        ("quota/a/user.alice", .database(.quota)),
        ("quota/a/user.alice.NEW", .temporary), ("quota/n/user.NEW", .database(.quota)),
        ("quota/u/user.NEW", .temporary),
        ("user/\(mailbox)/seen.db", .database(.twoskip)), ("user/\(mailbox)/sub.db", .database(.flat)),
        ("user/\(mailbox)/conversations.db", .database(.skiplist)),
        ("user/\(mailbox)/conversations.db.NEW", .temporary),
        ("user/\(mailbox)/counters.db", .database(.counters)), ("user/\(mailbox)/counters.db.NEW", .temporary),
        ("user/\(mailbox)/dav.db", .database(.sqlite)), ("user/\(mailbox)/dav.db-journal", .temporary),
        ("user/\(mailbox)/mboxkey.db", .database(.twoskip)), ("user/\(mailbox)/xapianactive.db", .derived),
        ("user/\(mailbox)/other", .plain),
        ("user/a/alice.seen", .database(.twoskip)), ("user/a/alice.sub", .database(.flat)),
        ("user/j/john.doe.counters", .database(.counters)),
        ("user/a/alice.dav", .database(.sqlite)), ("shared.counters", .database(.counters)),
        ("mailboxes.db.NEW", .temporary),
        ("tls_sessions.db", .runtime), ("statuscache.db", .runtime), ("ptclient/ptscache.db", .runtime),
        ("sync_cache.db", .runtime),
        ("db/skipstamp", .runtime), ("db/skipcleanshutdown", .runtime), ("db/__db.001", .runtime), ("db", .plain),
        ("db/notes", .plain),
        ("lock", .runtime), ("lock/q/*U*alice.lock", .runtime), ("proc/77", .runtime), ("socket/imap", .runtime),
        ("log/x", .runtime),
        ("sync/log", .runtime), ("backup/x", .runtime), ("db.backup1/mailboxes.db", .runtime), ("db.backup2", .runtime),
        ("md5/a", .runtime),
        ("msg/motd", .plain), ("msg/shutdown", .plain), ("locker", .plain), (".mailsync.tmp/1-2", .runtime),
        ("user/.mailsync/x", .runtime),
        ("anything", .plain),
    ])
    func `files of the configuration directory`(_ path: String, _ role: FileRole) {
        #expect(self.role("configdirectory", path) == role)
    }

    @Test func `sieve scripts, their bytecode and the active link`() {
        for name in ["s.bc", "s.script", "defaultbc"] { #expect(role("sievedir", "\(Self.mailbox)/\(name)") == .sieve) }
        #expect(role("sievedir", "\(Self.mailbox)/s.bc.NEW") == .temporary)
        #expect(role("sievedir", "\(Self.mailbox)/defaultbc.NEW") == .temporary)
        #expect(role("sievedir", "\(Self.mailbox)/README") == .plain)
    }

    @Test func `other engines, other places, and what runs`() {
        var rules = StoreRules()
        rules.engines[.conversations] = .twoskip
        rules.relocated[StorePath(.configuration, "big/boxes.db")] = .mailboxes
        rules.runtime = [StorePath(.configuration, "run/proc")]
        #expect(role("configdirectory", "user/\(Self.mailbox)/conversations.db", rules) == .database(.twoskip))
        #expect(role("configdirectory", "big/boxes.db", rules) == .database(.twoskip))
        #expect(role("configdirectory", "run/proc/77", rules) == .runtime)
        #expect(role("configdirectory", "run/other", rules) == .plain)
        #expect(
            ApplyRank(of: StorePath(.configuration, "big/boxes.db"), role: .database(.twoskip), rules: rules)
                == .mailboxes)
    }

    @Test func `every file of the real stores is state or runs`() throws {
        for (listing, paths) in MailboxPathTests.listings {
            for line in try CyrusFixture.lines("paths/\(listing).txt") {
                let cut = try #require(line.firstIndex(of: "/"))
                let path = StorePath(RootName(String(line[..<cut])), String(line[line.index(after: cut)...]))
                let role = FileRole(of: path, rules: StoreRules(paths: paths))
                if line.contains("/lock/") {
                    #expect(role == .runtime)
                } else {
                    #expect(role.shipping == .always && role != .plain, "\(line)")
                }
            }
        }
    }

    @Test func `what is shipped`() {
        #expect(FileRole.message(uid: 1).shipping == .always)
        #expect(FileRole.derived.shipping == .optional)
        #expect(FileRole.temporary.shipping == .never)
        #expect(FileRole.runtime.shipping == .never)
        #expect(FileRole.annotations.databaseKind == .twoskip)
        #expect(FileRole.index.databaseKind == nil)
    }

    @Test func `bytes that are no text have a role`() {
        let path = StorePath(root: RootName("partition-default"), path: [0xff, 0x2f, 0x31, 0x2e])
        #expect(path.map { FileRole(of: $0) } == .message(uid: 1))
    }
}

@Suite struct ApplyRankTests {
    @Test func `what is referred to comes before what refers to it`() {
        let mailbox = "uuid/w/w/wwcnidzikcqmdvkpct92bhj3"
        let order = [
            StorePath(RootName("partition-default"), "\(mailbox)/1."),
            StorePath(RootName("partition-default"), "\(mailbox)/cyrus.cache"),
            StorePath(RootName("partition-default"), "\(mailbox)/cyrus.annotations"),
            StorePath(RootName("partition-default"), "\(mailbox)/cyrus.header"),
            StorePath(RootName("partition-default"), "\(mailbox)/cyrus.index"),
            StorePath(.configuration, "user/\(mailbox)/conversations.db"),
            StorePath(.configuration, "deliver.db"), StorePath(.configuration, "mailboxes.db"),
        ]
        let ranks = order.map { ApplyRank(of: $0, role: FileRole(of: $0)) }
        #expect(ranks == ranks.sorted() && Set(ranks).count == order.count)
        #expect(ApplyRank.directory < ranks[0])
    }

    @Test func `the rest of the user's and everybody's`() {
        func rank(_ root: RootName, _ path: String) -> ApplyRank {
            let path = StorePath(root, path)
            return ApplyRank(of: path, role: FileRole(of: path))
        }
        #expect(rank(.sieve, "uuid/w/w/wwcn/s.bc") == .user)
        #expect(rank(.configuration, "domain/e/example.org/user/c/carol.seen") == .user)
        #expect(rank(.configuration, "domain/e/example.org/quota/c/user.carol") == .global)
        #expect(rank(.configuration, "quota/a/user.alice") == .global)
        #expect(rank(.configuration, "msg/motd") == .global)
    }

    @Test func `what indexes keep sums of comes before them, wherever it is`() {
        let (usual, own) = (StorePath(.configuration, "annotations.db"), StorePath(.configuration, "big/notes.db"))
        let rules = StoreRules(relocated: [own: .annotations])
        #expect(ApplyRank(of: usual, role: FileRole(of: usual)) == .annotations)
        #expect(ApplyRank(of: own, role: .database(.twoskip), rules: rules) == .annotations)
        #expect(ApplyRank.annotations < .index)
    }
}

@Suite struct StoreUnitTests {
    private static let id = "wwcnidzikcqmdvkpct92bhj3"
    private let partition = RootName("partition-default")
    private let virtual = PathRules(spoolHash: .hashed, domains: .virtual)

    private func unit(
        _ root: RootName, _ path: String, _ kind: StoreUnit.EntryKind = .file, _ rules: PathRules = PathRules()
    ) -> StoreUnit {
        StoreUnit(of: StorePath(root, path), kind, rules: rules)
    }

    @Test func `files of a mailbox belong to its directory`() {
        let directory = StorePath(partition, "uuid/w/w/\(Self.id)")
        #expect(unit(partition, "uuid/w/w/\(Self.id)/cyrus.index") == .mailbox(directory: directory))
        #expect(unit(partition, "uuid/w/w/\(Self.id)", .directory) == .mailbox(directory: directory))
        #expect(unit(partition, "uuid/w/w/\(Self.id)/deep/x") == .mailbox(directory: directory))
        #expect(unit(partition, "a/user/alice/1.") == .mailbox(directory: StorePath(partition, "a/user/alice")))
        #expect(
            unit(partition, "a/user/alice/Sub", .directory)
                == .mailbox(directory: StorePath(partition, "a/user/alice/Sub")))
        #expect(unit(partition, "x") == .global(StorePath(partition, "x")))
    }

    @Test func `files of a user belong to the user`() {
        #expect(unit(.configuration, "user/uuid/w/w/\(Self.id)/seen.db") == .user(.inbox(uniqueID: utf8(Self.id))))
        #expect(unit(.configuration, "user/uuid/w/w/\(Self.id)", .directory) == .user(.inbox(uniqueID: utf8(Self.id))))
        #expect(unit(.sieve, "uuid/w/w/\(Self.id)/s.bc") == .user(.inbox(uniqueID: utf8(Self.id))))
        #expect(unit(.configuration, "user/a/alice.seen") == .user(.name(utf8("alice"))))
        #expect(unit(.configuration, "user/j/john.doe.sub.NEW") == .user(.name(utf8("john.doe"))))
        #expect(
            unit(.configuration, "domain/e/example.org/user/c/carol.sub", .file, virtual)
                == .user(.name(utf8("carol@example.org"))))
        #expect(unit(.sieve, "a/alice/s.script") == .user(.name(utf8("alice"))))
        #expect(
            unit(.sieve, "domain/e/example.org/c/carol/s.script", .file, virtual)
                == .user(.name(utf8("carol@example.org"))))
        #expect(unit(.sieve, "global/s.script") == .global(StorePath(.sieve, "global/s.script")))
    }

    @Test func `a letter that does not agree is nobody's`() {
        #expect(unit(.configuration, "user/b/alice.seen") == .global(StorePath(.configuration, "user/b/alice.seen")))
        #expect(unit(.sieve, "b/alice/x") == .global(StorePath(.sieve, "b/alice/x")))
    }

    @Test func `quota roots by name`() {
        #expect(unit(.configuration, "quota/a/user.alice") == .quota(root: utf8("user.alice")))
        #expect(
            unit(.configuration, "domain/e/example.org/quota/c/user.carol", .file, virtual)
                == .quota(root: utf8("example.org!user.carol")))
        #expect(
            unit(.configuration, "domain/e/example.org/quota/root", .file, virtual)
                == .quota(root: utf8("example.org!")))
    }

    @Test func `the rest is everybody's`() {
        for path in ["mailboxes.db", "user", "user/a", "quota/a", "shared.counters", "msg/motd"] {
            #expect(unit(.configuration, path) == .global(StorePath(.configuration, path)))
        }
        #expect(unit(RootName("other"), "x") == .global(StorePath(RootName("other"), "x")))
    }

    @Test func `any path is of some unit and some role`() {
        var generator = SeededGenerator(seed: 11)
        let pieces = [
            "uuid", "w", "a", "user", "domain", "quota", "alice.seen", "1.", "x.NEW", Self.id, "stage.", "\u{1}", "e",
            "example.org", "q",
        ]
        let roots = ["configdirectory", "partition-a", "metadir-index-a", "sievedir", "z"].map { RootName($0) }
        for _ in 0..<20_000 {
            let parts = (0..<Int.random(in: 0...6, using: &generator)).map { _ in
                pieces.randomElement(using: &generator)!
            }
            guard
                let path = StorePath(
                    root: roots.randomElement(using: &generator)!, path: utf8(parts.joined(separator: "/")))
            else { continue }
            for rules in [PathRules(), virtual] {
                _ = StoreUnit(of: path, .file, rules: rules)
                _ = StoreUnit(of: path, .directory, rules: rules)
                _ = ApplyRank(of: path, role: FileRole(of: path, rules: StoreRules(paths: rules)))
            }
        }
    }
}

import Digests
import Formats
import Glibc
import Linux
import Store
import Testing

@testable import Replica

/// A primary that was broken into sends what no primary sends: it reaches nothing but the mail.
@Suite struct HostileRecordTests {
    private let store: TemporaryStore
    private let applier: RecordApplier
    private let conf = RootName.configuration

    init() throws {
        store = try TemporaryStore()
        applier = try store.applier()
        try store.put(utf8("precious"), "outside/x")
        _ = try Directory.make(store.path + "/conf/lock")
        try store.put(utf8("held"), "conf/lock/a")
    }

    /// One of each kind about `path`.
    private func records(_ path: StorePath) throws -> [Record] {
        let (old, new) = (utf8("precious"), utf8("spoiled!"))
        let meta = Metadata.usual
        return [
            .whole(path, new), .extents(path, from: old, to: new), try .delta(path, from: old, to: new),
            Record(path, .part(result: PageTable.digest(of: new), offset: 0, bytes: new)),
            Record(path, .assembled(meta, result: PageTable.digest(of: new), byteCount: new.count)),
            Record(path, .link(target: StorePath(mail, "m"), result: PageTable.digest(of: old))),
            Record(path, .symlink(meta, target: utf8("/etc/passwd"))),
            Record(path, .metadata(meta, result: PageTable.digest(of: old))), Record(path, .remove),
        ]
    }

    private func isRefused(_ outcome: RecordApplier.Outcome) -> Bool {
        if case .refused = outcome { true } else { false }
    }

    @Test(arguments: [RecordApplier.Mode.steady, .replay])
    func `what never travels is not written, whatever the record says`(_ mode: RecordApplier.Mode) throws {
        _ = try applier.apply(.whole(StorePath(mail, "m"), utf8("precious")))
        let names = [
            "lock/a", "lock/new", "proc/1", "socket/imap", ".mailsync/new-1", "a/.mailsync/x", "db/skipstamp",
            "tls_sessions.db", "mailboxes.db.NEW",
        ]
        let before = try store.tree()
        for name in names {
            let path = StorePath(conf, name)
            for record in try records(path) + [Record(path, .directory(.usual))] {
                #expect(isRefused(try applier.apply(record, mode)), "\(record.path) \(record.change)")
            }
            // Nor is it given another name, by which it could be read or written.
            let link = Record(StorePath(mail, "l"), .link(target: path, result: PageTable.digest(of: utf8("held"))))
            #expect(isRefused(try applier.apply(link, mode)))
        }
        #expect(try store.tree() == before)
        #expect(try store.bytes("conf/lock/a") == utf8("held"))
    }

    @Test func `a root within another is not reached through the other, nor removed with what it is in`() throws {
        let text = """
            configdirectory: \(store.path)/mail/deep/conf
            partition-default: \(store.path)/mail
            sievedir: \(store.path)/sieve

            """
        let parsed = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        for name in ["mail/deep", "mail/deep/conf", "mail/deep/conf/lock"] {
            _ = try Directory.make(store.path + "/" + name)
        }
        try store.put(utf8("held"), "mail/deep/conf/lock/a")
        let layout = try StoreLayout(parsed)
        let writer = try StoreWriter(layout, quarantine: try Quarantine(store.path + "/state/quarantine"))
        let applier = RecordApplier(writer, layout: layout)
        let before = try store.tree()
        for name in ["deep", "deep/conf", "deep/conf/lock", "deep/conf/lock/a", "deep/conf/new"] {
            for record in try records(StorePath(mail, name)) {
                #expect(isRefused(try applier.apply(record)), "\(record.path) \(record.change)")
            }
        }
        #expect(try store.tree() == before)
    }

    @Test func `mailsync's own state within a root is out of reach`() throws {
        _ = try Directory.make(store.path + "/conf/mailsync")
        try store.put(utf8("replica 0\n"), "conf/mailsync/role")
        let layout = store.layout.keepingOut([store.path + "/conf//mailsync/"])
        let writer = try StoreWriter(layout, quarantine: try Quarantine(store.path + "/state/quarantine"))
        let applier = RecordApplier(writer, layout: layout)
        for record in try records(StorePath(conf, "mailsync/role")) + records(StorePath(conf, "mailsync")) {
            #expect(isRefused(try applier.apply(record)))
        }
        #expect(try store.bytes("conf/mailsync/role") == utf8("replica 0\n"))
        #expect(try applier.apply(.whole(StorePath(conf, "mailsync-notes"), utf8("x"))) == .applied)
    }

    @Test func `a path that could lead out is no path`() {
        for path in ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "a/\0b", "a/", "/"] {
            var writer = ByteWriter()
            writer.write(UInt8(10))  // a removal
            writer.write(string: utf8("partition-default"))
            writer.write(string: utf8(path))
            var reader = ByteReader(writer.finish())
            #expect(throws: MalformedBytes.self, "\(path)") { try Record(decoding: &reader) }
        }
    }

    /// A link is made by one record, and the next ones go through it.
    @Test func `a link that the log itself has planted leads nowhere`() throws {
        let targets = ["../outside", store.path + "/outside", ".", "..", "/", "/proc/self/root"]
        for (number, target) in targets.enumerated() {
            let link = StorePath(mail, "l\(number)")
            #expect(try applier.apply(Record(link, .symlink(.usual, target: utf8(target)))) == .applied)
            for record in try records(link.appending("x")) + [Record(link.appending("d"), .directory(.usual))] {
                if case .part = record.change { continue }  // lies aside, under its digest
                // Where there is nothing, nothing is removed, and nothing has metadata.
                do { _ = try applier.apply(record) } catch is SystemError {}
            }
        }
        #expect(try store.bytes("outside/x") == utf8("precious"))
        #expect(try store.tree(["outside"]).count == 1)
        // By its own name a link makes room, and what it led to stays.
        #expect(try applier.apply(.whole(StorePath(mail, "l0"), utf8("mail"))) == .applied)
        #expect(try store.bytes("mail/l0") == utf8("mail"))
        #expect(try store.tree(["outside"]).count == 1)
    }

    @Test func `pipes and sockets in the way are neither waited for nor written into`() throws {
        for record in try records(StorePath(mail, "p")) {
            let path = store.path + "/mail/p"
            #expect(mkfifo(path, 0o600) == 0)
            do { _ = try applier.apply(record) } catch is SystemError {}
            if try store.status("mail/p")?.kind == .other {
                unlink(path)
            } else {
                _ = try applier.apply(Record(StorePath(mail, "p"), .remove))
            }
        }
    }

    // MARK: - lengths

    @Test(arguments: [RecordApplier.Mode.steady, .replay])
    func `few bytes make no file of many terabytes`(_ mode: RecordApplier.Mode) throws {
        let (old, huge) = (utf8("precious"), Int(Record.fileBytesMax))
        let path = StorePath(mail, "f")
        _ = try applier.apply(.whole(path, old))
        let basis = PageTable.digest(of: old)
        let wrong = PageTable.digest(of: utf8("other"))
        let extent = Record.ExtentBytes(offset: 0, bytes: utf8("P"))
        let records = [
            Record(path, .extents(.usual, basis: basis, result: wrong, byteCount: huge, [extent])),
            Record(path, .delta(.usual, basis: basis, result: wrong, byteCount: huge, delta: [])),
            Record(path, .part(result: wrong, offset: 1 << 40, bytes: utf8("x"))),
            Record(path, .assembled(.usual, result: wrong, byteCount: 1 << 40)),
        ]
        for record in records {
            switch try applier.apply(record, mode) {
            case .needsWhole: break
            case .applied: #expect(mode == .replay || record.result == nil, "\(record.change)")
            case .refused(let why): Issue.record("refused: \(why)")
            }
        }
        #expect(try store.bytes("mail/f") == old)
        #expect(try applier.settle() == (mode == .replay ? [path] : []))
    }

    @Test func `a delta that repeats its basis for ever is given up`() throws {
        // Copies all of the basis again and again: some bytes each, 4 KiB out.
        let old = content(4096)
        var delta: [UInt8] = [0x72, 0x73, 0x02, 0x36]
        for _ in 0..<400_000 { delta += [0x46, 0x00, 0x10, 0x00] }
        delta.append(0)
        let path = StorePath(mail, "f")
        _ = try applier.apply(.whole(path, old))
        let record = Record(
            path,
            .delta(
                .usual, basis: PageTable.digest(of: old), result: PageTable.digest(of: utf8("x")),
                byteCount: 400_000 * 4096, delta: delta))
        guard case .needsWhole = try applier.apply(record) else { return #expect(Bool(false), "applied") }
        #expect(try store.bytes("mail/f") == old)
        #expect(try Directory(store.path + "/mail/.mailsync").entries().isEmpty)
    }

    // MARK: - what a file may be

    @Test func `no file is made that runs as its owner, nor one with other rights than its mode`() throws {
        let metadata = Metadata(
            mode: 0o6755, mtimeNanoseconds: 1,
            attributes: [
                .init(name: utf8("security.capability"), value: [1, 0, 0, 2] + [UInt8](repeating: 0xff, count: 16)),
                .init(name: utf8("system.posix_acl_access"), value: [2, 0, 0, 0]),
                .init(name: utf8("user.note"), value: utf8("kept")),
            ])
        for (name, record) in [
            ("a", Record.whole(StorePath(mail, "a"), utf8("x"), metadata)),
            ("a", Record(StorePath(mail, "a"), .metadata(metadata, result: PageTable.digest(of: utf8("x"))))),
        ] {
            #expect(try applier.apply(record) == .applied)
            #expect(try store.status("mail/" + name)?.mode == 0o755)
            let attributes = try Descriptor.open(store.path + "/mail/" + name, for: .reading).extendedAttributes()
            #expect(attributes.map(\.name).allSatisfy { $0 == utf8("user.note") })
        }
    }
}

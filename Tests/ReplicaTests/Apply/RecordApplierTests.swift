import Delta
import Digests
import Formats
import Linux
import Seeded
import Store
import Testing

@testable import Replica

@Suite struct RecordApplierTests {
    private let store: TemporaryStore
    private let applier: RecordApplier
    private let index = StorePath(mail, "user/alice/cyrus.index")
    private let message = StorePath(mail, "user/alice/1.")
    private let old = content(20_000)
    private var new: [UInt8] {
        var new = old
        new[0] ^= 1
        new[9000] ^= 1
        return new + content(100, seed: 2)
    }

    init() throws {
        store = try TemporaryStore()
        applier = try store.applier()
    }

    // MARK: - once and twice

    /// What each kind of record needs, the record, and what it makes.
    private func steps(_ kind: String) throws -> (before: [Record], record: Record, made: [UInt8]?) {
        let touched = Metadata(
            mode: 0o640, mtimeNanoseconds: 5, attributes: [.init(name: utf8("user.mailsync"), value: utf8("1"))])
        switch kind {
        case "directory":
            return (
                [], Record(StorePath(mail, "user/bob"), .directory(Metadata(mode: 0o750, mtimeNanoseconds: 0))), nil
            )
        case "whole": return ([.whole(index, old)], .whole(index, new), new)
        case "extents": return ([.whole(index, old)], .extents(index, from: old, to: new, touched), new)
        case "extents that cut":
            return (
                [.whole(index, old)], .extents(index, from: old, to: Array(old.prefix(5001))), Array(old.prefix(5001))
            )
        case "delta":
            return ([.whole(index, old)], try .delta(index, from: old, to: utf8("x") + old, touched), utf8("x") + old)
        case "part": return ([], Record.parts(index, new)[0], nil)
        case "assembled": return (Array(Record.parts(index, new).dropLast()), Record.parts(index, new).last!, new)
        case "link":
            return (
                [.whole(message, old)], Record(index, .link(target: message, result: PageTable.digest(of: old))), old
            )
        case "symlink": return ([], Record(index, .symlink(.usual, target: utf8("../elsewhere"))), nil)
        case "metadata":
            return ([.whole(index, old)], Record(index, .metadata(touched, result: PageTable.digest(of: old))), old)
        case "remove": return ([.whole(index, old)], Record(index, .remove), nil)
        default: return ([.whole(index, old)], Record(StorePath(mail, "user"), .remove), nil)
        }
    }

    @Test(
        arguments: [
            "directory", "whole", "extents", "extents that cut", "delta", "part", "assembled", "link", "symlink",
            "metadata", "remove", "remove of a directory",
        ], [RecordApplier.Mode.steady, .replay])
    func `applying a record twice is applying it once`(_ kind: String, _ mode: RecordApplier.Mode) throws {
        let (before, record, made) = try steps(kind)
        #expect(try applier.applyAll(before) == [])
        #expect(try applier.apply(record, mode) == .applied)
        let once = try store.tree()
        if let made { #expect(try store.bytes("mail/user/alice/cyrus.index") == made) }
        #expect(try applier.apply(record, mode) == .applied)
        #expect(try store.tree() == once)
        #expect(try applier.settle() == [])
        // By a process that knows nothing of the first time.
        let next = try store.applier()
        #expect(try next.apply(record, mode) == .applied)
        #expect(try next.settle() == [])
        #expect(try store.tree() == once)
    }

    @Test(arguments: ["whole", "extents", "delta", "assembled", "metadata"])
    func `mode, time and attributes are what the record says`(_ kind: String) throws {
        let metadata = Metadata(
            mode: 0o2751, mtimeNanoseconds: -1_000_000_001,
            attributes: [.init(name: utf8("user.a"), value: [0, 255]), .init(name: utf8("user.b"), value: [])])
        let result = PageTable.digest(of: old)
        #expect(
            try applier.apply(
                .whole(
                    index, old,
                    Metadata(mode: 0o777, mtimeNanoseconds: 0, attributes: [.init(name: utf8("user.gone"), value: [1])])
                )) == .applied)
        let records: [Record]
        switch kind {
        case "whole": records = [.whole(index, new, metadata)]
        case "extents": records = [.extents(index, from: old, to: new, metadata)]
        case "delta": records = [try .delta(index, from: old, to: new, metadata)]
        case "assembled": records = Record.parts(index, new, metadata)
        default: records = [Record(index, .metadata(metadata, result: result))]
        }
        #expect(try applier.applyAll(records) == [])
        let status = try #require(try store.status("mail/user/alice/cyrus.index"))
        #expect(status.mode == 0o751)  // no mail runs
        #expect(status.mtimeNanoseconds == -1_000_000_001)
        let file = try Descriptor.open(store.path + "/mail/user/alice/cyrus.index", for: .reading)
        let attributes = try file.extendedAttributes().sorted { $0.name.lexicographicallyPrecedes($1.name) }
        #expect(attributes.map(\.name) == [utf8("user.a"), utf8("user.b")])
        #expect(attributes.map(\.value) == [[0, 255], []])
    }

    @Test func `a link is another name of one file`() throws {
        let result = PageTable.digest(of: old)
        let other = StorePath(.sieve, "x/2.")
        #expect(
            try applier.applyAll([.whole(message, old), Record(other, .link(target: message, result: result))]) == [])
        let (one, two) = (try store.status("mail/user/alice/1."), try store.status("sieve/x/2."))
        #expect(one?.inode == two?.inode)
        #expect(one?.linkCount == 2)
    }

    // MARK: - what does not fit

    /// A record, on a store where the index has other bytes than it starts from.
    @Test(arguments: ["extents", "delta", "whole", "corrupt delta", "wrong delta"])
    func `a record that does not fit is asked for whole, and changes nothing`(_ kind: String) throws {
        let other = content(20_000, seed: 3)
        let record: Record
        switch kind {
        case "extents": record = .extents(index, from: old, to: new)
        case "delta": record = try .delta(index, from: old, to: new)
        case "whole": record = Record(index, .whole(.usual, result: PageTable.digest(of: old), bytes: new))
        case "corrupt delta":
            record = Record(
                index,
                .delta(
                    .usual, basis: PageTable.digest(of: other), result: PageTable.digest(of: new), byteCount: new.count,
                    delta: [1, 2, 3]))
        default:
            let delta = try RsyncDelta.encode(signature: try Signature.make(of: other), new: utf8("another"))
            record = Record(
                index,
                .delta(
                    .usual, basis: PageTable.digest(of: other), result: PageTable.digest(of: new), byteCount: new.count,
                    delta: delta))
        }
        #expect(try applier.apply(.whole(index, other)) == .applied)
        let before = try store.tree()
        guard case .needsWhole = try applier.apply(record) else {
            Issue.record("applied")
            return
        }
        #expect(try store.tree() == before)
        #expect(try applier.apply(.whole(index, new)) == .applied)
        #expect(try store.bytes("mail/user/alice/cyrus.index") == new)
    }

    /// Nothing was there before and nothing is there after; in a replay it is in doubt until the end.
    @Test(arguments: ["extents", "delta", "metadata", "link", "assembled"])
    func `a record about what is not there is asked for whole, and makes nothing`(_ kind: String) throws {
        let result = PageTable.digest(of: new)
        let record: Record
        switch kind {
        case "extents": record = .extents(index, from: old, to: new)
        case "delta": record = try .delta(index, from: old, to: new)
        case "metadata": record = Record(index, .metadata(.usual, result: result))
        case "link": record = Record(index, .link(target: message, result: result))
        default: record = Record(index, .assembled(.usual, result: result, byteCount: new.count))
        }
        let before = try store.tree()
        guard case .needsWhole = try applier.apply(record) else {
            Issue.record("applied")
            return
        }
        #expect(try store.tree() == before)
        #expect(try applier.apply(record, .replay) == .applied)
        #expect(try store.tree() == before)
        #expect(try applier.settle() == [index])
        #expect(try applier.settle() == [])
    }

    @Test func `parts that do not make the whole are thrown away`() throws {
        var parts = Record.parts(index, new)
        parts.remove(at: 1)
        for part in parts.dropLast() { #expect(try applier.apply(part) == .applied) }
        guard case .needsWhole = try applier.apply(parts.last!) else {
            Issue.record("applied")
            return
        }
        #expect(try store.tree() == [:])
        #expect(try applier.applyAll(Record.parts(index, new)) == [])
        #expect(try store.bytes("mail/user/alice/cyrus.index") == new)
    }

    @Test func `parts survive the process`() throws {
        let parts = Record.parts(index, new)
        #expect(try applier.applyAll(Array(parts.prefix(2))) == [])
        #expect(try store.applier().applyAll(Array(parts.dropFirst(2))) == [])
        #expect(try store.bytes("mail/user/alice/cyrus.index") == new)
    }

    @Test func `a chain of changes is followed through its tables`() throws {
        var generator = SeededGenerator(seed: 11)
        var bytes = old
        #expect(try applier.apply(.whole(index, bytes)) == .applied)
        for step in 0..<50 {
            var next = bytes
            if step % 3 == 0 { next += generator.bytes(step * 10) } else { next.removeLast(step) }
            for _ in 0..<3 { next[Int.random(in: 0..<next.count, using: &generator)] ^= 0xff }
            #expect(try applier.apply(.extents(index, from: bytes, to: next)) == .applied, "step \(step)")
            bytes = next
            #expect(try store.bytes("mail/user/alice/cyrus.index") == bytes, "step \(step)")
        }
    }

    // MARK: - replay, in particular

    /// A message is made in its place, so a crash may leave a part of it; another message of that name is somebody's mail.
    @Test(arguments: [0, 1, 19_999])
    func `what a crash left of a message is completed, and another message is kept`(_ byteCount: Int) throws {
        let directory = Record(StorePath(mail, "user/alice"), .directory(Metadata(mode: 0o700, mtimeNanoseconds: 0)))
        #expect(try applier.apply(directory) == .applied)
        try store.put(Array(old.prefix(byteCount)), "mail/user/alice/1.")
        #expect(try applier.apply(.whole(message, old), .replay) == .applied)
        #expect(try store.bytes("mail/user/alice/1.") == old)
        #expect(try kept() == 0)
        try store.put(content(byteCount + 1, seed: 9), "mail/user/alice/1.")
        #expect(try applier.apply(.whole(message, old), .replay) == .applied)
        #expect(try store.bytes("mail/user/alice/1.") == old)
        #expect(try kept() == 1)
    }

    private func kept(_ name: String = "1.") throws -> Int {
        try store.tree(["state/quarantine"]).keys.filter { $0.hasSuffix("/" + name) }.count
    }

    @Test(arguments: ["whole", "delta", "assembled"])
    func `what a seed over a copy replaces is kept, however it comes`(_ kind: String) throws {
        let seed = RecordApplier(try store.writer(), layout: store.layout, purpose: .seedOverCopy)
        let (before, record, made) = try steps(kind)
        #expect(try applier.apply(.whole(index, old)) == .applied)
        for record in before + [record] { #expect(try seed.apply(record) == .applied) }
        #expect(try store.bytes("mail/user/alice/cyrus.index") == made)
        #expect(try kept("cyrus.index") == 1)
    }

    /// IMAP's MOVE: a link in one mailbox, and the removal of where it links to.
    @Test func `a message that was moved is not asked for again`() throws {
        let moved = StorePath(mail, "user/alice/Sent/9.")
        let log = [
            Record.whole(message, old), Record(moved, .link(target: message, result: PageTable.digest(of: old))),
            Record(message, .remove),
        ]
        #expect(try applier.applyAll(log) == [])
        for start in 0..<log.count {
            let next = try store.applier()
            #expect(try next.applyAll(Array(log[start...]), .replay) == [], "from \(start)")
            #expect(try next.settle() == [], "from \(start)")
            #expect(try store.tree().keys.filter { $0.hasSuffix(".") } == ["mail/user/alice/Sent/9."])
            #expect(try store.bytes("mail/user/alice/Sent/9.") == old)
        }
    }

    @Test func `what was changed and then removed is not asked for again`() throws {
        let log = [
            Record.extents(index, from: old, to: new), try .delta(index, from: new, to: old),
            Record(index, .metadata(.usual, result: PageTable.digest(of: old))),
            Record(StorePath(mail, "user"), .remove),
        ]
        #expect(try applier.applyAll([.whole(index, old)] + log) == [])
        let next = try store.applier()
        #expect(try next.applyAll(log, .replay) == [])
        #expect(try next.settle() == [])
        #expect(try store.tree() == [:])
    }

    /// The name it linked to has been given to another message since: linking to that would be a wrong message.
    @Test func `a link is not made to another content than it tells`() throws {
        let copy = StorePath(mail, "user/alice/Sent/9.")
        let log = [
            Record.whole(message, old), Record(copy, .link(target: message, result: PageTable.digest(of: old))),
            Record(message, .remove), Record.whole(message, new),
        ]
        #expect(try applier.applyAll(log) == [])
        let next = try store.applier()
        #expect(try next.applyAll(Array(log.dropFirst()), .replay) == [])
        let wrong = try next.settle()
        #expect(wrong == [])
        #expect(try store.bytes("mail/user/alice/Sent/9.") == old)
        #expect(try store.bytes("mail/user/alice/1.") == new)
    }
}

import Digests
import Formats
import Foundation
import Linux
import Scratch
import Store
import Synchronization
import Testing

@testable import Primary

/// On the mailbox of Fixtures/cyrus, in a real directory.
@Suite final class UnitReaderTests {
    private let directory = TemporaryDirectory()
    private let catalogue: Catalogue
    private let reader: UnitReader
    private let roots: StoreRoots
    private let box = StorePath(mail, "user/alice")
    private let alarms = Alarms()

    private final class Alarms: Sendable {
        private let paths = Mutex<Set<StorePath>>([])
        var all: Set<StorePath> { paths.withLock { $0 } }
        func insert(_ path: StorePath) { paths.withLock { _ = $0.insert(path) } }
    }

    init() throws {
        roots = try directory.makeStore()
        for name in ["mail/user", "mail/user/alice"] { _ = try Directory.make(directory(name)) }
        catalogue = try Catalogue(path: directory("catalogue.db"))
        reader = UnitReader(
            roots: roots, catalogue: catalogue, shadows: try ShadowStore(directory("shadows")),
            spare: try OwnFiles(directory("spare")), alarm: { [alarms] path, _ in alarms.insert(path) },
            isAlarmed: { [alarms] in alarms.all.contains($0) })
        let fixture = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../../Fixtures/cyrus/mailbox")
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache", "1.", "2."] {
            try directory.put(
                Array(try Data(contentsOf: fixture.appending(path: name))), at: "mail/user/alice/\(name)")
        }
        for name in ["1.", "2."] { try ship(name) }
    }

    /// As the catalogue has what was shipped; of messages it has no digest.
    private func ship(_ name: String) throws {
        let path = box.appending(utf8(name))
        let digest =
            name.hasPrefix("cyrus.") ? PageTable.digest(of: try directory.bytes("mail/user/alice/\(name)")) : nil
        try catalogue.set(path, CatalogueEntry(try #require(try roots.status(of: path)), digest: digest))
    }

    /// The names read, those that are gone with a minus.
    private func read(_ names: String...) throws -> Set<String> {
        let outcome = try reader.read(box, Set(names.map(utf8)), shippedAlready: [], wholly: [])
        guard case .read(let captured) = outcome else {
            Issue.record("\(outcome)")
            return []
        }
        return Set(captured.map { ($0.isGone ? "-" : "") + String(decoding: $0.path.name, as: UTF8.self) })
    }

    @Test func `of a mailbox of which one file changed all that changed is read`() throws {
        #expect(try read("cyrus.index") == ["cyrus.index", "cyrus.header", "cyrus.cache"])
        for name in ["cyrus.header", "cyrus.cache"] { try ship(name) }
        #expect(try read("cyrus.index") == ["cyrus.index"])
        #expect(alarms.all == [])
    }

    /// Its hint came alone, as the index was busy a moment before and waits for its turn: the replica then lacked a message
    /// that its index still had.
    @Test func `a message that is gone takes the index along that says so`() throws {
        for name in ["cyrus.header", "cyrus.cache"] { try ship(name) }
        try Directory(directory("mail/user/alice")).unlink(utf8("1."))
        #expect(try read("1.") == ["-1.", "cyrus.index"])
        #expect(alarms.all == [])
    }

    /// Of a mailbox that is removed: without its header nobody would know that it has to wait for mailboxes.db.
    @Test func `a message that is gone takes along what is gone with it`() throws {
        for name in ["cyrus.index", "cyrus.header"] { try ship(name) }
        for name in ["1.", "cyrus.index", "cyrus.header", "cyrus.cache"] {
            try Directory(directory("mail/user/alice")).unlink(utf8(name))
        }
        // Of the cache there is no row.
        #expect(try read("1.") == ["-1.", "-cyrus.index", "-cyrus.header"])
    }

    @Test func `a message that is there needs no index`() throws { #expect(try read("1.") == []) }

    @Test func `a header that is not its index's stays back, and the index goes on without it`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes("mail/user/alice/cyrus.header")
        try directory.put(sound.dropLast() + [sound.last! ^ 1], at: "mail/user/alice/cyrus.header")
        #expect(try read("cyrus.index") == ["cyrus.index"])
        #expect(alarms.all == [box.appending("cyrus.header")])
        try directory.put(sound, at: "mail/user/alice/cyrus.header")
        #expect(try read("cyrus.index") == ["cyrus.header", "cyrus.index"])
    }

    /// A disk has changed it, and its status is as it was.
    @Test func `an index stays back if the header that was shipped is not its own, until that is right again`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes("mail/user/alice/cyrus.header")
        try directory.put(sound.dropLast() + [sound.last! ^ 1], at: "mail/user/alice/cyrus.header")
        try ship("cyrus.header")
        #expect(try read("cyrus.index") == [])
        #expect(alarms.all == [box.appending("cyrus.index")])
        try directory.put(sound, at: "mail/user/alice/cyrus.header")
        #expect(try read("cyrus.header") == ["cyrus.header", "cyrus.index"])
    }

    /// Its index may not have changed at all, as after a crash of Cyrus between the two.
    @Test func `a header that is not its index's is held back`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let path = "mail/user/alice/cyrus.header"
        let sound = try directory.bytes(path)
        for bad in [sound + utf8("x\n"), Array(sound.dropLast(20)), Array(sound.dropFirst()), []] {
            try directory.put(bad, at: path)
            #expect(try read("cyrus.header") == [])
            #expect(alarms.all == [box.appending("cyrus.header")])
        }
        try directory.put(sound, at: path)
        #expect(try read("cyrus.index") == ["cyrus.header", "cyrus.index"])
    }

    @Test func `a header whose index is being written is busy`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let index = try Descriptor.open(directory("mail/user/alice/cyrus.index"), for: .updating)
        try #require(try FileLock.tryExclusive(index))
        guard case .busy = try reader.read(box, [utf8("cyrus.header")], shippedAlready: [], wholly: []) else {
            Issue.record("the index is not asked")
            return
        }
    }
}

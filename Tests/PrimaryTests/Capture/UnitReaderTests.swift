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
    private let shadows: ShadowStore
    private let roots: StoreRoots
    private let box = StorePath(mail, "user/alice")
    private let header = "mail/user/alice/cyrus.header"
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
        shadows = try ShadowStore(directory("shadows"))
        reader = UnitReader(
            roots: roots, catalogue: catalogue, shadows: shadows,
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

    /// As Cyrus does it; `directory.put` changes it in place.
    private func replaceHeader(with bytes: [UInt8]) throws {
        try directory.put(bytes, at: header + ".NEW")
        try Directory(directory("mail/user/alice")).rename(utf8("cyrus.header.NEW"), to: utf8("cyrus.header"))
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

    @Test func `a header that was changed in place stays back, and the index goes on without it`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes(header)
        try directory.put(sound.dropLast() + [sound.last! ^ 1], at: header)
        #expect(try read("cyrus.index") == ["cyrus.index"])
        #expect(alarms.all == [box.appending("cyrus.header")])
        try directory.put(sound, at: header)
        #expect(try read("cyrus.index") == ["cyrus.header", "cyrus.index"])
    }

    /// A disk has changed the header, and its status is as it was; or it was shipped so at the first.
    @Test func `an index goes, whatever header is beside it`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes(header)
        try directory.put(sound.dropLast() + [sound.last! ^ 1], at: header)
        try ship("cyrus.header")
        #expect(try read("cyrus.index") == ["cyrus.index"])
        #expect(alarms.all == [])
    }

    /// Its index may not have changed at all.
    @Test func `a header that no Cyrus wrote is held back`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes(header)
        for bad in [sound + utf8("x\n"), Array(sound.dropLast(20)), Array(sound.dropFirst()), []] {
            try directory.put(bad, at: header)
            #expect(try read("cyrus.header") == [])
            #expect(alarms.all == [box.appending("cyrus.header")])
        }
        try directory.put(sound, at: header)
        #expect(try read("cyrus.index") == ["cyrus.header", "cyrus.index"])
    }

    /// The next Cyrus takes the keywords it names for given, and does not write it again.
    @Test func `a header that a dead Cyrus left without its index goes; one that is none does not`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let sound = try directory.bytes(header)
        let end = utf8("))\n")
        try replaceHeader(with: sound.dropLast(end.count) + utf8(" kw3") + end)
        #expect(try read("cyrus.header") == ["cyrus.header"])
        #expect(alarms.all == [])
        try replaceHeader(with: Array(sound.dropFirst()))
        #expect(try read("cyrus.header") == [])
        #expect(alarms.all == [box.appending("cyrus.header")])
    }

    /// Cyrus unlinked it and then repacked the index; no event told of either.
    @Test func `a message that an index names no more goes with it where events do not tell`() throws {
        for name in ["cyrus.header", "cyrus.cache"] { try ship(name) }
        try directory.put(utf8("x"), at: "mail/user/alice/99.")
        try ship("99.")
        try Directory(directory("mail/user/alice")).unlink(utf8("99."))
        #expect(try read("cyrus.index") == ["cyrus.index"])
        reader.looksForMessages = true
        #expect(try read("cyrus.index") == ["cyrus.index", "-99."])
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

    // MARK: - messages that an index has no more

    /// Reads the index and returns whether it has messages no more; it counts as shipped then.
    private func losesMessages() throws -> Bool {
        let outcome = try reader.read(box, [utf8("cyrus.index")], shippedAlready: [], wholly: [])
        guard case .read(let captured) = outcome,
            let index = captured.first(where: { $0.path.name.elementsEqual(utf8("cyrus.index")) })
        else {
            Issue.record("\(outcome)")
            return false
        }
        if case .file(let version, let old) = index.found { try shadows.update(index.path, to: version, from: old) }
        try ship("cyrus.index")
        return index.losesMessages
    }

    /// Rewrites the record of the first message, with its checksum.
    private func changeRecord(_ change: (inout [UInt8]) -> Void) throws {
        var bytes = try directory.bytes("mail/user/alice/cyrus.index")
        let index = try IndexImage(bytes)
        let range = index.offset(ofRecord: 0)..<index.offset(ofRecord: 1)
        var record = Array(bytes[range])
        change(&record)
        record.replaceSubrange(record.count - 4..<record.count, with: crc32(record.dropLast(4)).bigEndianBytes)
        bytes.replaceSubrange(range, with: record)
        try directory.put(bytes, at: "mail/user/alice/cyrus.index")
    }

    @Test func `an index loses messages that are expunged, not those that are flagged or new`() throws {
        let isLosing = try losesMessages()
        #expect(!isLosing, "there is no row of it")
        let isLosingNothing = try losesMessages()
        #expect(!isLosingNothing)
        try changeRecord { $0[35] |= 1 << 4 }
        let isLosingFlagged = try losesMessages()
        #expect(!isLosingFlagged)
        try changeRecord { $0[32] |= 1 << 7 }
        let isLosingExpunged = try losesMessages()
        #expect(isLosingExpunged)
        try changeRecord { $0[35] ^= 1 << 4 }
        let isLosingExpungedAgain = try losesMessages()
        #expect(!isLosingExpungedAgain)
    }

    @Test func `an index of which is not known what was shipped may lose messages, as one that is gone`() throws {
        try catalogue.set(box.appending("cyrus.index"), CatalogueEntry(shipped: nil, kind: .file))
        let isUnknown = try losesMessages()
        #expect(isUnknown)
        try Directory(directory("mail/user/alice")).unlink(utf8("cyrus.index"))
        guard case .read(let captured) = try reader.read(box, [utf8("cyrus.index")], shippedAlready: [], wholly: [])
        else {
            Issue.record("busy")
            return
        }
        #expect(captured.contains { $0.isGone && $0.losesMessages })
    }

    // MARK: - what is held back

    @Test func `a broken file that is wanted whole is held back as before, until it is right`() throws {
        for name in ["cyrus.index", "cyrus.header", "cyrus.cache"] { try ship(name) }
        let path = box.appending("cyrus.index")
        let sound = try directory.bytes("mail/user/alice/cyrus.index")
        try directory.put(Array(sound.prefix(100)), at: "mail/user/alice/cyrus.index")
        try catalogue.set(path, CatalogueEntry(shipped: nil, kind: .file))
        #expect(try read("cyrus.index") == [])
        #expect(alarms.all == [path])
        try directory.put(sound, at: "mail/user/alice/cyrus.index")
        #expect(try read("cyrus.index") == ["cyrus.index"])
    }

    @Test func `a database in which a transaction was cut off is held back, while its writer lives it is not`() throws {
        let user = StorePath(.configuration, "user/uuid/9/v/9ventuccpojq3e7k1n3hvy2s")
        let place = directory("conf/user/uuid/9/v/9ventuccpojq3e7k1n3hvy2s")
        for count in [2, 3, 4, 5, 6] {
            let parts = "conf/user/uuid/9/v/9ventuccpojq3e7k1n3hvy2s".split(separator: "/").prefix(count)
            _ = try Directory.make(directory(parts.joined(separator: "/")))
        }
        var page = [UInt8](repeating: 0, count: 4096)
        page.replaceSubrange(0..<16, with: SQLiteHeader.magic)
        page[16] = 0x10
        for (name, bytes) in [("dav.db", page), ("dav.db-journal", [1])] {
            try AtomicFile.replace(directory: place, name: name, bytes: bytes)
        }
        let path = user.appending("dav.db")
        let digest = PageTable.digest(of: page)
        try catalogue.set(path, CatalogueEntry(shipped: digest, kind: .file))
        func names() throws -> [String] {
            guard case .read(let captured) = try reader.read(user, [utf8("dav.db")], shippedAlready: [], wholly: [])
            else { return ["busy"] }
            return captured.map { String(decoding: $0.path.name, as: UTF8.self) }
        }
        #expect(try names() == [])
        #expect(alarms.all == [path])
        let writer = try Descriptor.open(place + "/dav.db", for: .updating)
        try #require(try FileLock.tryExclusive(writer, LockRange(start: 0x4000_0001, byteCount: 1)))
        #expect(try names() == ["dav.db"])
        try FileLock.unlock(writer, LockRange(start: 0x4000_0001, byteCount: 1))
        #expect(try names() == [])
        try Directory(place).unlink(utf8("dav.db-journal"))
        #expect(try names() == ["dav.db"])
    }
}

extension UInt32 {
    fileprivate var bigEndianBytes: [UInt8] { withUnsafeBytes(of: bigEndian) { Array($0) } }
}

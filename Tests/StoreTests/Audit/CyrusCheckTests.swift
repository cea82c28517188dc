import Digests
import Formats
import Foundation
import Linux
import Testing

@testable import Store

private let inbox = StoreCopy.inbox
private let sent = StoreCopy.sent
private let mailboxes = StorePath(.configuration, "mailboxes.db")

@Suite struct CyrusCheckTests {
    @Test func `a store that Cyrus left has no findings`() throws {
        let store = try StoreCopy()
        for check in [try store.check(), try store.check(.live(store.locks()))] {
            #expect(try check.mailbox(inbox) == CyrusVerdict())
            #expect(try check.mailbox(sent) == CyrusVerdict())
            #expect(try check.store() == CyrusVerdict())
        }
    }

    @Test(arguments: ["cyrus.index", "cyrus.header", "cyrus.cache", "cyrus.annotations", "1.", "3."])
    func `a bit flipped anywhere in a mailbox is found`(_ name: String) throws {
        let store = try StoreCopy()
        let path = inbox.appending(name)
        let sound = try store.bytes(path)
        let check = try store.check()
        for offset in sound.indices {
            var bytes = sound
            bytes[offset] ^= 1 << UInt8(offset % 8)
            try store.write(bytes, to: path)
            #expect(try !check.mailbox(inbox).findings.isEmpty, "\(name), offset \(offset)")
        }
    }

    @Test(arguments: ["cyrus.index", "cyrus.header", "cyrus.cache", "cyrus.annotations", "2."])
    func `a file of a mailbox cut anywhere is found`(_ name: String) throws {
        let store = try StoreCopy()
        let path = inbox.appending(name)
        let sound = try store.bytes(path)
        let check = try store.check()
        for count in 1..<sound.count {
            try store.write(Array(sound[..<count]), to: path)
            #expect(try !check.mailbox(inbox).findings.isEmpty, "\(name), \(count) bytes")
        }
    }

    @Test func `messages that are gone, cut, exchanged or a link are told by their UIDs`() throws {
        let store = try StoreCopy()
        let (one, two) = (try store.bytes(inbox.appending("1.")), try store.bytes(inbox.appending("2.")))
        try store.write(two, to: inbox.appending("1."))
        try store.write(one, to: inbox.appending("2."))
        try store.remove(inbox.appending("3."))
        try store.remove(inbox.appending("4."))
        try FileManager.default.createSymbolicLink(
            atPath: store.file(inbox.appending("4.")), withDestinationPath: store.file(inbox.appending("5.")))
        try store.write(Array(one.dropLast()), to: inbox.appending("5."))
        let findings = try store.check().mailbox(inbox).findings
        #expect(findings.map(\.kind) == [.message, .message, .missing, .missing, .message])
        #expect(findings.map(\.path) == (1...5).map { inbox.appending("\($0).") })
        #expect(findings.allSatisfy { $0.mailbox?.description == "user.alice" })
        #expect(try store.check().mailbox(inbox, messages: .sizes).findings.count == 3)
    }

    @Test func `a message that no record is about is found, one of an append given up is not`() throws {
        let store = try StoreCopy()
        try store.write([1], to: inbox.appending("6."))
        #expect(try store.kinds(of: inbox).isEmpty)
        try store.changeIndex(of: inbox) { put(number(at: 20, in: $0) - 1, at: 20, in: &$0) }
        let findings = try store.check().mailbox(inbox).findings
        #expect(findings.contains { $0.kind == .extra && $0.path == inbox.appending("5.") })
        #expect(findings.contains { $0.kind == .count })
    }

    @Test(arguments: [32, 48, 52, 56, 84, 96, 100, 120, 124])
    func `a number of the header that its records do not make is found under a good checksum`(_ offset: Int) throws {
        let store = try StoreCopy()
        try store.changeIndex(of: inbox) {
            put(number(at: offset + (offset == 32 ? 4 : 0), in: $0) + 1, at: offset, in: &$0)
        }
        #expect(try !store.kinds(of: inbox).isEmpty)
    }

    @Test func `a user flag without a name is found, in an expunged message it is not`() throws {
        let store = try StoreCopy()
        func set(_ record: Int) throws {
            try store.changeIndex(of: inbox) { bytes in
                let base = 160 + 112 * record
                bytes[base + 36] |= 1  // user flag 24
                put(crc32(bytes[base..<base + 108]), at: base + 108, in: &bytes)
            }
        }
        try set(3)
        #expect(try store.kinds(of: inbox).isEmpty, "the fourth is expunged")
        try set(0)
        #expect(try store.kinds(of: inbox) == [.flag])
    }

    @Test func `a cache that is not there is told, and no alarm`() throws {
        let store = try StoreCopy()
        try store.remove(inbox.appending("cyrus.cache"))
        let findings = try store.check().mailbox(inbox).findings
        #expect(findings.map(\.kind) == [.uncached] && !findings[0].kind.isAlarm)
    }

    @Test func `a mailbox that somebody writes all the time is busy, neither good nor bad`() throws {
        let store = try StoreCopy()
        let path = String(decoding: store.layout.userLock(Array("alice".utf8)), as: UTF8.self)
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        let lock = try Descriptor.open(path, for: .updatingOrCreating)
        #expect(try FileLock.tryExclusive(lock))
        try store.write([], to: inbox.appending("cyrus.index"))
        let check = try store.check(.live(store.locks()), patience: .milliseconds(20))
        var busy = CyrusVerdict()
        busy.busy = [inbox.appending("cyrus.index")]
        #expect(try check.mailbox(inbox) == busy)
        try lock.close()
        #expect(try check.mailbox(inbox).findings.map(\.kind) == [.unreadable])
    }

    @Test func `an index read in pieces is the index`() throws {
        let store = try StoreCopy()
        let roots = try StoreRoots(store.layout)
        let place = try #require(MailboxPlace(inbox, layout: store.layout))
        var seen: [[UInt32]] = []
        for reading in [IndexFile.Reading.never, .whenSmall] {
            let index = try #require(try MailboxView.index(place, roots, reading).0)
            var uids: [UInt32] = []
            try index.forEachRecord { (record) throws(SystemError) in uids.append(record.uid) }
            for uid in uids { #expect(try index.record(uid: uid)?.uid == uid) }
            #expect(try index.record(uid: 99) == nil && index.record(at: uids.count) == nil)
            seen.append(uids)
        }
        #expect(seen == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    }
}

@Suite struct StoreCheckTests {
    @Test func `a mailbox that is named and not there is dangling`() throws {
        let store = try StoreCopy()
        try store.remove(sent)
        let findings = try store.check().store().findings
        #expect(findings.contains { $0.kind == .dangling && $0.mailbox?.description == "user.alice.Sent" })
        #expect(Set(findings.map(\.kind)) == [.dangling, .quota])
    }

    @Test func `a mailbox that is there and not named is an orphan, unless it waits for its removal`() throws {
        let store = try StoreCopy()
        let lost = StorePath(sent.root, "uuid/z/z/zz450j03hydsqm1ziu8gat")
        try FileManager.default.createDirectory(
            atPath: (store.file(lost) as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: store.file(sent), toPath: store.file(lost))
        #expect(try store.check().store().findings.map(\.kind) == [.orphan])
        #expect(try store.check().store().findings.map(\.path) == [lost])
        try store.changeIndex(of: lost) { $0[60] |= 0x80 }
        #expect(try store.storeKinds().isEmpty)
    }

    @Test func `a header that is another mailbox's is found`() throws {
        let store = try StoreCopy()
        try store.write(try store.bytes(sent.appending("cyrus.header")), to: inbox.appending("cyrus.header"))
        #expect(try store.storeKinds() == [.disagreement])
        #expect(try store.kinds(of: inbox).contains(.checksum))
    }

    @Test func `rights that differ from those in mailboxes_db are found`() throws {
        let store = try StoreCopy()
        let path = inbox.appending("cyrus.header")
        let text = String(decoding: try store.bytes(path), as: UTF8.self)
        #expect(text.contains("bob lrs"))
        var bytes = try store.bytes(path)
        let place = try #require(bytes.firstRange(of: Array("bob lrs".utf8)))
        bytes[place.upperBound - 1] = UInt8(ascii: "w")
        try store.write(bytes, to: path)
        #expect(try store.storeKinds() == [.disagreement])
    }

    @Test func `another uidvalidity than in mailboxes_db is found`() throws {
        let store = try StoreCopy()
        try store.changeIndex(of: sent) { $0[47] ^= 1 }
        #expect(try store.storeKinds() == [.disagreement])
    }

    @Test func `usage that is not the sum of the mailboxes is found`() throws {
        let store = try StoreCopy()
        let path = StorePath(.configuration, "quota/a/user.alice")
        var text = String(decoding: try store.bytes(path), as: UTF8.self)
        text = text.replacingOccurrences(of: "S (", with: "S (1")
        try store.write(Array(text.utf8), to: path)
        #expect(try store.storeKinds() == [.quota])
        try store.remove(path)
        #expect(try store.storeKinds() == [.quota], "two mailboxes count for it")
    }

    @Test func `a mailboxes_db that is not there is missing`() throws {
        let store = try StoreCopy()
        try store.remove(mailboxes)
        #expect(try store.storeKinds() == [.missing])
    }

    @Test(arguments: [
        "mailboxes.db", "annotations.db", "user/uuid/x/p/xpxiqhy9yxm638o26ia2tkr7/seen.db",
        "user/uuid/l/j/ljgd9k8h3vff2hiubbtt9vds/counters.db",
    ])
    func `a bit flipped anywhere in a database with checksums is found`(_ name: String) throws {
        let store = try StoreCopy()
        let path = StorePath(.configuration, name)
        let kind = try #require(store.layout.role(of: path).databaseKind)
        let sound = try store.bytes(path)
        #expect(DatabaseImage.problems(sound, kind).isEmpty)
        for offset in sound.indices {
            var bytes = sound
            bytes[offset] ^= 1 << UInt8(offset % 8)
            #expect(!DatabaseImage.problems(bytes, kind).isEmpty, "\(name), offset \(offset)")
        }
        var bytes = sound
        bytes[sound.count / 2] ^= 4
        try store.write(bytes, to: path)
        #expect(try store.storeKinds().contains(.unreadable))
    }
}

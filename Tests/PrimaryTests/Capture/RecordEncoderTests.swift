import Delta
import Digests
import Formats
import Foundation
import Linux
import Scratch
import Store
import Testing

@testable import Primary

/// On a small store in real directories.
@Suite final class RecordEncoderTests {
    private let directory = TemporaryDirectory()
    private let roots: StoreRoots
    private let catalogue: Catalogue
    private let shadows: ShadowStore
    private let page = PageTable.pageBytes
    private var alarms: [String] = []
    private var linkTargets: LinkTargets = [:]

    init() throws {
        roots = try directory.makeStore()
        catalogue = try Catalogue(path: directory("catalogue.db"))
        shadows = try ShadowStore(directory("shadows"))
    }

    private var encoder: RecordEncoder {
        RecordEncoder(roots: roots, catalogue: catalogue, shadows: shadows) { [self] in alarms.append("\($0): \($1)") }
    }

    private func path(_ name: String) -> StorePath { StorePath(mail, name) }

    /// What the log tells of `found`, noted as the capturer notes it.
    private func ship(_ name: String, _ found: Captured.Found) throws -> [Record]? {
        var records: [Record] = []
        let captured = Captured(path: path(name), found: found)
        let shipped = try encoder.encode(captured, linkTargets: &linkTargets) { records.append($0) }
        guard let shipped else { return nil }
        guard let entry = shipped.entry else {
            try catalogue.remove(path(name))
            try shadows.remove(path(name))
            return records
        }
        try catalogue.set(path(name), entry)
        if let shadow = shipped.shadow { try shadows.update(path(name), to: shadow.version, from: shadow.old) }
        return records
    }

    /// A file that Cyrus changes, read as it is now.
    private func shipFile(_ name: String) throws -> [Record] {
        let old = try shadows.table(of: path(name), expected: try catalogue.entry(path(name))?.digest)
        let version = try FileVersion.read(directory, "mail/" + name, old: old)
        return try #require(try ship(name, .file(version, old: old)))
    }

    private func shipMessage(_ name: String, guid: MessageGUID? = nil) throws -> [Record]? {
        try ship(name, .message(try OpenMessage(try directory.file("mail/" + name), guid: guid)))
    }

    private func put(_ bytes: [UInt8], _ name: String) throws { try directory.put(bytes, at: "mail/" + name) }

    private func metadata(_ name: String) throws -> Metadata {
        roots.metadata(try #require(try roots.status(of: path(name))))
    }

    // MARK: - files that change

    @Test func `a new file is told whole, and told again by nothing`() throws {
        let bytes = content(3 * page)
        try put(bytes, "f")
        #expect(
            try shipFile("f") == [
                Record(path("f"), .whole(try metadata("f"), result: PageTable.digest(of: bytes), bytes: bytes))
            ])
        #expect(try shipFile("f").isEmpty)
    }

    @Test func `the owner of the store is nobody in particular`() throws {
        try put(content(10), "f")
        let metadata = try metadata("f")
        #expect(metadata.owner == nil && metadata.group == nil)
        #expect(metadata.mode == 0o600)
    }

    @Test func `a few bytes changed are extents on what was shipped`() throws {
        let old = content(16 * page)
        try put(old, "f")
        _ = try shipFile("f")
        var new = old
        new[3] ^= 1
        for index in 40_000..<40_100 { new[index] ^= 0xff }
        new += content(50, seed: 2)
        try put(new, "f")
        let records = try shipFile("f")
        guard records.count == 1,
            case .extents(_, let basis, let result, let byteCount, let extents) = records[0].change
        else {
            Issue.record("\(records.map(\.path))")
            return
        }
        #expect(basis == PageTable.digest(of: old))
        #expect(result == PageTable.digest(of: new))
        #expect(byteCount == new.count)
        #expect(extents.reduce(0) { $0 + $1.bytes.count } < 300)
        var made = Array(old.prefix(byteCount)) + [UInt8](repeating: 0, count: max(0, byteCount - old.count))
        for extent in extents {
            made.replaceSubrange(extent.offset..<extent.offset + extent.bytes.count, with: extent.bytes)
        }
        #expect(made == new)
    }

    @Test func `a file that only got shorter is extents without any`() throws {
        let old = content(16 * page)
        try put(old, "f")
        _ = try shipFile("f")
        try put(Array(old.prefix(9 * page)), "f")
        guard case .extents(_, _, _, let byteCount, let extents) = try shipFile("f").first?.change else {
            Issue.record("no extents")
            return
        }
        #expect(byteCount == 9 * page)
        #expect(extents.isEmpty)
    }

    @Test func `bytes that moved are a delta on what was shipped`() throws {
        let old = content(64 * page)
        try put(old, "f")
        _ = try shipFile("f")
        let new = content(1000, seed: 2) + old
        try put(new, "f")
        guard case .delta(_, let basis, let result, let byteCount, let delta) = try shipFile("f").first?.change else {
            Issue.record("no delta")
            return
        }
        #expect(basis == PageTable.digest(of: old))
        #expect(result == PageTable.digest(of: new))
        #expect(byteCount == new.count)
        #expect(try RsyncDelta.apply(delta, basis: old, resultBytesMax: byteCount) == new)
    }

    @Test func `a file that changed altogether is told whole`() throws {
        try put(content(16 * page), "f")
        _ = try shipFile("f")
        let new = content(16 * page, seed: 2)
        try put(new, "f")
        guard case .whole(_, _, let bytes) = try shipFile("f").first?.change else {
            Issue.record("not whole")
            return
        }
        #expect(bytes == new)
    }

    @Test func `a small file has no shadow and is told whole each time`() throws {
        for seed: UInt64 in 1...3 {
            try put(content(ShadowStore.fileBytesMin - 1, seed: seed), "f")
            guard case .whole = try shipFile("f").first?.change else {
                Issue.record("not whole")
                return
            }
            let digest = try catalogue.entry(path("f"))?.digest
            #expect(digest != nil)
            #expect(try shadows.table(of: path("f"), expected: digest) == nil)
        }
    }

    @Test func `a file that lost its shadow is told whole once`() throws {
        let old = content(16 * page)
        try put(old, "f")
        _ = try shipFile("f")
        try shadows.remove(path("f"))
        try put(old + [1], "f")
        guard case .whole = try shipFile("f").first?.change else {
            Issue.record("not whole")
            return
        }
        try put(old + [2], "f")
        guard case .extents = try shipFile("f").first?.change else {
            Issue.record("not extents")
            return
        }
    }

    @Test func `new metadata alone are told alone`() throws {
        let bytes = content(2 * page)
        try put(bytes, "f")
        _ = try shipFile("f")
        try directory.file("mail/f").setMode(0o644)
        #expect(
            try shipFile("f") == [Record(path("f"), .metadata(try metadata("f"), result: PageTable.digest(of: bytes)))])
        try directory.file("mail/f").setTimes(mtimeNanoseconds: 1_000_000_000)
        let records = try shipFile("f")
        guard case .metadata(let told, _) = records.first?.change else {
            Issue.record("no metadata")
            return
        }
        #expect(told.mtimeNanoseconds == 1_000_000_000)
    }

    @Test func `a content too large for one batch travels in parts`() throws {
        let bytes = content(17 << 20)
        try put(bytes, "f")
        let records = try shipFile("f")
        var made: [UInt8] = []
        for record in records.dropLast() {
            guard case .part(let result, let offset, let piece) = record.change else {
                Issue.record("no part")
                return
            }
            #expect(result == PageTable.digest(of: bytes))
            #expect(offset == made.count)
            #expect(piece.count <= Record.contentBytesMax)
            made += piece
        }
        #expect(made == bytes)
        guard case .assembled(_, let result, let byteCount) = records.last?.change else {
            Issue.record("not assembled")
            return
        }
        #expect(result == PageTable.digest(of: bytes))
        #expect(byteCount == bytes.count)
    }

    /// Before there was a replica the file was only noted: whoever is seeded gets it as it is.
    @Test func `of a file of which only the log tells the metadata are told again, and it has a shadow from then on`()
        throws
    {
        let bytes = content(8 * page)
        try put(bytes, "f")
        let digest = PageTable.digest(of: bytes)
        try catalogue.set(path("f"), CatalogueEntry(shipped: digest, kind: .file))
        #expect(try shipFile("f") == [Record(path("f"), .metadata(try metadata("f"), result: digest))])
        try put(bytes + [1], "f")
        guard case .extents = try shipFile("f").first?.change else {
            Issue.record("no extents")
            return
        }
    }

    @Test func `a row of the first start is filled without a word`() throws {
        try put(content(2 * page), "f")
        try catalogue.set(path("f"), CatalogueEntry(try #require(try roots.status(of: path("f"))), digest: nil))
        #expect(try shipFile("f").isEmpty)
        #expect(try catalogue.entry(path("f"))?.digest == PageTable.digest(of: content(2 * page)))
        try put(content(2 * page) + [1], "f")
        guard case .extents = try shipFile("f").first?.change else {
            Issue.record("no extents")
            return
        }
    }

    // MARK: - names

    @Test func `a name that is gone is removed if it was ever told`() throws {
        #expect(try ship("f", .nothing) == nil)
        try put(content(10), "f")
        _ = try shipFile("f")
        #expect(try ship("f", .nothing) == [Record(path("f"), .remove)])
        #expect(try ship("f", .nothing) == nil)
    }

    @Test func `a directory is told once, and again with another mode`() throws {
        let made = try Directory.make(directory("mail/d"), mode: 0o755)
        func found() throws -> Captured.Found { .directory(try #require(try roots.status(of: path("d")))) }
        #expect(try ship("d", try found()) == [Record(path("d"), .directory(try metadata("d")))])
        try put([], "d/1.")
        #expect(try ship("d", try found()) == nil)
        try made.descriptor.setMode(0o700)
        #expect(try ship("d", try found()) == [Record(path("d"), .directory(try metadata("d")))])
    }

    @Test func `a symbolic link is told once, and again with another target`() throws {
        let root = try Directory(directory("mail"))
        for target in ["one", "two"] {
            if try root.status(of: utf8("l")) != nil { try root.unlink(utf8("l")) }
            try root.symlink(utf8(target), at: utf8("l"))
            let status = try #require(try roots.status(of: path("l")))
            let found = Captured.Found.symlink(target: try roots.readLink(path("l")), status)
            #expect(try ship("l", found) == [Record(path("l"), .symlink(roots.metadata(status), target: utf8(target)))])
            #expect(try ship("l", found) == nil)
        }
    }

    // MARK: - messages

    @Test func `a message is told whole, once`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        try put(bytes, "1.")
        #expect(
            try shipMessage("1.", guid: MessageGUID(of: bytes)) == [
                Record(path("1."), .whole(try metadata("1."), result: PageTable.digest(of: bytes), bytes: bytes))
            ])
        #expect(try shipMessage("1.") == [])
        #expect(alarms.isEmpty)
    }

    @Test func `of a message of which only the log tells the metadata are told again, not the content`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        try put(bytes, "1.")
        let digest = PageTable.digest(of: bytes)
        try catalogue.set(path("1."), CatalogueEntry(shipped: digest, kind: .file))
        #expect(try shipMessage("1.") == [Record(path("1."), .metadata(try metadata("1."), result: digest))])
        #expect(try shipMessage("1.") == [])
    }

    @Test func `a message that has another name than the replica knows of is a link to the one it knows`() throws {
        let root = try Directory(directory("mail"))
        try put(utf8("Subject: x\r\n\r\nx\r\n"), "1.")
        _ = try shipMessage("1.")
        // Moved; the new name of the first is not shipped yet.
        try root.link(utf8("1."), to: utf8("2."), in: root)
        try root.link(utf8("1."), to: utf8("3."), in: root)
        try root.unlink(utf8("1."))
        linkTargets = [:]
        guard case .link(let target, _) = try shipMessage("3.")?.first?.change else {
            Issue.record("no link")
            return
        }
        #expect(target == path("1."))
    }

    @Test func `a message that became another file of the same content is a link again, or a file of its own`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        let root = try Directory(directory("mail"))
        for name in ["1.", "2."] {
            try put(bytes, name)
            _ = try shipMessage(name)
        }
        try root.unlink(utf8("2."))
        try root.link(utf8("1."), to: utf8("2."), in: root)
        linkTargets = [:]
        let linked = try shipMessage("2.")
        #expect(linked?.count == 1)
        #expect(linked?.first?.change == .link(target: path("1."), result: PageTable.digest(of: bytes)))
        try root.unlink(utf8("2."))
        try put(bytes, "2.")
        linkTargets = [:]
        guard case .whole = try shipMessage("2.")?.first?.change else {
            Issue.record("not whole")
            return
        }
        #expect(try shipMessage("2.") == [])
    }

    @Test func `another name of a message is a link, in the same round and later`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        let root = try Directory(directory("mail"))
        try put(bytes, "1.")
        try root.link(utf8("1."), to: utf8("2."), in: root)
        let result = PageTable.digest(of: bytes)
        guard case .whole = try shipMessage("1.")?.first?.change else {
            Issue.record("not whole")
            return
        }
        #expect(try shipMessage("2.") == [Record(path("2."), .link(target: path("1."), result: result))])
        linkTargets = [:]
        try root.link(utf8("1."), to: utf8("3."), in: root)
        guard case .link(let target, result) = try shipMessage("3.")?.first?.change else {
            Issue.record("no link")
            return
        }
        #expect([path("1."), path("2.")].contains(target))
    }

    @Test func `a message that got another name after it was opened is one file with that`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        let root = try Directory(directory("mail"))
        try put(bytes, "1.")
        let first = try OpenMessage(try directory.file("mail/1."), guid: nil)
        try root.link(utf8("1."), to: utf8("2."), in: root)
        let second = try OpenMessage(try directory.file("mail/2."), guid: nil)
        var records: [Record] = []
        for (name, message) in [("1.", first), ("2.", second)] {
            let captured = Captured(path: path(name), found: .message(message))
            _ = try encoder.encode(captured, linkTargets: &linkTargets) { records.append($0) }
        }
        #expect(records.last == Record(path("2."), .link(target: path("1."), result: PageTable.digest(of: bytes))))
    }

    @Test func `a name that is gone is no link's target while another is there`() throws {
        let root = try Directory(directory("mail"))
        try put(utf8("Subject: x\r\n\r\nx\r\n"), "1.")
        _ = try shipMessage("1.")
        // Moved, and told whole, as nothing was known of the first by then.
        try root.link(utf8("1."), to: utf8("9."), in: root)
        try root.unlink(utf8("1."))
        _ = try shipMessage("9.")
        try root.link(utf8("9."), to: utf8("2."), in: root)
        linkTargets = [:]
        guard case .link(let target, _) = try shipMessage("2.")?.first?.change else {
            Issue.record("no link")
            return
        }
        #expect(target == path("9."))
    }

    /// The number of an inode is used again: what the replica has under a name must be this very file.
    @Test func `a name of another file with the same inode is linked to by nobody`() throws {
        let bytes = utf8("Subject: x\r\n\r\nx\r\n")
        let root = try Directory(directory("mail"))
        try put(bytes, "1.")
        try root.link(utf8("1."), to: utf8("2."), in: root)
        let status = try #require(try roots.status(of: path("1.")))
        var older = CatalogueEntry(status, digest: PageTable.digest(of: bytes))
        older.mtimeNanoseconds -= 1
        try catalogue.set(path("older"), older)
        try catalogue.set(path("unread"), CatalogueEntry(status, digest: nil))
        try catalogue.set(path("2."), CatalogueEntry(status, digest: PageTable.digest(of: utf8("before"))))
        guard case .whole = try shipMessage("1.")?.first?.change else {
            Issue.record("not whole")
            return
        }
    }

    @Test func `a new message that is damaged is an alarm, and shipped, as there is no better copy`() throws {
        let bytes = utf8("Subject: x\r\n\r\ny\r\n")
        try put(bytes, "1.")
        guard case .whole = try shipMessage("1.", guid: MessageGUID(of: utf8("another")))?.first?.change else {
            Issue.record("not shipped")
            return
        }
        #expect(alarms.count == 1)
        #expect(alarms.last?.contains("1.") == true && alarms.last?.contains("SHA-1") == true)
    }

    /// Cyrus's own index names the message's SHA-1 (Fixtures/cyrus/README.md).
    @Test func `a message that was damaged since it was shipped is an alarm, and the good copy stays`() throws {
        let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../../Fixtures/cyrus/mailbox")
        for name in ["user", "user/alice"] { _ = try Directory.make(directory("mail/" + name)) }
        for name in ["cyrus.index", "cyrus.header", "1."] {
            try put([UInt8](try Data(contentsOf: fixtures.appending(path: name))), "user/alice/" + name)
        }
        let name = "user/alice/1."
        let good = try directory.bytes("mail/" + name)
        guard case .whole = try shipMessage(name, guid: MessageGUID(of: good))?.first?.change else {
            Issue.record("not shipped")
            return
        }
        #expect(alarms.isEmpty)
        var bad = good
        bad[bad.count / 2] ^= 1
        try put(bad, name)
        #expect(try shipMessage(name) == nil)
        #expect(alarms.count == 1)
        #expect(alarms.last?.contains(name) == true && alarms.last?.contains("SHA-1") == true)
        try put(good, name)
        guard case .metadata = try shipMessage(name)?.first?.change else {
            Issue.record("more than its new times")
            return
        }
    }
}

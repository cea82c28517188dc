import Digests
import Formats
import Linux
import Scratch
import Store
import Testing

@testable import Primary

@Suite struct DirectoryViewTests {
    private let store = TemporaryDirectory()
    private let box = StorePath(mail, "user/alice")

    private func roots() throws -> StoreRoots {
        let text = "configdirectory: \(store("conf"))\npartition-default: \(store("mail"))\n"
        for name in ["conf", "mail"] { _ = try Directory.make(store(name)) }
        return try StoreRoots(try StoreLayout(try ImapdConf.parse(text, named: "imapd.conf") { _ in "" }))
    }

    private func status(_ inode: UInt64, bytes: Int64 = 3) -> FileStatus {
        FileStatus(inode: inode, kind: .file, byteCount: bytes, mtimeNanoseconds: 7, ctimeNanoseconds: 9)
    }

    private func message(
        _ name: String, _ status: FileStatus, _ digest: Digest?, _ roots: StoreRoots
    ) -> DirectoryListing.Item {
        var entry = AuditEntry(utf8(name), status, roots)!
        entry.digest = digest
        return DirectoryListing.Item(entry: entry, status: status, isMessage: true)
    }

    private let content = Digest(of: utf8("abc"))

    @Test func `a message that is the file it was, with the content it had, is proven`() throws {
        let roots = try roots()
        let listing = DirectoryListing(directory: box, items: [message("1.", status(1), content, roots)])
        var view = DirectoryView(listing, depth: .content, keepsEntries: true)
        try view.merge([(utf8("1."), CatalogueEntry(status(1), digest: content))], roots) { _ in false }
        #expect(view.unseen.isEmpty)
        #expect(view.rotten.isEmpty)
        let expected = view.expected(roots)
        #expect(expected.fileCount == 1)
        #expect(expected.entries.map(\.digest) == [content])
    }

    @Test func `what was told is claimed of a message whose content is another on disk`() throws {
        let roots = try roots()
        let other = Digest(of: utf8("abd"))
        let listing = DirectoryListing(directory: box, items: [message("1.", status(1), other, roots)])
        var view = DirectoryView(listing, depth: .content, keepsEntries: true)
        try view.merge([(utf8("1."), CatalogueEntry(status(1), digest: content))], roots) { _ in false }
        #expect(view.rotten.map(\.path) == [box.appending("1.")])
        #expect(view.expected(roots).entries.map(\.digest) == [content])
    }

    @Test func `a name without a row, a row without a name, and another file have to be looked at`() throws {
        let roots = try roots()
        let listing = DirectoryListing(
            directory: box,
            items: [message("1.", status(1), content, roots), message("3.", status(33), content, roots)])
        let rows = [("2.", 2 as UInt64), ("3.", 3)].map { (utf8($0.0), CatalogueEntry(status($0.1), digest: content)) }
        var view = DirectoryView(listing, depth: .content, keepsEntries: true)
        try view.merge(rows, roots) { _ in false }
        #expect(view.unseen.map(\.path) == ["1.", "2.", "3."].map { box.appending($0) })
        // Looked at, the rows are right as they are, and what has none is not expected of anybody.
        var seen = DirectoryView(listing, depth: .content, keepsEntries: true)
        try seen.merge(rows, roots) { _ in true }
        #expect(seen.unseen.isEmpty)
        #expect(seen.expected(roots).entries.map(\.name) == [utf8("2."), utf8("3.")])
    }

    private func index(_ status: FileStatus, _ digest: Digest?, _ roots: StoreRoots) -> DirectoryListing.Item {
        var entry = AuditEntry(utf8("cyrus.index"), status, roots)!
        entry.digest = digest
        return DirectoryListing.Item(entry: entry, status: status, isMessage: false)
    }

    private func unseen(
        _ item: DirectoryListing.Item, _ row: CatalogueEntry, _ depth: AuditCheck.Depth, _ roots: StoreRoots
    ) throws -> Int {
        var view = DirectoryView(DirectoryListing(directory: box, items: [item]), depth: depth, keepsEntries: true)
        try view.merge([(utf8("cyrus.index"), row)], roots) { _ in false }
        #expect(view.rotten.isEmpty)
        return view.unseen.count
    }

    @Test func `a file that changes is proven by the very content that was told, read without a lock`() throws {
        let roots = try roots()
        let row = CatalogueEntry(status(1), digest: content)
        #expect(try unseen(index(status(1), content, roots), row, .content, roots) == 0)
        #expect(try unseen(index(status(1), Digest(of: utf8("abd")), roots), row, .content, roots) == 1)
        // It could not be read, or nobody knows what was told.
        #expect(try unseen(index(status(1), nil, roots), row, .content, roots) == 1)
        #expect(try unseen(index(status(1), nil, roots), CatalogueEntry(status(1), digest: nil), .content, roots) == 1)
        // Its content was not asked for.
        #expect(try unseen(index(status(1), nil, roots), row, .metadata, roots) == 0)
    }

    @Test func `a file that changes and was touched since it was told of has to be looked at`() throws {
        let roots = try roots()
        let row = CatalogueEntry(status(1), digest: content)
        let touched = FileStatus(inode: 1, kind: .file, byteCount: 3, mtimeNanoseconds: 7, ctimeNanoseconds: 10)
        for depth in [AuditCheck.Depth.metadata, .content] {
            #expect(try unseen(index(touched, content, roots), row, depth, roots) == 1)
            #expect(try unseen(index(status(2), content, roots), row, depth, roots) == 1)
        }
    }

    @Test func `a file that changes has to have the attributes that were told`() throws {
        let roots = try roots()
        var item = index(status(1), content, roots)
        item.entry.attributes = Digest(of: utf8("user.x"))
        #expect(try unseen(item, CatalogueEntry(status(1), digest: content), .content, roots) == 1)
    }

    @Test func `nothing is claimed of a row that a crash left unknown`() throws {
        let roots = try roots()
        let listing = DirectoryListing(directory: box, items: [])
        var view = DirectoryView(listing, depth: .content, keepsEntries: true)
        try view.merge([(utf8("1."), CatalogueEntry(shipped: content, kind: .file))], roots) { _ in true }
        let expected = view.expected(roots)
        #expect(expected.entries.isEmpty)
        #expect(expected.excluded == [utf8("1.")])
    }
}

import Formats
import Linux
import Store
import Testing

@testable import Replica

@Suite struct SeededRootsTests {
    private let store: TemporaryStore
    private let file = "mail/user/alice/1."

    init() throws {
        store = try TemporaryStore()
        for name in ["mail/user", "mail/user/alice"] { _ = try Directory.make(store.path + "/" + name) }
        try store.put([1], file)
    }

    @Test func `directories and what does not travel make no root that is missed`() throws {
        _ = try Directory.make(store.path + "/sieve/a")
        try store.put([1], "conf/mailboxes.db.NEW")
        #expect(try SeededRoots(store.layout).names == [mail])
    }

    @Test func `a root without the files it had is strange, unless they were removed in order`() throws {
        var roots = try SeededRoots(store.layout)
        try roots.check(store.layout)
        try Directory(store.path).unlink(utf8(file))
        let strange = #expect(throws: StrangeRoot.self) { try roots.check(store.layout) }
        #expect("\(try #require(strange))".hasSuffix("/mail has no file, and this replica was seeded into it"))
        try roots.forgetEmpty(of: [.configuration], store.layout)
        #expect(throws: StrangeRoot.self) { try roots.check(store.layout) }
        try roots.forgetEmpty(of: [mail], store.layout)
        try roots.check(store.layout)
    }

    @Test func `a root that is in use is not forgotten for a removal`() throws {
        try store.put([1], "mail/user/alice/2.")
        var roots = try SeededRoots(store.layout)
        try Directory(store.path).unlink(utf8(file))
        try roots.forgetEmpty(of: [mail], store.layout)
        #expect(roots.names == [mail])
    }
}

import Formats
import Testing

@Suite struct StorePathTests {
    private let mail = RootName("partition-default")

    @Test(
        arguments: ["/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/../b", "a/.", "a\0", "\0", "a/b\0/c"])
    func `what is not plainly below a root is no path`(_ path: String) {
        #expect(StorePath(root: mail, path: utf8(path)) == nil)
    }

    @Test(arguments: ["a", "a/b", "...", ".a", "a..", "..a/b", ".mailsync", "a b", "1."])
    func `names that only look like dots are names`(_ path: String) {
        #expect(StorePath(root: mail, path: utf8(path))?.path == utf8(path))
    }

    @Test func `lengths are bounded as the kernel bounds them`() {
        let name = [UInt8](repeating: 0x61, count: 255)
        #expect(StorePath(root: mail, path: name) != nil)
        #expect(StorePath(root: mail, path: name + [0x61]) == nil)
        let deep = Array(Array(repeating: utf8("abc"), count: 1000).joined(separator: [0x2f]))  // 3999 bytes
        #expect(StorePath(root: mail, path: deep) != nil)
        #expect(StorePath(root: mail, path: deep + utf8("/a")) == nil)
    }

    @Test func `parts of a path`() {
        let path = StorePath(mail, "uuid/7/1.")
        #expect(Array(path.name) == utf8("1."))
        #expect(path.parent == StorePath(mail, "uuid/7"))
        #expect(path.parent.parent.parent == StorePath(root: mail))
        #expect(path.parent.parent.parent.parent == StorePath(root: mail))
        #expect(StorePath(root: mail).isRoot)
        #expect(StorePath(root: mail).name.isEmpty)
        #expect(StorePath(root: mail).appending("uuid").appending("7").appending("1.") == path)
        #expect(path.components.map(Array.init) == [utf8("uuid"), utf8("7"), utf8("1.")])
        #expect(path.description == "partition-default/uuid/7/1.")
        #expect(StorePath(root: mail).description == "partition-default")
    }

    @Test func `within means the directory and what is below, not what begins alike`() {
        let directory = StorePath(mail, "user/al")
        #expect(directory.isWithin(directory))
        #expect(StorePath(mail, "user/al/1.").isWithin(directory))
        #expect(!StorePath(mail, "user/alice").isWithin(directory))
        #expect(!StorePath(mail, "user").isWithin(directory))
        #expect(!StorePath(.sieve, "user/al/1.").isWithin(directory))
        #expect(StorePath(mail, "user").isWithin(StorePath(root: mail)))
        #expect(!StorePath(root: mail).isWithin(directory))
    }

    @Test func `paths are ordered by root and then by bytes`() {
        let ordered = [
            StorePath(root: .configuration), StorePath(.configuration, "z"), StorePath(mail, "a"),
            StorePath(mail, "a/b"),
            StorePath(mail, "a0"), StorePath(root: mail, path: [0xff])!,
        ]
        #expect(ordered.shuffled().sorted() == ordered)
    }
}

import Formats
import Linux
import Scratch
import Testing

@testable import Store

@Suite struct KnownRootsTests {
    private let directory = TemporaryDirectory()
    private let layout: StoreLayout

    init() throws {
        for name in ["conf", "mail", "state"] { _ = try Directory.make(directory(name)) }
        let text = "configdirectory: \(directory("conf"))\npartition-default: \(directory("mail"))\n"
        layout = try StoreLayout(ImapdConf(try KeyValueFile.parse(text, named: "imapd.conf")))
        try KnownRoots(at: layout).save(in: directory("state"))
    }

    private func check() throws {
        try KnownRoots(in: directory("state")).check(layout, try KnownRoots(at: layout), of: .primary)
    }

    private func move(_ from: String, to: String) throws {
        try Directory(directory.path).rename(Array(from.utf8), to: Array(to.utf8))
    }

    /// As below the mount point of a file system that is not mounted, where Cyrus has started already.
    @Test func `another directory at a root's path is strange, whatever is in it`() throws {
        try check()
        try move("mail", to: "away")
        let missing = #expect(throws: StrangeRoot.self) { try check() }
        #expect(missing?.isThere == false)
        #expect(
            missing?.description
                == "partition-default: \(directory("mail")) is not there, and was when mailsync ran last")
        _ = try Directory.make(directory("mail"))
        try directory.put([1], at: "mail/1.")
        let other = #expect(throws: StrangeRoot.self) { try check() }
        #expect(
            other?.description
                == "partition-default: \(directory("mail")) is another directory than the one mailsync used last")
        try KnownRoots(at: layout).save(in: directory("state"))
        try check()
    }

    @Test func `all that are strange are told, the missing ones first`() throws {
        try move("conf", to: "away")
        _ = try Directory.make(directory("conf"))
        try move("mail", to: "gone")
        let known = try KnownRoots(in: directory("state"))
        let strangers = known.strangers(layout, try KnownRoots(at: layout), of: .replica)
        #expect(strangers.map(\.name) == [RootName("partition-default"), .configuration])
        #expect(strangers.map(\.isThere) == [false, true])
    }

    @Test func `a missing configdirectory is missed like any other`() throws {
        try move("conf", to: "away")
        let missing = #expect(throws: StrangeRoot.self) { try check() }
        #expect("\(try #require(missing))".hasPrefix("configdirectory: \(directory("conf")) is not there"))
    }

    @Test func `a root behind a symbolic link is where it was until the link leads elsewhere`() throws {
        try move("mail", to: "disk")
        try Directory(directory.path).symlink(Array("disk".utf8), at: Array("mail".utf8))
        let roots = try StoreRoots(layout)
        try roots.checkPlaces()
        try check()
        try move("disk", to: "away")
        _ = try Directory.make(directory("disk"))
        #expect(throws: MovedRoot.self) { try roots.checkPlaces() }
        #expect(throws: StrangeRoot.self) { try check() }
    }

    @Test func `the same directory is known again, whatever became of its files, and elsewhere too`() throws {
        try directory.put([1], at: "mail/1.")
        try move("mail", to: "away")
        try move("away", to: "mail")
        try check()
    }

    /// The roots of two file systems of a kind have the same inode.
    @Test func `with the same inode it is another directory if it was made at another time, where that is known`()
        throws
    {
        let one = DirectoryIdentity(inode: 2, bornNanoseconds: 5)
        #expect(!one.isSame(as: DirectoryIdentity(inode: 2, bornNanoseconds: 6)))
        #expect(one.isSame(as: DirectoryIdentity(inode: 2, bornNanoseconds: 0)))
        #expect(!one.isSame(as: DirectoryIdentity(inode: 3, bornNanoseconds: 5)))
    }

    @Test func `a root that came since, or went from the configuration, is not missed`() throws {
        let text = "configdirectory: \(directory("conf"))\npartition-second: \(directory("state"))\n"
        let other = try StoreLayout(ImapdConf(try KeyValueFile.parse(text, named: "imapd.conf")))
        try KnownRoots(in: directory("state")).check(other, try KnownRoots(at: other), of: .replica)
    }
}

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
        try KnownRoots(StoreRoots(layout)).save(in: directory("state"))
    }

    private func check() throws {
        try KnownRoots(in: directory("state")).check(StoreRoots(layout, allowingMissing: true), of: .primary)
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
        try KnownRoots(StoreRoots(layout)).save(in: directory("state"))
        try check()
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
        try KnownRoots(in: directory("state")).check(StoreRoots(other), of: .replica)
        #expect(try KnownRoots(in: directory("conf")) != KnownRoots(StoreRoots(layout)))
        try KnownRoots(in: directory("conf")).check(StoreRoots(layout), of: .replica)
    }
}

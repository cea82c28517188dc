import Formats
import Linux
import Scratch
import Testing

@testable import Primary

@Suite struct UserIndexesTests {
    private let alice = OwnerFinder.Owner.user(utf8("alice"))

    @Test func `each user has the indexes that mailboxes.db names, as it is by now`() throws {
        let directory = TemporaryDirectory()
        let roots = try directory.makeStore("mboxlist_db: flat\n")
        var indexes = UserIndexes()
        try indexes.refresh(roots)
        #expect(indexes[alice].isEmpty)

        func index(_ id: String) -> StorePath {
            StorePath(mail, "uuid/\(id.first!)/\(id.dropFirst().first!)/\(id)/cyrus.index")
        }
        let (inbox, box, shared) = ("9ventuccpojq3e7k1n3hvy2s", "aventuccpojq3e7k1n3hvy2s", "bventuccpojq3e7k1n3hvy2s")
        try directory.write(mailboxes: [("user.alice", inbox), ("user.alice.box", box), ("news", shared)])
        try indexes.refresh(roots)
        #expect(Set(indexes[alice]) == [index(inbox), index(box)])
        #expect(indexes[.shared] == [index(shared)])
        #expect(indexes[.user(utf8("bob"))].isEmpty)

        try directory.write(mailboxes: [("user.alice", inbox)])
        try indexes.refresh(roots)
        #expect(indexes[alice] == [index(inbox)])
        try directory.write(Array("nonsense".utf8))
        try indexes.refresh(roots)
        #expect(indexes[alice] == [index(inbox)])
    }
}

extension TemporaryDirectory {
    fileprivate func write(mailboxes: [(name: String, id: String)]) throws {
        var lines: [String] = []
        for (name, id) in mailboxes {
            let name = String(decoding: MailboxName(internalName: name.utf8).databaseName(), as: UTF8.self)
            lines.append("N\(name)\t%(T e I \(id) P default V 1 C 1 F 1 M 1 A %(x lr))\n")
        }
        try write(Array(lines.sorted().joined().utf8))
    }

    fileprivate func write(_ bytes: [UInt8]) throws {
        try AtomicFile.replace(directory: self("conf"), name: "mailboxes.db", bytes: bytes)
    }
}

import Digests
import Formats
import Linux
import Scratch
import Testing

@testable import Replica

@Suite struct StoreWriterTests {
    private let store: TemporaryStore
    private let writer: StoreWriter
    private let sequence = SequenceNumber(42)

    init() throws {
        store = try TemporaryStore()
        writer = try store.writer()
    }

    private func put(_ path: StorePath, _ text: String) throws {
        try writer.replace(path, .usual, at: sequence) { try $0.write(utf8(text), at: 0) }
    }

    private func text(_ name: String) throws -> String { String(decoding: try store.bytes(name), as: UTF8.self) }

    /// What is in the quarantine, by path.
    private func quarantined() throws -> [String] {
        try store.tree(["state/quarantine"]).filter { !$0.value.hasPrefix("directory") }.keys
            .map { String($0.dropFirst("state/quarantine/".count)) }.sorted()
    }

    // MARK: - links

    /// A replay, or a seed over a copy, does it again.
    @Test func `where no link can be a copy is made, once`() throws {
        let other = TemporaryDirectory(in: "/dev/shm")
        let store = try TemporaryStore(sieve: other.path)
        let writer = try store.writer()
        let (target, path) = (StorePath(mail, "d/1."), StorePath(.sieve, "e/2."))
        guard try !writer.areOnOneFileSystem(target, path) else {
            return print("/tmp and /dev/shm are one file system")
        }
        try writer.replace(target, .usual, at: sequence) { try $0.write(utf8("both"), at: 0) }
        #expect(try writer.link(path, to: target, at: sequence))
        let copy = try #require(try writer.status(of: path))
        #expect(try other.bytes("e/2.") == utf8("both"))
        #expect(try copy.mtimeNanoseconds == writer.status(of: target)?.mtimeNanoseconds)
        #expect(try writer.link(path, to: target, at: sequence))
        #expect(try writer.status(of: path)?.inode == copy.inode)
        #expect(try !writer.link(path, to: StorePath(mail, "none"), at: sequence))
        #expect(try store.tree(["state/quarantine"]).filter { !$0.value.hasPrefix("directory") }.isEmpty)
    }

    // MARK: - never out of a root

    /// Somebody who may write in the store plants a link in the middle of a path.
    @Test func `no call goes through a symbolic link that was planted on the way`() throws {
        try store.put(utf8("precious"), "outside/x")
        try store.plantLink("mail/d", to: "../outside")
        try store.plantLink("mail/e", to: store.path + "/outside")
        let before = try store.tree()
        let inside = StorePath(mail, "inside")
        try put(inside, "inside")
        for directory in ["d", "e"] {
            let path = StorePath(mail, directory + "/x")
            let new = StorePath(mail, directory + "/new")
            #expect(throws: SystemError.self) { try put(path, "y") }
            #expect(throws: SystemError.self) { try put(new, "y") }
            #expect(throws: SystemError.self) { try writer.makeDirectory(new, .usual, at: sequence) }
            #expect(throws: SystemError.self) { try writer.link(path, to: inside, at: sequence) }
            #expect(throws: SystemError.self) { try writer.link(inside, to: path, at: sequence) }
            #expect(throws: SystemError.self) { try writer.symlink(path, .usual, target: utf8("y"), at: sequence) }
            #expect(throws: SystemError.self) { try writer.setMetadata(path, .usual) }
            #expect(throws: SystemError.self) { try writer.remove(path, at: sequence) }
            #expect(throws: SystemError.self) { try writer.open(path).status() }
            #expect(throws: SystemError.self) { try writer.table(of: path) }
            #expect(throws: SystemError.self) {
                try writer.patch(path, .usual, byteCount: 1, [.init(offset: 0, bytes: utf8("y"))], readingBack: [])
            }
        }
        try writer.remove(inside, at: sequence)
        #expect(try store.tree() == before)
        #expect(try text("outside/x") == "precious")
    }

    @Test func `a symbolic link at the end of a path is replaced, not followed`() throws {
        try store.put(utf8("precious"), "outside/x")
        for name in ["a", "b", "c", "d"] { try store.plantLink("mail/" + name, to: "../outside/x") }
        try put(StorePath(mail, "a"), "new")
        try writer.remove(StorePath(mail, "b"), at: sequence)
        #expect(try writer.setMetadata(StorePath(mail, "c"), .usual) == false)
        #expect(try writer.table(of: StorePath(mail, "c")) == nil)
        #expect(throws: SystemError.self) {
            try writer.patch(StorePath(mail, "c"), .usual, byteCount: 0, [], readingBack: [])
        }
        try writer.makeDirectory(StorePath(mail, "d"), .usual, at: sequence)
        #expect(try text("outside/x") == "precious")
        #expect(try text("mail/a") == "new")
        #expect(try store.status("mail/b") == nil)
        #expect(try store.status("mail/c")?.kind == .symlink)
        #expect(try store.status("mail/d")?.kind == .directory)
    }

    @Test func `a symbolic link in place of our own directory is refused`() throws {
        let planted = try TemporaryStore()
        try planted.put(utf8("precious"), "outside/new-1")
        try planted.plantLink("mail/.mailsync", to: "../outside")
        #expect(throws: SystemError.self) { try planted.writer() }
        #expect(try planted.bytes("outside/new-1") == utf8("precious"))
    }

    @Test func `a root that this end does not have is refused`() throws {
        let path = StorePath(RootName("partition-other"), "1.")
        #expect(throws: SystemError.self) { try put(path, "x") }
        #expect(throws: SystemError.self) { try writer.remove(path, at: sequence) }
        #expect(throws: SystemError.self) { try writer.status(of: path) }
    }

    @Test func `a root itself is neither removed nor made something else`() throws {
        try put(StorePath(mail, "1."), "x")
        let root = StorePath(root: mail)
        try writer.remove(root, at: sequence)
        try writer.makeDirectory(root, Metadata(mode: 0, mtimeNanoseconds: 0), at: sequence)
        #expect(try text("mail/1.") == "x")
        #expect(try store.status("mail")?.mode != 0)
    }

    // MARK: - aside

    @Test func `what is removed goes aside, with all below it`() throws {
        for name in ["user/al/1.", "user/al/Sent/2.", "user/alice/3."] { try put(StorePath(mail, name), name) }
        try put(StorePath(.sieve, "user/al/x"), "sieve")
        try writer.remove(StorePath(mail, "user/al"), at: sequence)
        try writer.remove(StorePath(.sieve, "user/al/x"), at: SequenceNumber(43))
        #expect(try store.tree().filter { $0.value.hasPrefix("file") }.keys.sorted() == ["mail/user/alice/3."])
        #expect(
            try quarantined() == [
                "42/partition-default/user/al/1.", "42/partition-default/user/al/Sent/2.", "43/sievedir/user/al/x",
            ])
        #expect(try text("state/quarantine/42/partition-default/user/al/Sent/2.") == "user/al/Sent/2.")
    }

    @Test func `with a directory go all files below it, each once`() throws {
        for name in ["d/a/1.", "d/a/2.", "d/3.", "e/4."] { try put(StorePath(mail, name), "x") }
        let paths = ["d", "d/a/1.", "d/a", "e/4.", "nothing"].map { StorePath(mail, $0) }
        #expect(writer.fileCount(below: Set(paths)) == 4)
        #expect(writer.fileCount(below: [StorePath(root: mail)]) == 0)
    }

    @Test func `two lives of one name in one batch are both kept`() throws {
        let path = StorePath(mail, "1.")
        for text in ["one", "two", "three"] {
            try put(path, text)
            try writer.remove(path, at: sequence)
        }
        let kept = try quarantined()
        #expect(kept.count == 3)
        #expect(Set(try kept.map { try text("state/quarantine/" + $0) }) == ["one", "two", "three"])
    }

    @Test func `what makes room for something of another kind goes aside`() throws {
        try put(StorePath(mail, "a"), "file")
        try writer.makeDirectory(StorePath(mail, "a"), .usual, at: sequence)
        try put(StorePath(mail, "b/1."), "below")
        try put(StorePath(mail, "b"), "file")
        #expect(try store.status("mail/a")?.kind == .directory)
        #expect(try text("mail/b") == "file")
        #expect(try quarantined() == ["42/partition-default/a", "42/partition-default/b/1."])
    }

    @Test func `what is not there is removed in peace, and may be written again`() throws {
        try writer.remove(StorePath(mail, "never"), at: sequence)
        try writer.remove(StorePath(mail, "never/there"), at: sequence)
        try put(StorePath(mail, "d/1."), "one")
        try writer.remove(StorePath(mail, "d"), at: sequence)
        try put(StorePath(mail, "d/1."), "two")
        #expect(try text("mail/d/1.") == "two")
    }

    @Test func `the quarantine is emptied of what is old, and of nothing else`() throws {
        try put(StorePath(mail, "d/1."), "one")
        try writer.remove(StorePath(mail, "d"), at: sequence)
        let quarantine = try Quarantine(store.path + "/state/quarantine")
        try quarantine.expire(olderThan: .seconds(3600), now: .now())
        #expect(try quarantined().count == 1)
        try quarantine.expire(olderThan: .seconds(3600), now: .now() + .seconds(3601))
        #expect(try quarantined().isEmpty)
        #expect(try Directory(store.path + "/state/quarantine").entries().isEmpty)
    }

    // MARK: - our own directory

    @Test func `a new file comes under its name whole, or not at all`() throws {
        struct Stop: Error {}
        let path = StorePath(mail, "user/1.")
        try put(path, "old")
        #expect(throws: Stop.self) {
            try writer.replace(path, .usual, at: sequence) { file in
                try file.write(utf8("half"), at: 0)
                #expect(try text("mail/user/1.") == "old")
                throw Stop()
            }
        }
        #expect(try text("mail/user/1.") == "old")
        #expect(try Directory(store.path + "/mail/.mailsync").entries().isEmpty)
    }

    @Test func `what an earlier run left half done is thrown away, its parts are kept for a day`() throws {
        let parts = Record.parts(StorePath(mail, "1."), content(12_000))
        guard case .part(let result, let offset, let bytes) = parts[0].change else { return }
        try writer.writePart(of: result, for: StorePath(mail, "1."), offset: offset, bytes)
        try store.put(utf8("half"), "mail/.mailsync/new-1")
        let own = try Directory(store.path + "/mail/.mailsync")
        _ = try store.writer()
        let part = try #require(try own.entries().first?.name)
        #expect(part.starts(with: utf8("part-\(result)")))
        #expect(try own.entries().count == 1)
        try own.setTimes(of: part, mtimeNanoseconds: (Timestamp.now() - .seconds(86_500)).nanoseconds)
        _ = try store.writer()
        #expect(try own.entries().isEmpty)
    }

    @Test func `a promotion leaves nothing of ours in the store`() throws {
        try put(StorePath(mail, "1."), "x")
        try writer.leave()
        for root in ["conf", "mail", "sieve"] { #expect(try store.status(root + "/.mailsync") == nil) }
        #expect(throws: Never.self) { try writer.leave() }
        // And it can be a replica again.
        _ = try store.writer()
        #expect(try store.status("mail/.mailsync")?.kind == .directory)
    }

    // MARK: - patches

    @Test func `a patch writes in place, and gives back the pages asked for`() throws {
        let path = StorePath(mail, "f")
        let old = content(10_000)
        try writer.replace(path, .usual, at: sequence) { try $0.write(old, at: 0) }
        let inode = try store.status("mail/f")?.inode
        let pages = try writer.patch(
            path, .usual, byteCount: 9000, [.init(offset: 0, bytes: [1, 2]), .init(offset: 8998, bytes: [3, 4])],
            readingBack: [0, 2])
        let new = [1, 2] + old[2..<8998] + [3, 4]
        #expect(try store.bytes("mail/f") == new)
        #expect(try store.status("mail/f")?.inode == inode)
        #expect(pages == [0: Array(new[..<4096]), 2: Array(new[8192...])])
    }

    @Test func `parents that were never told of are made, and not over what is there`() throws {
        try put(StorePath(mail, "a/b/c/1."), "x")
        #expect(try text("mail/a/b/c/1.") == "x")
        try put(StorePath(mail, "f"), "file")
        #expect(throws: SystemError.self) { try put(StorePath(mail, "f/1."), "x") }
        #expect(try text("mail/f") == "file")
    }

    /// A seed of the simulation: rename(2) over another name of the same file does nothing and succeeds, and an earlier
    /// process had counted its places from one as well.
    @Test func `what is removed leaves the store also where an earlier process kept another name of it`() throws {
        let store = try TemporaryStore()
        let path = StorePath(mail, "a")
        let earlier = try store.writer()
        for _ in 0..<2 {
            try store.put([1], "mail/a")
            try earlier.remove(path, at: SequenceNumber(7))
        }
        let kept = "state/quarantine/7/partition-default/a.1"
        try Directory(store.path).link(utf8(kept), to: utf8("mail/a"))
        try store.writer().remove(path, at: SequenceNumber(7))
        #expect(try store.status("mail/a") == nil)
        #expect(try store.bytes(kept) == [1])
    }
}

import Digests
import Formats
import Linux
import Scratch
import Testing

@testable import Primary

@Suite struct CatalogueTests {
    private let directory = TemporaryDirectory()

    private func catalogue() throws -> Catalogue { try Catalogue(path: directory("catalogue.db")) }

    private func status(
        inode: UInt64 = 1, _ kind: FileKind = .file, mode: UInt16 = 0o600, owner: UInt32 = 0, byteCount: Int64 = 5,
        mtime: Int64 = 7, ctime: Int64 = 9
    ) -> FileStatus {
        FileStatus(
            inode: inode, kind: kind, mode: mode, owner: owner, group: 12, byteCount: byteCount,
            mtimeNanoseconds: mtime,
            ctimeNanoseconds: ctime)
    }

    private func entry(inode: UInt64 = 1, _ kind: FileKind = .file, _ digest: Digest? = nil) -> CatalogueEntry {
        CatalogueEntry(status(inode: inode, kind), digest: digest)
    }

    private func names(_ catalogue: Catalogue, _ directory: StorePath) throws -> [String] {
        try catalogue.entries(of: directory).map { String(decoding: $0.name, as: UTF8.self) }
    }

    // MARK: - rows

    @Test func `a row is read as it was written, at the bounds too`() throws {
        let catalogue = try catalogue()
        let entries = [
            entry(.file, Digest(low: .max, high: 1)), entry(inode: .max, .directory), entry(.symlink, .empty),
            entry(.other),
            CatalogueEntry(
                FileStatus(
                    inode: 1 << 63, kind: .file, mode: 0o7777, owner: .max, group: .max, byteCount: .max,
                    mtimeNanoseconds: .min, ctimeNanoseconds: .max), digest: Digest(low: 0, high: .max)),
        ]
        for (number, entry) in entries.enumerated() {
            let path = StorePath(mail, "user/\(number)")
            #expect(try catalogue.entry(path) == nil)
            try catalogue.set(path, entry)
            #expect(try catalogue.entry(path) == entry)
        }
        try catalogue.set(StorePath(mail, "user/0"), entries[4])
        #expect(try catalogue.entry(StorePath(mail, "user/0")) == entries[4])
        #expect(try catalogue.fileCount() == entries.count)
    }

    @Test func `names are bytes, in order, and one name in two roots is two`() throws {
        let catalogue = try catalogue()
        let directory = StorePath(mail, "user")
        for name in [[0xff], utf8("b"), utf8("a"), utf8("ü"), utf8("B")] {
            try catalogue.set(directory.appending(name), entry())
        }
        try catalogue.set(StorePath(.sieve, "user/z"), entry())
        #expect(
            try catalogue.entries(of: directory).map(\.name) == [utf8("B"), utf8("a"), utf8("b"), utf8("ü"), [0xff]])
        #expect(try names(catalogue, StorePath(.sieve, "user")) == ["z"])
        #expect(try names(catalogue, StorePath(root: mail)).isEmpty)
        try catalogue.set(StorePath(mail, "top"), entry())
        #expect(try names(catalogue, StorePath(root: mail)) == ["top"])
    }

    @Test func `removing a directory forgets all below it, and nothing that only begins alike`() throws {
        let catalogue = try catalogue()
        let gone = ["user/al", "user/al/1.", "user/al/Sent", "user/al/Sent/1.", "user/al/Sent/Old/1."]
        let kept = ["user", "user/alice", "user/alice/1.", "user/al.x/1.", "user/al0/1.", "user/a/1.", "al/1."]
        for path in gone + kept { try catalogue.set(StorePath(mail, path), entry()) }
        var directory = entry()
        directory.kind = .directory
        try catalogue.set(StorePath(mail, "user/al"), directory)
        try catalogue.set(StorePath(.sieve, "user/al/1."), entry())
        try catalogue.remove(StorePath(mail, "user/al"))
        for path in gone { #expect(try catalogue.entry(StorePath(mail, path)) == nil, "\(path)") }
        for path in kept { #expect(try catalogue.entry(StorePath(mail, path)) != nil, "\(path)") }
        #expect(try catalogue.entry(StorePath(.sieve, "user/al/1.")) != nil)
        #expect(try catalogue.fileCount() == kept.count + 1)
        try catalogue.remove(StorePath(mail, "never/there"))
    }

    @Test func `the names of an inode are found`() throws {
        let catalogue = try catalogue()
        let (one, other) = (StorePath(mail, "user/a/1."), StorePath(mail, "user/b/9."))
        try catalogue.set(one, entry(inode: 77))
        try catalogue.set(other, entry(inode: 77))
        try catalogue.set(StorePath(mail, "user/c/9."), entry(inode: 78))
        #expect(Set(try catalogue.paths(ofInode: 77)) == [one, other])
        try catalogue.remove(one)
        #expect(try catalogue.paths(ofInode: 77) == [other])
        #expect(try catalogue.paths(ofInode: 1).isEmpty)
        let top = StorePath(mail, "top")
        try catalogue.set(top, entry(inode: .max))
        #expect(try catalogue.paths(ofInode: .max) == [top])
    }

    // MARK: - position

    @Test func `what was committed is there after a crash, at its position, and nothing else`() throws {
        let (kept, lost) = (StorePath(mail, "kept"), StorePath(mail, "lost"))
        do {
            let catalogue = try catalogue()
            #expect(try catalogue.position() == nil)
            try catalogue.set(kept, entry())
            try catalogue.commit(at: Position(epoch: Epoch(2), sequence: SequenceNumber(40)))
            #expect(try catalogue.position() == Position(epoch: Epoch(2), sequence: SequenceNumber(40)))
            try catalogue.set(lost, entry())
            try catalogue.remove(kept)
            #expect(try catalogue.entry(kept) == nil)
        }
        let again = try catalogue()
        #expect(try again.position() == Position(epoch: Epoch(2), sequence: SequenceNumber(40)))
        #expect(try again.entry(kept) == entry())
        #expect(try again.entry(lost) == nil)
    }

    @Test func `a snapshot reads what was committed, beside the writer`() throws {
        let catalogue = try catalogue()
        let root = StorePath(root: mail)
        try catalogue.set(root.appending("a"), entry())
        try catalogue.commit(at: .zero, durably: true)
        let snapshot = try catalogue.snapshot()
        try catalogue.set(root.appending("b"), entry())
        #expect(try snapshot.entries(of: root).map(\.name) == [utf8("a")])
        try catalogue.commit(at: .zero.next)
        #expect(try snapshot.entries(of: root).map(\.name) == [utf8("a"), utf8("b")])
    }

    // MARK: - what a row describes

    @Test func `a row describes a file until anything about it changes`() {
        let row = CatalogueEntry(status(), digest: .empty)
        #expect(row.stillDescribes(status()))
        for other in [
            status(inode: 2), status(.directory), status(mode: 0o644), status(owner: 1), status(byteCount: 6),
            status(mtime: 8),
        ] {
            #expect(!row.stillDescribes(other))
            #expect(!row.stillDescribes(other, asMessage: true))
        }
        #expect(!row.stillDescribes(status(ctime: 10)))
        #expect(row.stillDescribes(status(ctime: 10), asMessage: true))
    }

    @Test func `a row describes a directory whatever came or went in it`() {
        let row = CatalogueEntry(status(.directory), digest: nil)
        #expect(row.stillDescribes(status(inode: 2, .directory, byteCount: 4096, mtime: 8, ctime: 10)))
        #expect(!row.stillDescribes(status(.directory, mode: 0o700)))
        #expect(!row.stillDescribes(status(.file)))
    }

    @Test func `a row made from the journal describes no file`() {
        let row = CatalogueEntry(shipped: .empty, kind: .file)
        #expect(!row.stillDescribes(status()))
        #expect(!row.stillDescribes(FileStatus(inode: 0, kind: .file, mode: 0, byteCount: 0)))
    }
}

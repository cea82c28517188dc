import Digests
import Formats
import Testing

@Suite struct ManifestLineTests {
    private let root = RootName("partition-default")

    private func line(_ path: StorePath, _ kind: AuditEntry.Kind, owner: UInt32? = nil) -> ManifestLine {
        let isFile = kind == .file
        let entry = AuditEntry(
            name: Array(path.name), kind: kind, byteCount: isFile ? 1042 : 0, mode: kind == .symlink ? 0 : 0o640,
            owner: owner, mtimeNanoseconds: isFile ? -5 : 0)
        return ManifestLine(path: path, entry: entry, hash: kind == .directory ? nil : ChainHash(of: utf8("x")))
    }

    @Test func `a line is read as it was written, whatever bytes the name has`() throws {
        var name = Array(UInt8(1)...255)
        name.removeAll { $0 == UInt8(ascii: "/") }
        let paths = [
            StorePath(root: root), StorePath(root, "a b\\c/1."),
            try #require(StorePath(root: root, path: name.prefix(120))),
            try #require(StorePath(root: root, path: name.dropFirst(120))),
        ]
        for path in paths {
            for line in [line(path, .file), line(path, .directory), line(path, .symlink), line(path, .file, owner: 0)] {
                #expect(line.text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f })
                #expect(try ManifestLine(line.text) == line)
            }
        }
    }

    @Test func `golden lines`() throws {
        let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        #expect(
            line(StorePath(root, "a b/1."), .file).text
                == "f 640 1042 -5 - - \(hash) partition-default/a\\x20b/1.")
        #expect(line(StorePath(root, "a"), .directory, owner: 7).text == "d 640 - - 7 - - partition-default/a")
        #expect(line(StorePath(root, "a"), .symlink).text == "l - - - - - \(hash) partition-default/a")
    }

    @Test func `lines that are none are refused`() {
        let hash = String(repeating: "0", count: 64)
        for text in [
            "", "f", "x 640 1 1 - - \(hash) r/a", "f 940 1 1 - - \(hash) r/a", "f 640 1 1 - - - r/a",
            "d 640 - - - - \(hash) r/a", "f 640 - 1 - - \(hash) r/a", "f 640 1 1 - - \(hash)0 r/a",
            "f 640 1 1 - - \(hash) r/../a", "f 640 1 1 - - \(hash) r/a\\x2", "f 640 1 1 - - \(hash) r//a",
            "l 640 - - - - \(hash) r/a",
        ] {
            #expect(throws: MalformedBytes.self, "\(text)") { try ManifestLine(text) }
        }
    }

    @Test func `a directory stands before what is in it, and all of that before its next neighbour`() {
        let ordered = [
            StorePath(root: root), StorePath(root, "a"), StorePath(root, "a/z"), StorePath(root, "a."),
            StorePath(root, "b"),
        ]
        for (one, other) in zip(ordered, ordered.dropFirst()) {
            #expect(ManifestLine.isOrdered(one, other) && !ManifestLine.isOrdered(other, one))
        }
    }
}

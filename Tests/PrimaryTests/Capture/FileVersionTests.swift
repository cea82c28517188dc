import Digests
import Formats
import Linux
import Scratch
import Testing

@testable import Primary

@Suite struct FileVersionTests {
    private let directory = TemporaryDirectory()
    private let page = PageTable.pageBytes

    private struct ShadowAsked: Error {}

    /// All bytes of `version`; of `old` what it says did not change.
    private func bytes(_ version: FileVersion, over old: [UInt8]) throws -> [UInt8] {
        try version.bytes(0..<version.table.byteCount) { (range) throws(SystemError) in Array(old[range]) }
    }

    private func pages(_ version: FileVersion) -> [Int]? {
        guard case .changedPages(let pages) = version.content else { return nil }
        return pages.keys.sorted()
    }

    @Test(arguments: [0, 1, 4096, 5000]) func `a file seen for the first time is held whole`(_ byteCount: Int) throws {
        let bytes = content(byteCount)
        try directory.put(bytes, at: "f")
        let version = try FileVersion.read(directory, "f")
        guard case .whole(let held) = version.content else {
            Issue.record("not whole")
            return
        }
        #expect(held == bytes)
        #expect(version.table == PageTable(of: bytes))
        #expect(version.status.byteCount == Int64(byteCount))
    }

    @Test func `of a file seen before the changed pages are held, and no others`() throws {
        let old = content(10 * page + 100)
        var new = old
        new[0] ^= 1
        new[5 * page + 17] ^= 1
        new += content(2 * page, seed: 2)
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old))
        #expect(pages(version) == [0, 5, 10, 11, 12])
        #expect(version.table == PageTable(of: new))
        #expect(try bytes(version, over: old) == new)
    }

    /// The number of its inode is that of the one before, as it was free.
    @Test func `a cache that was made anew is read from its beginning`() throws {
        let old = content(3 * page + 10)
        var new = old + content(50, seed: 2)
        new[3] ^= 1
        new[page + 1] ^= 1
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old), appendOnly: true)
        #expect(pages(version) == [0, 1, 3])
        #expect(version.table == PageTable(of: new))
    }

    @Test func `an unchanged file holds nothing`() throws {
        let old = content(3 * page)
        try directory.put(old, at: "f")
        #expect(pages(try FileVersion.read(directory, "f", old: PageTable(of: old))) == [])
    }

    @Test(arguments: [2 * 4096, 2 * 4096 + 1, 1, 0]) func `a file that got shorter`(_ byteCount: Int) throws {
        let old = content(5 * page)
        let new = Array(old.prefix(byteCount))
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old))
        #expect(version.table == PageTable(of: new))
        #expect(try bytes(version, over: old) == new)
        #expect(pages(version) == (byteCount % page == 0 ? [] : [byteCount / page]))
    }

    @Test func `a range is put together from held pages and the shadow`() throws {
        let old = content(8 * page)
        var new = old
        for index in 3 * page..<4 * page { new[index] ^= 0xff }
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old))
        for range in [0..<1, 3 * page - 1..<3 * page + 1, 4 * page - 1..<4 * page + 1, 100..<7 * page, 5..<5] {
            let found = try version.bytes(range) { (part) throws(SystemError) in
                #expect(part.upperBound <= 3 * page || part.lowerBound >= 4 * page)
                return Array(old[part])
            }
            #expect(found == Array(new[range]), "\(range)")
        }
    }

    @Test func `when very much changed the whole is held instead`() throws {
        let old = content(3 << 20)
        let new = content(3 << 20, seed: 2)
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old))
        #expect(pages(version) == nil)
        #expect(try bytes(version, over: []) == new)
    }

    @Test func `a content too large to be held is copied, and the copy outlives changes of the file`() throws {
        let bytes = content(FileVersion.wholeBytesMax + 5000)
        try directory.put(bytes, at: "f")
        let version = try FileVersion.read(directory, "f")
        guard case .copied = version.content else {
            Issue.record("not copied")
            return
        }
        try directory.put([], at: "f")
        #expect(version.table == PageTable(of: bytes))
        #expect(try self.bytes(version, over: []) == bytes)
        // Nothing is left under a name.
        #expect(try Directory(directory("spare")).entries().isEmpty)
    }

    // MARK: - append-only

    @Test(arguments: [0, 1, 3000, 4096, 50_000]) func `of an append-only file only the end is read`(_ more: Int) throws
    {
        let old = content(5 * page + 1000)
        let new = old + content(more, seed: 2)
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old), appendOnly: true)
        #expect(version.table == PageTable(of: new))
        #expect(try bytes(version, over: old) == new)
        #expect(pages(version)?.first == (more == 0 ? nil : 5))
    }

    /// To see that it is not read again: what changed there does not show.
    @Test func `whole pages before the old end are not read again`() throws {
        let old = content(5 * page + 1000)
        var new = old + content(100, seed: 2)
        new[page] ^= 1
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old), appendOnly: true)
        #expect(version.table.leaves[1] == PageTable(of: old).leaves[1])
        #expect(pages(version) == [5])
    }

    @Test func `an append-only file that got shorter was rewritten, and is read wholly`() throws {
        let old = content(5 * page)
        let new = content(4 * page, seed: 2)
        try directory.put(new, at: "f")
        let version = try FileVersion.read(directory, "f", old: PageTable(of: old), appendOnly: true)
        #expect(version.table == PageTable(of: new))
        #expect(try bytes(version, over: old) == new)
    }

    // MARK: - files of our own

    @Test func `what a dead process left is emptied`() throws {
        _ = try Directory.make(directory("own"))
        try directory.put(utf8("left"), at: "own/0")
        _ = try OwnFiles(directory("own"))
        #expect(try Directory(directory("own")).entries().isEmpty)
    }
}

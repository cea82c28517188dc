import Digests
import Formats
import Foundation
import Linux
import Store
import Testing

@Suite struct ListingReaderTests {
    private let copy: StoreCopy
    private let roots: StoreRoots
    private let reader: ListingReader

    init() throws {
        copy = try StoreCopy()
        roots = try StoreRoots(copy.layout)
        reader = ListingReader(roots)
    }

    private func isSame(_ one: DirectoryListing.Item, _ other: DirectoryListing.Item) -> Bool {
        one.entry == other.entry && one.status == other.status && one.isMessage == other.isMessage
    }

    @Test func `what is read at once is what is listed first and read then`() throws {
        for directory in [StoreCopy.inbox, StoreCopy.sent, StorePath(root: .configuration)] {
            var listed = try #require(try reader.list(directory))
            #expect(try reader.digest(&listed, where: { _ in true }).isEmpty)
            let read = try #require(try reader.listReading(directory))
            #expect(!read.items.isEmpty)
            #expect(read.items.elementsEqual(listed.items, by: isSame))
            for item in read.items where item.entry.kind == .file {
                let path = directory.appending(item.entry.name)
                #expect(item.entry.digest == PageTable.digest(of: try copy.bytes(path)), "\(path)")
            }
        }
    }

    @Test func `each file read is told of with its bytes`() throws {
        var told = 0
        let listing = try #require(try reader.listReading(StoreCopy.inbox) { told += $0 })
        let bytes = listing.items.filter { $0.entry.kind == .file }.reduce(0) { $0 + Int($1.entry.byteCount) }
        #expect(told == bytes)
    }

    @Test func `a link is a link and not what it leads to`() throws {
        let link = StoreCopy.inbox.appending("77.")
        try FileManager.default.createSymbolicLink(atPath: copy.file(link), withDestinationPath: "1.")
        for listing in [try reader.list(StoreCopy.inbox), try reader.listReading(StoreCopy.inbox)] {
            let item = try #require(listing?.items.first { $0.entry.name == Array("77.".utf8) })
            #expect(item.entry.kind == .symlink)
            #expect(!item.isMessage)
            #expect(item.entry.digest == Digest(of: Array("1.".utf8)))
        }
    }

    @Test func `a file that became another after it was listed is gone`() throws {
        var listing = try #require(try reader.list(StoreCopy.inbox))
        let path = StoreCopy.inbox.appending("1.")
        let bytes = try copy.bytes(path)
        try copy.remove(path)
        #expect(try reader.digest(&listing, where: \.isMessage) == [Array("1.".utf8)])
        try copy.write(bytes + [0], to: path)
        #expect(try reader.digest(&listing, where: \.isMessage) == [Array("1.".utf8)])
    }

    @Test(arguments: [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 5])
    func `a file of any length has the digest of its bytes, and none if it is shorter than it was`(
        byteCount: Int
    ) throws {
        let path = StoreCopy.inbox.appending("large")
        let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
        try copy.write(bytes, to: path)
        let file = try roots.open(path)
        #expect(try reader.digest(file, Int64(byteCount)) == PageTable.digest(of: bytes))
        #expect(try reader.digest(file, Int64(byteCount) + 1) == nil)
    }

    @Test func `a directory that is not there, or a link, has no listing`() throws {
        let link = StoreCopy.inbox.parent.appending("link")
        try FileManager.default.createSymbolicLink(
            atPath: copy.file(link), withDestinationPath: copy.file(StoreCopy.inbox))
        #expect(try reader.list(link) == nil)
        #expect(try reader.listReading(link) == nil)
        #expect(try reader.listReading(StoreCopy.inbox.appending("nothing")) == nil)
    }
}

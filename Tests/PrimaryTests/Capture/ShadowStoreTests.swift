import Digests
import Formats
import Linux
import Scratch
import Testing

@testable import Primary

@Suite struct ShadowStoreTests {
    private let directory = TemporaryDirectory()
    private let page = PageTable.pageBytes
    private let path = StorePath(mail, "user/alice/cyrus.index")

    private func store() throws -> ShadowStore { try ShadowStore(directory("shadows")) }

    /// Ships `bytes` over what the store has, as capture does; returns its table.
    @discardableResult
    private func ship(_ bytes: [UInt8], over old: PageTable?, _ store: ShadowStore) throws -> PageTable {
        try directory.put(bytes, at: "f")
        let version = try FileVersion.read(directory, "f", old: old)
        try store.update(path, to: version, from: old)
        return version.table
    }

    private func shadowFile() throws -> String {
        let shadows = try Directory(directory("shadows"))
        for entry in try shadows.entries() {
            guard let file = try shadows.entries(of: entry.name).first else { continue }
            return "shadows/" + String(decoding: entry.name + utf8("/") + file.name, as: UTF8.self)
        }
        return ""
    }

    @Test func `a shadow is what was shipped, in this process and in the next`() throws {
        let bytes = content(3 * page + 10)
        let store = try store()
        let table = try ship(bytes, over: nil, store)
        #expect(try store.table(of: path, expected: table.digest) == table)
        #expect(try store.bytes(of: path, 0..<bytes.count) == bytes)
        let next = try self.store()
        #expect(try next.table(of: path, expected: table.digest) == table)
        #expect(try next.bytes(of: path, page..<page + 5) == Array(bytes[page..<page + 5]))
    }

    @Test func `an update writes the changed pages, and cuts`() throws {
        let store = try store()
        var bytes = content(5 * page)
        var table = try ship(bytes, over: nil, store)
        bytes[page] ^= 1
        bytes += content(page, seed: 2)
        for next in [bytes, Array(bytes.prefix(2 * page + 1)), [], content(4 * page, seed: 3)] {
            table = try ship(next, over: table, store)
            #expect(try directory.bytes(try shadowFile()) == next)
            #expect(try store.table(of: path, expected: PageTable.digest(of: next)) == PageTable(of: next))
        }
    }

    @Test func `nobody is given a shadow of another content than they expect`() throws {
        let store = try store()
        let table = try ship(content(page), over: nil, store)
        #expect(try store.table(of: path, expected: nil) == nil)
        #expect(try store.table(of: path, expected: .empty) == nil)
        #expect(try store.table(of: StorePath(mail, "user/bob/cyrus.index"), expected: table.digest) == nil)
        #expect(try store.table(of: path, expected: table.digest) == table)
    }

    @Test func `a torn shadow is not believed`() throws {
        let bytes = content(3 * page + 10)
        let digest = try ship(bytes, over: nil, try store()).digest
        for offset in [0, page, 3 * page + 9] {
            var torn = bytes
            torn[offset] ^= 1
            try directory.put(torn, at: try shadowFile())
            #expect(try store().table(of: path, expected: digest) == nil, "flipped at \(offset)")
        }
        for count in [0, page, bytes.count - 1] {
            try directory.put(Array(bytes.prefix(count)), at: try shadowFile())
            #expect(try store().table(of: path, expected: digest) == nil, "cut to \(count)")
        }
        try directory.put(bytes, at: try shadowFile())
        #expect(try store().table(of: path, expected: digest) != nil)
    }

    @Test func `over a torn shadow a whole version makes a right one`() throws {
        let bytes = content(3 * page)
        try ship(bytes, over: nil, try store())
        try directory.put(content(7 * page, seed: 9), at: try shadowFile())
        let store = try store()
        let table = try ship(bytes, over: nil, store)
        #expect(try directory.bytes(try shadowFile()) == bytes)
        #expect(try self.store().table(of: path, expected: table.digest) == table)
    }

    @Test func `a shadow that is removed is gone, and one that is not there may be removed`() throws {
        let store = try store()
        let table = try ship(content(page), over: nil, store)
        try store.remove(path)
        #expect(try store.table(of: path, expected: table.digest) == nil)
        #expect(throws: SystemError.self) { try store.bytes(of: path, 0..<1) }
        #expect(throws: Never.self) { try store.remove(path) }
    }

    /// More than the memory for tables holds: they are read again, and are the same.
    @Test func `tables that were forgotten are read from the shadow`() throws {
        let store = try store()
        var tables: [StorePath: PageTable] = [:]
        try directory.put(content(1 << 20), at: "f")
        let version = try FileVersion.read(directory, "f")
        for number in 0..<2000 {
            let path = StorePath(mail, "user/\(number)/" + String(repeating: "x", count: 200))
            guard number % 100 == 0 else { continue }
            try store.update(path, to: version, from: nil)
            tables[path] = version.table
        }
        for (path, table) in tables { #expect(try store.table(of: path, expected: table.digest) == table) }
    }
}

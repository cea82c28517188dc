import Scratch
import Testing

@testable import Linux

@Suite struct ParentCacheTests {
    let directory = TemporaryDirectory()

    @Test func `after our own rename of a directory its old path is gone and its new one works`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        try root.makeDirectory(bytes("a"))
        try root.makeDirectory(bytes("a/b"))
        try root.write("1", to: "a/b/f")
        try root.rename(bytes("a"), to: bytes("c"))
        #expect(try errno { try root.write("2", to: "a/b/g") } == .noEntry)
        try root.write("2", to: "c/b/g")
        #expect(try root.names(in: "c/b") == ["f", "g"])
    }

    @Test func `after our own removal of a directory a new one of its path is found`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        for _ in 0..<2 {
            try root.makeDirectory(bytes("a"))
            try root.write("1", to: "a/f")
            try root.unlink(bytes("a/f"))
            try root.removeDirectory(bytes("a"))
        }
        #expect(try root.status(of: bytes("a/f")) == nil)
    }

    @Test func `a directory that somebody else removed and made again is found`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        let other = try directory.root()
        try root.makeDirectory(bytes("a"))
        try root.write("1", to: "a/f")
        try other.unlink(bytes("a/f"))
        try other.removeDirectory(bytes("a"))
        try other.makeDirectory(bytes("a"))
        try root.write("2", to: "a/g")
        #expect(try other.text(of: "a/g") == "2")
    }

    @Test func `both parents of a rename may have been made again by somebody else`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        let other = try directory.root()
        for name in ["a", "b"] {
            try root.makeDirectory(bytes(name))
            try root.write("", to: "\(name)/f")
            try other.unlink(bytes("\(name)/f"))
            try other.removeDirectory(bytes(name))
            try other.makeDirectory(bytes(name))
        }
        try other.write("x", to: "a/f")
        try root.rename(bytes("a/f"), to: bytes("b/f"))
        #expect(try other.text(of: "b/f") == "x")
    }

    @Test func `a directory that somebody else moved is found anew after forgetting`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        let other = try directory.root()
        try root.makeDirectory(bytes("a"))
        try root.write("1", to: "a/f")
        try other.rename(bytes("a"), to: bytes("moved"))
        try other.makeDirectory(bytes("a"))
        root.forgetCached(within: bytes("a"))
        try root.write("2", to: "a/g")
        #expect(try other.names(in: "a") == ["g"])
        #expect(try other.names(in: "moved") == ["f"])
    }

    @Test func `it holds a bounded number of descriptors`() throws {
        let cache = ParentCache()
        for number in 0..<1000 {
            let held = HeldDescriptor(try Descriptor.open("/", for: .reading))
            cache.keep(held, for: bytes("\(number)"), cache.ticket())
        }
        let found = (0..<1000).filter { cache.find(bytes("\($0)")) != nil }
        #expect(found.count <= ParentCache.countMax)
        #expect(found.last == 999)
    }

    @Test func `what was looked up before something was forgotten is not kept`() throws {
        let cache = ParentCache()
        let ticket = cache.ticket()
        cache.forget(within: bytes("else"))
        cache.keep(HeldDescriptor(try Descriptor.open("/", for: .reading)), for: bytes("a"), ticket)
        #expect(cache.find(bytes("a")) == nil)
    }

    @Test(arguments: [
        ("a", "", true), ("a", "a", true), ("a/b", "a", true), ("ab", "a", false), ("a", "a/b", false),
    ])
    func `within goes by components`(path: String, directory: String, expected: Bool) {
        #expect(ParentCache.isWithin(bytes(path), bytes(directory)) == expected)
    }

    @Test func `paths that could be written otherwise are not kept`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        try root.makeDirectory(bytes("a"))
        try root.makeDirectory(bytes("a/b"))
        for odd in ["a//b", "a/./b", "a/b/../b"] {
            try root.write("1", to: odd + "/f")
            try root.unlink(bytes(odd + "/f"))
        }
        try root.rename(bytes("a/b"), to: bytes("a/c"))
        for odd in ["a//b", "a/./b", "a/b/../b"] {
            #expect(try errno { try root.write("1", to: odd + "/f") } == .noEntry)
        }
    }

    @Test func `a rename by an odd path makes the plain one forgotten`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        try root.makeDirectory(bytes("a"))
        try root.makeDirectory(bytes("a/b"))
        try root.write("1", to: "a/b/f")
        try root.rename(bytes("a//b"), to: bytes("a/c"))
        #expect(try errno { try root.write("1", to: "a/b/g") } == .noEntry)
    }

    @Test func `threads make files while directories come and go`() throws {
        let root = try directory.root(.cachedBySoleWriter)
        let made = Condition(0)
        let threads = 4
        for thread in 0..<threads {
            _ = try Thread.start(name: "maker") {
                for round in 0..<200 {
                    do {
                        let path = "d\(thread)-\(round % 5)"
                        try root.makeDirectory(bytes(path))
                        try root.write("\(round)", to: "\(path)/f")
                        try root.rename(bytes("\(path)/f"), to: bytes("\(path)/g"))
                        try root.rename(bytes(path), to: bytes("\(path).moved"))
                        try root.unlink(bytes("\(path).moved/g"))
                        try root.removeDirectory(bytes("\(path).moved"))
                    } catch {
                        Issue.record("\(error)")
                    }
                }
                made.update { $0 += 1 }
            }
        }
        #expect(made.wait(timeout: .seconds(60)) { $0 == threads })
        #expect(try root.names() == [])
    }
}

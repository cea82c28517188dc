import Formats
import Linux
import Scratch
import Testing

@testable import Primary

@Suite struct WatchTreeTests {
    /// Numbers as inotify gives them.
    private func watches(_ count: Int, in directory: TemporaryDirectory) throws -> [WatchNumber] {
        let inotify = try Inotify()
        return try (0..<count).map { number in
            _ = try Directory.make(directory("\(number)"))
            return try inotify.addWatch(directory("\(number)"), [.create])
        }
    }

    @Test func `a watch is of the place it was noted for, until it is forgotten`() throws {
        let directory = TemporaryDirectory()
        let numbers = try watches(2, in: directory)
        var tree = WatchTree()
        let inbox = StorePath(mail, "user/alice")
        tree.note(numbers[0], .cookies)
        tree.note(numbers[1], .directory(inbox))
        #expect(tree.place(of: numbers[0]) == .cookies)
        #expect(tree.place(of: numbers[1]) == .directory(inbox))
        #expect(tree.count == 2)
        tree.forget(numbers[1])
        #expect(tree.place(of: numbers[1]) == nil)
        #expect(tree.count == 1)
    }

    /// inotify gives one number to one directory: a rename tells us where that is now.
    @Test func `a directory noted again has moved`() throws {
        let numbers = try watches(1, in: TemporaryDirectory())
        var tree = WatchTree()
        tree.note(numbers[0], .directory(StorePath(mail, "old")))
        tree.note(numbers[0], .directory(StorePath(mail, "new")))
        #expect(tree.place(of: numbers[0]) == .directory(StorePath(mail, "new")))
        #expect(tree.count == 1)
        #expect(tree.watches(within: StorePath(mail, "old")).isEmpty)
    }

    @Test func `the watches within a directory are its own and those below, not those of its namesakes`() throws {
        let directory = TemporaryDirectory()
        let numbers = try watches(6, in: directory)
        var tree = WatchTree()
        let paths = [
            StorePath(mail, "user/al"), StorePath(mail, "user/al/Sent"), StorePath(mail, "user/al/Sent/Old"),
            StorePath(mail, "user/alice"), StorePath(.sieve, "user/al"),
        ]
        for (number, path) in zip(numbers, paths) { tree.note(number, .directory(path)) }
        tree.note(numbers[5], .cookies)
        #expect(Set(tree.watches(within: paths[0])) == Set(numbers[0...2]))
        #expect(Set(tree.watches(within: paths[1])) == Set(numbers[1...2]))
        #expect(Set(tree.watches(within: StorePath(root: mail))) == Set(numbers[0...3]))
    }
}

import Linux
import Scratch
import Testing

@Suite struct InotifyTests {
    let directory = TemporaryDirectory()
    let inotify: Inotify
    let root: Directory

    static let everything: InotifyMask = [
        .modify, .attributes, .create, .delete, .movedFrom, .movedTo, .deleteSelf, .moveSelf, .closeWrite,
    ]

    init() throws {
        inotify = try Inotify()
        root = try directory.root()
    }

    /// inotify queues before the call that caused it returns, so what a test did is there at once.
    private func events() throws -> [InotifyEvent] {
        var buffer = [UInt8](repeating: 0, count: Inotify.bufferBytes)
        return try inotify.read(into: &buffer)
    }

    @Test func `nothing happened, nothing comes`() throws {
        _ = try inotify.addWatch(directory.path, Self.everything)
        #expect(try events() == [])
    }

    @Test func `a hard link gives create and nothing else`() throws {
        // Cyrus delivers by link(2) from its staging directory (imap/append.c): no close, no modify in the mailbox.
        try root.makeDirectory(bytes("stage"))
        try root.makeDirectory(bytes("mailbox"))
        try root.write("From: x\r\n", to: "stage/1")
        let watch = try inotify.addWatch(directory("mailbox"), Self.everything)
        try root.link(bytes("stage/1"), to: bytes("mailbox/1."))
        try root.unlink(bytes("stage/1"))
        #expect(try events() == [InotifyEvent(watch: watch, mask: .create, name: bytes("1."))])
    }

    @Test func `a rename gives two halves with one cookie`() throws {
        try root.makeDirectory(bytes("a"))
        try root.makeDirectory(bytes("b"))
        try root.makeDirectory(bytes("a/d"))
        let a = try inotify.addWatch(directory("a"), Self.everything)
        let b = try inotify.addWatch(directory("b"), Self.everything)
        try root.rename(bytes("a/d"), to: bytes("b/e"))
        let found = try events()
        let cookie = try #require(found.first).cookie
        #expect(cookie != 0)
        #expect(
            found == [
                InotifyEvent(watch: a, mask: [.movedFrom, .isDirectory], cookie: cookie, name: bytes("d")),
                InotifyEvent(watch: b, mask: [.movedTo, .isDirectory], cookie: cookie, name: bytes("e")),
            ])
    }

    @Test func `writing gives create, modify and close`() throws {
        let watch = try inotify.addWatch(directory.path, [.create, .modify, .closeWrite])
        try root.write("x", to: "f")
        #expect(
            try events()
                == [InotifyMask.create, .modify, .closeWrite].map {
                    InotifyEvent(watch: watch, mask: $0, name: bytes("f"))
                })
    }

    @Test func `a removed directory ends its watch`() throws {
        try root.makeDirectory(bytes("d"))
        let watch = try inotify.addWatch(directory("d"), Self.everything)
        try root.removeDirectory(bytes("d"))
        #expect(try events().map(\.mask) == [.deleteSelf, .ignored])
        #expect(try errno { try inotify.removeWatch(watch) } == .invalid)
    }

    @Test func `a removed watch says so and is silent after`() throws {
        let watch = try inotify.addWatch(directory.path, Self.everything)
        try inotify.removeWatch(watch)
        try root.write("x", to: "f")
        #expect(try events() == [InotifyEvent(watch: watch, mask: .ignored)])
    }

    @Test func `beneath a root it is found without following links`() throws {
        try root.makeDirectory(bytes("d"))
        try root.symlink(bytes("d"), at: bytes("link"))
        let watch = try inotify.addWatch(bytes("d"), in: root, [.create, .onlyDirectory, .doNotFollow])
        try root.write("x", to: "d/f")
        #expect(try events() == [InotifyEvent(watch: watch, mask: .create, name: bytes("f"))])
        #expect(try inotify.addWatch(directory("d"), .create) == watch)
        #expect(try errno { _ = try inotify.addWatch(bytes("link"), in: root, .create) } == .symbolicLink)
        #expect(try errno { _ = try inotify.addWatch(bytes("../x"), in: root, .create) } == .crossDevice)
    }

    @Test func `onlyDirectory and doNotFollow refuse`() throws {
        try root.write("x", to: "f")
        try root.symlink(bytes("/"), at: bytes("link"))
        #expect(try errno { _ = try inotify.addWatch(directory("f"), [.create, .onlyDirectory]) } == .notDirectory)
        let mask: InotifyMask = [.create, .onlyDirectory, .doNotFollow]
        #expect(try errno { _ = try inotify.addWatch(directory("link"), mask) } == .notDirectory)
    }

    @Test func `more events than the kernel queues end in an overflow`() throws {
        let limits = try InotifyLimits.current()
        #expect(limits.watchesMax > 1 && limits.instancesMax > 1 && limits.queuedEventsMax > 1)
        _ = try inotify.addWatch(directory.path, .attributes)
        _ = try root.open(bytes("a"), for: .creatingNew)
        let one = try root.open(bytes("a"), for: .updating)
        let two = try root.open(bytes("b"), for: .creatingNew)
        // By turns, since the kernel merges equal neighbours.
        for _ in 0...limits.queuedEventsMax / 2 {
            try one.setMode(0o600)
            try two.setMode(0o600)
        }
        var all: [InotifyEvent] = []
        while case let some = try events(), !some.isEmpty { all += some }
        #expect(all.last == .overflow)
        #expect(all.count == limits.queuedEventsMax + 1)
    }
}

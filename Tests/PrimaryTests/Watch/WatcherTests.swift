import Formats
import Linux
import Logging
import Scratch
import Store
import Testing

@testable import Primary

/// With the kernel's own inotify, on a store of a few directories.
@Suite struct WatcherTests {
    private let directory = TemporaryDirectory()

    private func watcher() throws -> Watcher {
        for name in ["conf", "mail", "mail/uuid", "lock", "lock/q"] { _ = try Directory.make(directory(name)) }
        let conf = """
            configdirectory: \(directory("conf"))
            partition-default: \(directory("mail"))
            hashimapspool: yes
            """
        let roots = try StoreRoots(try StoreLayout(ImapdConf(try KeyValueFile.parse(conf, named: "imapd.conf"))))
        return try Watcher(
            roots, cookies: directory("cookies"), lockRoot: directory("lock"), log: Logger(label: "test"))
    }

    private struct Seen {
        var hints: [Hint] = []
        var isWatching = false
        var isEnded = false
    }

    /// Runs `work` beside the watcher, and returns the hints up to the cookie made at its end. What `work` gets
    /// returns when all that was done before has been told.
    private func hints(while work: (_ settle: () throws -> Void) throws -> Void) throws -> [Hint] {
        try hints(of: try watcher(), while: work)
    }

    /// The watching thread stands still from the hint at `blocker` on until that is true.
    private func hints(
        of watcher: Watcher, blocker: (path: StorePath, isOpen: Condition<Bool>)? = nil,
        while work: (_ settle: () throws -> Void) throws -> Void
    ) throws -> [Hint] {
        let seen = Condition(Seen())
        _ = try Thread.start(name: "watch") {
            do throws(SystemError) {
                try watcher.run { hints in
                    seen.update { $0.hints += hints }
                    if let blocker, hints.contains(.name(blocker.path)) { _ = blocker.isOpen.wait { $0 } }
                } watching: {
                    seen.update { $0.isWatching = true }
                }
            } catch {
                Issue.record("\(error)")
            }
            seen.update { $0.isEnded = true }
        }
        try #require(seen.wait(timeout: .seconds(60)) { $0.isWatching || $0.isEnded })
        func settle() throws {
            let cookie = try watcher.makeCookie()
            #expect(seen.wait(timeout: .seconds(60)) { $0.hints.contains(.cookie(cookie)) })
        }
        try work(settle)
        try settle()
        watcher.stop()
        #expect(seen.wait(timeout: .seconds(60)) { $0.isEnded })
        return seen.withLock { $0.hints }
    }

    private func write(_ name: String) throws {
        try Descriptor.open(directory(name), for: .updatingOrCreating).write([1], at: 0)
    }

    @Test func `a user's lock that is let go is told, after what was written under it`() throws {
        let hints = try hints { _ in
            try write("mail/uuid/x")
            try write("lock/q/*U*alice^smith.lock")
        }
        let written = try #require(hints.firstIndex(of: .name(StorePath(mail, "uuid/x"))))
        let released = try #require(hints.firstIndex(of: .released(user: utf8("alice.smith"))))
        #expect(written < released)
    }

    @Test func `locks that are no user's are not told`() throws {
        let hints = try hints { _ in try write("lock/q/quux.lock") }
        #expect(hints.count == 1, "more than the cookie: \(hints)")
    }

    @Test func `a cookie comes after all that was written before it`() throws {
        let hints = try hints { _ in
            for number in 0..<3000 { try write("mail/uuid/\(number)") }
        }
        let names = Set(hints.dropLast())
        let missing = (0..<3000).filter { !names.contains(.name(StorePath(mail, "uuid/\($0)"))) }
        #expect(missing.isEmpty)
    }

    @Test func `a cookie that was made before the watcher ran is told`() throws {
        let watcher = try watcher()
        let early = try watcher.makeCookie()
        let hints = try hints(of: watcher) { _ in }
        #expect(hints.contains(.cookie(early)))
    }

    /// How many events the kernel keeps for somebody who does not look.
    private static let queueLength: Int = {
        let path = "/proc/sys/fs/inotify/max_queued_events"
        let text = try? Descriptor.open(path, for: .reading).read(at: 0, count: 20)  // then it is too long
        return text.flatMap { Int(String(decoding: $0.prefix { $0 != 0x0a }, as: UTF8.self)) } ?? .max
    }()
    private static let isQueueShort = queueLength <= 65_536

    @Test(.enabled(if: WatcherTests.isQueueShort, "max_queued_events is too large here"))
    func `a cookie that the kernel dropped is told behind the overflow that stands for it`() throws {
        let watcher = try watcher()
        let cookies = try (0...Self.queueLength).map { _ in try watcher.makeCookie() }
        let hints = try hints(of: watcher) { _ in }
        #expect(Set(cookies.map { Hint.cookie($0) }).isSubset(of: hints))
        let last = try #require(cookies.last)
        let dropped = try #require(hints.firstIndex(of: .cookie(last)))
        #expect(try #require(hints.firstIndex(of: .overflow)) < dropped)
    }

    @Test(.enabled(if: WatcherTests.isQueueShort, "max_queued_events is too large here"))
    func
        `a directory of which the kernel dropped the event is watched all the same, and one that was moved by its new path`()
        throws
    {
        let watcher = try watcher()
        let isOpen = Condition(false)
        let hints = try hints(of: watcher, blocker: (StorePath(mail, "uuid/full"), isOpen)) { settle in
            let root = try Directory(directory("mail"))
            try root.makeDirectory(utf8("uuid/old"))
            try settle()
            // The watching thread waits with the hint of this one.
            try write("mail/uuid/full")
            for number in 0...Self.queueLength { try write("mail/uuid/\(number)") }
            try root.makeDirectory(utf8("uuid/late"))
            try root.rename(utf8("uuid/old"), to: utf8("uuid/new"))
            isOpen.update { $0 = true }
            try settle()
            while !(watcher.watchCounts.isComplete) { try settle() }
            try write("mail/uuid/late/1.")
            try write("mail/uuid/new/1.")
        }
        #expect(hints.contains(.overflow))
        for name in ["late", "new"] {
            #expect(hints.contains(.directory(StorePath(mail, "uuid/\(name)"))))
            #expect(hints.contains(.name(StorePath(mail, "uuid/\(name)/1."))))
        }
    }

    @Test func `a name in a directory that was moved is told by its new path`() throws {
        let hints = try hints { settle in
            let mail = try Directory(directory("mail"))
            try mail.makeDirectory(utf8("uuid/a"))
            try settle()
            // Told before the move, so that the name is known.
            try write("mail/uuid/a/cyrus.index")
            try settle()
            try mail.rename(utf8("uuid/a"), to: utf8("uuid/b"))
            try settle()
            try write("mail/uuid/b/cyrus.index")
        }
        #expect(hints.contains(.name(StorePath(mail, "uuid/a/cyrus.index"))))
        let old = hints.lastIndex(of: .name(StorePath(mail, "uuid/a")))
        let new = hints.lastIndex(of: .name(StorePath(mail, "uuid/b/cyrus.index")))
        #expect(try #require(new) > #require(old))
    }

    @Test func `what does not travel is not told, however often it is written`() throws {
        let hints = try hints { _ in for _ in 0..<200 { try write("conf/mailboxes.db.NEW") } }
        #expect(hints.count == 1, "more than the cookie: \(hints)")
    }

    @Test func `directories that went are not counted as watched`() throws {
        let watcher = try watcher()
        let mail = try Directory(directory("mail"))
        _ = try hints(of: watcher) { _ in
            for _ in 0..<3 {
                for number in 0..<50 { try mail.makeDirectory(utf8("uuid/d\(number)")) }
                for number in 0..<50 { try mail.removeDirectory(utf8("uuid/d\(number)")) }
            }
        }
        // conf, mail, mail/uuid
        #expect(watcher.watchCounts.watched == 3)
    }

    @Test func `a lock directory that goes and comes is watched again`() throws {
        let hints = try hints { settle in
            try Directory(directory("lock")).removeDirectory(utf8("q"))
            try Directory(directory("lock")).makeDirectory(utf8("q"))
            // The watch follows the directory's event; what is let go before it is tried in its time.
            try settle()
            try write("lock/q/*U*bob.lock")
        }
        #expect(hints.contains(.released(user: utf8("bob"))))
    }
}

import Formats
import Linux
import Testing

@testable import Primary

@Suite struct CaptureRoundTests {
    private let inbox = StorePath(mail, "user/alice")
    private let alice = OwnerFinder.Owner.user(utf8("alice"))

    private func job(_ directory: StorePath, _ names: String...) -> CaptureJob {
        var dirty = DirtySet()
        for name in names { dirty.mark(directory.appending(name)) }
        return CaptureJob(dirty.take(now: .now())[0], names: names.map(utf8))
    }

    private func gone(_ path: StorePath) -> Captured { Captured(path: path, found: .nothing) }

    @Test func `what is not in the log comes back, with what somebody was busy with`() {
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index")], of: alice)
        round.add([gone(inbox.appending("cyrus.index"))])
        round.note(read: [job(StorePath(root: .configuration), "mailboxes.db")], of: .none)
        round.capturedGlobals = [gone(StorePath(.configuration, "mailboxes.db"))]
        round.note(busy: [job(inbox, "1."), job(StorePath(mail, "user/bob"), "2.")], of: alice)
        round.shippedMessages = [inbox.appending("1.")]
        let back = round.takeBack()
        let names = back.flatMap { dirt -> [StorePath] in
            guard case .some(let names) = dirt.names else { return [] }
            return names.map { dirt.directory.appending($0) }
        }
        #expect(
            Set(names) == [
                inbox.appending("cyrus.index"), inbox.appending("1."), StorePath(mail, "user/bob/2."),
                StorePath(.configuration, "mailboxes.db"),
            ])
        #expect(round.captured.isEmpty && round.capturedGlobals.isEmpty && round.busy.isEmpty)
        // One may have changed since it was shipped.
        #expect(round.shippedMessages.isEmpty)
        #expect(round.takeBack().isEmpty)
    }

    @Test func `what a seed was to get of a first reading it does not get`() {
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.header")], of: alice)
        round.seeded = [
            inbox.appending("cyrus.header"): FileVersion?.none, inbox.appending("cyrus.cache"): FileVersion?.none,
        ]
        _ = round.takeBack()
        #expect(Array(round.seeded.keys) == [inbox.appending("cyrus.cache")])
    }

    @Test func `of who is put off nothing goes into the log, and nobody else waits`() {
        let bob = StorePath(mail, "user/bob")
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index")], of: alice, .provisional)
        round.note(read: [job(bob, "cyrus.index")], of: .user(utf8("bob")))
        #expect(round.unsettled == [alice])
        round.add([
            gone(inbox.appending("cyrus.index")), gone(inbox.appending("1.")), gone(bob.appending("cyrus.index")),
        ])
        round.putOff(alice)
        #expect(round.captured.map(\.path) == [bob.appending("cyrus.index")])
        #expect(paths(round.busy[alice] ?? []) == [inbox.appending("cyrus.index")])
        #expect(paths(round.takeLogged()) == [bob.appending("cyrus.index")])
    }

    @Test func `a second reading takes the place of the first, name by name`() {
        let (index, one, two) = (inbox.appending("cyrus.index"), inbox.appending("1."), inbox.appending("2."))
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index", "1.", "2.")], of: alice, .provisional)
        round.add([gone(index), gone(one), gone(two)])
        // What is gone, and was never shipped, gives nothing.
        round.add([gone(index)], of: alice, insteadOf: [job(inbox, "cyrus.index", "1.")])
        #expect(Set(round.captured.map(\.path)) == [index, two] && round.captured.count == 2)
        #expect(round.losers.isEmpty && !round.lacksOthers)
        round.add([Captured(path: index, found: .nothing, losesMessages: true)], of: alice, insteadOf: [])
        #expect(round.losers == [alice] && round.lacksOthers)
        round.putOff(alice)
        #expect(round.losers.isEmpty && round.captured.isEmpty)
        #expect(round.busyUsers == [alice])
        round.takeBusy(alice)
        #expect(round.busyUsers.isEmpty && paths(round.users[alice] ?? []) == [index, one, two])
    }

    @Test func `a message that went ahead and changed since is looked at again`() {
        var dirty = DirtySet()
        let (one, two, other) = (inbox.appending("1."), inbox.appending("2."), StorePath(mail, "user/bob/1."))
        var round = CaptureRound()
        round.shippedMessages = [one, two, other]
        dirty.mark(one)
        round.forgetShipped(dirty.take(now: .now()))
        #expect(round.shippedMessages == [two, other])
        dirty.markAll(inbox)
        round.forgetShipped(dirty.take(now: .now()))
        #expect(round.shippedMessages == [other])
    }

    private func paths(_ jobs: some Sequence<CaptureJob>) -> Set<StorePath> { Set(jobs.flatMap(\.paths)) }

    @Test func `a mailbox is put off with all of its user, with a name for each of its roots, and nobody else`() throws
    {
        let (box, bob) = (StorePath(mail, "user/alice/box"), StorePath(mail, "user/bob"))
        let meta = try #require(StorePath(root: RootName("metapartition-default"), path: box.path))
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index"), job(box, "cyrus.header")], of: alice)
        // What changed beside it came along.
        let along = [inbox.appending("cyrus.cache"), meta.appending("cyrus.index")]
        round.add((along + [inbox.appending("cyrus.index"), box.appending("cyrus.header")]).map(gone))
        round.note(read: [job(bob, "cyrus.index")], of: .user(utf8("bob")))
        round.note(read: [job(inbox, "sub")], of: .none)
        let others = [bob.appending("cyrus.index"), inbox.appending("sub")]
        round.add(others.map(gone))
        round.seeded = [box.appending("cyrus.header"): FileVersion?.none, others[0]: FileVersion?.none]
        let heldBytes = round.capturedBytes
        round.putOff(mailboxesAt: [box.path], and: StorePath(.configuration, "mailboxes.db"))
        #expect(round.captured.map(\.path) == others)
        #expect(round.capturedBytes == heldBytes / 3)
        #expect(Array(round.seeded.keys) == [others[0]])
        #expect(
            paths(round.busy.values.joined()) == [inbox.appending("cyrus.index"), box.appending("cyrus.header")])
        #expect(paths(round.takeLogged()) == Set(others))
    }

    @Test func `a removed mailbox is put off with its name, and mailboxes.db without its neighbours`() {
        let (configuration, lost) = (StorePath(root: .configuration), StorePath(mail, "user/lost"))
        let list = configuration.appending("mailboxes.db")
        var round = CaptureRound()
        round.note(read: [job(lost, "cyrus.header"), job(lost.parent, "lost", "other")], of: .none)
        round.note(read: [job(configuration, "mailboxes.db", "user_deny.db")], of: .none)
        let others = [lost.parent.appending("other"), configuration.appending("user_deny.db")]
        round.capturedGlobals = ([lost.appending("cyrus.header"), lost, list] + others).map(gone)
        round.putOff(mailboxesAt: [lost.path], and: list)
        #expect(round.capturedGlobals.map(\.path) == others)
        #expect(paths(round.busy.values.joined()) == [lost.appending("cyrus.header"), lost, list])
        round.capturedGlobals = []
        #expect(paths(round.takeLogged()) == Set(others))
    }

    /// Else its messages would go without the index that was read along with them.
    @Test func `a mailbox that is a name in another of its user's is put off with that one`() {
        var round = CaptureRound()
        round.note(read: [job(inbox, "1.", "box")], of: alice)
        round.add(["1.", "box", "cyrus.index"].map { gone(inbox.appending($0)) })
        round.putOff(mailboxesAt: [inbox.appending("box").path], and: StorePath(.configuration, "mailboxes.db"))
        #expect(round.captured.isEmpty)
        #expect(paths(round.busy.values.joined()) == [inbox.appending("1."), inbox.appending("box")])
    }

    @Test func `of a file that was read twice the last reading counts`() throws {
        let (one, other) = (inbox.appending("cyrus.header"), inbox.appending("cyrus.index"))
        let there = Captured(path: one, found: .symlink(target: [], FileStatus(inode: 1, kind: .symlink, byteCount: 0)))
        #expect([gone(one), gone(other), there].lastOfEach.map(\.isGone) == [false, true])
        var round = CaptureRound()
        round.add([there])
        round.capturedGlobals = [gone(one), gone(other)]
        round.forgetOlderGlobals()
        #expect(round.capturedGlobals.map(\.path) == [other])
    }

    @Test func `what is in the log does not come back`() {
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index")], of: alice)
        round.note(read: [job(StorePath(root: .configuration), "mailboxes.db")], of: .none)
        round.capturedGlobals = [gone(StorePath(.configuration, "mailboxes.db"))]
        #expect(round.takeLogged().map(\.directory) == [inbox])
        // That of nobody is shipped last.
        #expect(round.takeLogged().isEmpty)
        round.capturedGlobals = []
        #expect(round.takeLogged().map(\.directory) == [StorePath(root: .configuration)])
        #expect(round.takeBack().isEmpty)
    }
}

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

    @Test func `a mailbox is put off with all of its user, and a removed one with its name`() {
        let (configuration, box) = (StorePath(root: .configuration), StorePath(mail, "user/alice/box"))
        let (bob, lost) = (StorePath(mail, "user/bob"), StorePath(mail, "user/lost"))
        var round = CaptureRound()
        round.note(read: [job(inbox, "cyrus.index"), job(box, "cyrus.header")], of: alice)
        // An index comes along with what changed beside it.
        round.add([inbox, box].flatMap { [gone($0.appending("cyrus.index")), gone($0.appending("cyrus.header"))] })
        round.note(read: [job(bob, "cyrus.index")], of: .user(utf8("bob")))
        round.add([gone(bob.appending("cyrus.index"))])
        round.note(read: [job(lost, "cyrus.header"), job(lost.parent, "lost", "other")], of: .none)
        round.note(read: [job(configuration, "user_deny.db")], of: .none)
        let others = [lost.parent.appending("other"), configuration.appending("user_deny.db")]
        round.capturedGlobals = ([lost.appending("cyrus.header"), lost] + others).map(gone)
        round.putOff(mailboxesAt: [Array(box.path), Array(lost.path)])
        #expect(round.captured.map(\.path) == [bob.appending("cyrus.index")])
        #expect(round.capturedGlobals.map(\.path) == others)
        let busy = round.busy.values.joined().flatMap { job in job.names.map { job.directory.appending($0) } }
        #expect(
            Set(busy) == [
                inbox.appending("cyrus.index"), box.appending("cyrus.header"), lost.appending("cyrus.header"), lost,
            ])
        round.capturedGlobals = []
        let logged = round.takeLogged().flatMap { job in job.names.map { job.directory.appending($0) } }
        #expect(Set(logged) == Set(others + [bob.appending("cyrus.index")]))
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

import Formats
import Testing

@testable import Primary

@Suite struct CaptureInboxTests {
    private let name = Hint.name(StorePath(RootName("partition-default"), "uuid/a/1."))
    private let released = Hint.released(user: Array("alice".utf8))
    private let cookie = Hint.cookie(1)

    @Test func `a capturer at work is not woken, and finds what came`() {
        var inbox = CaptureInbox()
        let isWoken = inbox.add([name, released, cookie])
        #expect(!isWoken)
        let taken = inbox.takeAll()
        #expect(taken.hints == [name, released, cookie])
    }

    @Test func `hints alone come with their cookie; another's waits for what it stands for besides`() {
        var inbox = CaptureInbox()
        inbox.resends = [StorePath(RootName("partition-default"), "uuid/a/2.")]
        _ = inbox.add([name, cookie, released])
        #expect(inbox.takeHints(with: 2) == nil)
        _ = inbox.add([.cookie(2)])
        #expect(inbox.takeHints(with: 2) == [name, released, .cookie(2)])
        #expect(inbox.hints == [cookie])
        #expect(inbox.resends.count == 1)
    }

    @Test func `of more hints than memory is for, cookies stay, behind an overflow`() {
        var inbox = CaptureInbox()
        _ = inbox.add([cookie])
        for _ in 0..<6 { _ = inbox.add(Array(repeating: name, count: 100_000)) }
        #expect(inbox.hints.count < 200_000)
        #expect(inbox.hints.prefix(2) == [.overflow, cookie])
    }

    @Test func `without a watcher no cookie is waited for, now or later`() {
        var inbox = CaptureInbox()
        inbox.isUnwatched = true
        _ = inbox.add([name])
        #expect(inbox.takeHints(with: 2) == [name])
        _ = inbox.takeAll()
        #expect(inbox.takeHints(with: 3) == [])
    }

    @Test(arguments: [Urgency.whenDue, .soon, .now])
    func `only a hint as urgent as what is awaited wakes the capturer`(_ urgency: Urgency) {
        for hint in [name, released, cookie] {
            var inbox = CaptureInbox()
            inbox.awaited = urgency
            let isWoken = inbox.add([hint])
            let taken = inbox.takeAll(from: urgency)
            #expect(isWoken == (hint.urgency >= urgency))
            #expect((taken != nil) == isWoken)
        }
    }

    @Test(arguments: [CheckRequest.Haste.withNextRound, .now])
    func `a check ends a pause only if it is in haste`(_ haste: CheckRequest.Haste) {
        var inbox = CaptureInbox()
        inbox.checkRequests.append(
            CheckRequest(
                number: 1, audit: 1, root: .configuration, depth: .content, kind: .combined, haste: haste, listings: [],
                deliver: { _ in }))
        #expect(!inbox.isEmpty)
        #expect((inbox.takeAll(from: .now) != nil) == (haste == .now))
        if haste == .withNextRound { #expect(inbox.takeAll(from: .soon)?.checkRequests.count == 1) }
    }

    @Test func `the end is told as often as it is asked for`() {
        var inbox = CaptureInbox()
        inbox.isStopping = true
        #expect(inbox.takeAll().isStopping)
        #expect(inbox.takeAll().isStopping)
    }

    @Test func `what was taken is awaited no more`() {
        var inbox = CaptureInbox()
        inbox.awaited = .soon
        _ = inbox.add([released])
        _ = inbox.takeAll()
        let isWoken = inbox.add([cookie])
        #expect(!isWoken)
    }
}

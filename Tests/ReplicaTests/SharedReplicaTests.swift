import Formats
import Linux
import ReplicationLog
import Synchronization
import Testing

@testable import Replica

@Suite struct SharedReplicaTests {
    private let shared = SharedReplica(now: { Timestamp(nanoseconds: 7) }, askInterval: .zero)

    /// A link that went and came again made of "paused" a state in which nobody resumes anything.
    @Test func `what stands still is told until it goes on, whatever the link does`() {
        shared.enter(.streaming)
        shared.pauses(.apply, because: "too much would be removed")
        shared.failed("connection reset")
        shared.enter(.disconnected)
        shared.enter(.catchingUp)
        #expect(shared.status.phase == .paused)
        #expect(shared.status.lastError?.why == "too much would be removed")
        shared.goesOn(.apply)
        #expect(shared.status.phase == .catchingUp)
    }

    @Test func `the primary hears of a pause once, of its end, and again when it may not know`() {
        let sent = SentMessages()
        shared.attach(Link(over: sent, peer: Fingerprint(ofDER: [1])))
        shared.ack()
        #expect(sent.pauses.isEmpty)
        shared.pauses(.apply, because: "no space")
        shared.pauses(.apply, because: "no space")
        shared.ack()
        #expect(sent.pauses == ["no space"])
        shared.repeatPause()
        shared.applied(position(1, 1), exactAt: nil, needed: [])
        shared.ack()
        #expect(sent.pauses == ["no space", "no space", nil])
        shared.pauses(.intake, because: "the brake")
        shared.goesOn(.intake)
        shared.repeatPause()
        #expect(sent.pauses == ["no space", "no space", nil, "the brake", nil, nil])
    }

    @Test func `a batch applied means that the applier goes on, and not the intake`() {
        shared.enter(.catchingUp)
        shared.pauses(.apply, because: "no space")
        shared.applied(position(1, 1), exactAt: nil, needed: [])
        #expect(shared.status.phase == .catchingUp)
        shared.pauses(.intake, because: "no space")
        shared.applied(position(1, 2), exactAt: nil, needed: [])
        #expect(shared.status.phase == .paused)
        shared.goesOn(.intake)
        #expect(shared.status.phase == .catchingUp)
    }

    /// A full disk is a pause, too: "resume" said that it goes on, and the brake held all the same.
    @Test func `a word that is said before the brake holds is none, and one that is said then counts`() async throws {
        shared.pauses(.intake, because: "no space")
        #expect(!shared.releaseBrake())
        async let goesOn = Thread.run(name: "brake") { shared.brake(because: "too much would be removed") }
        let isHeld = try await Thread.run(name: "test") { shared.work.wait(timeout: .seconds(60)) { $0.isBraked } }
        #expect(isHeld)
        #expect(shared.releaseBrake())
        #expect(try await goesOn)
        #expect(!shared.releaseBrake())
    }

    /// One that was minutes behind asked each half a minute, and got as many copies.
    @Test func `what is awaited is not asked for again while the answer may be in the log that is not applied yet`() {
        let sent = SentMessages()
        shared.attach(Link(over: sent, peer: Fingerprint(ofDER: [1])))
        let path = StorePath(mail, "user/alice/cyrus.index")
        shared.update { $0.journaled = position(1, 9) }
        shared.applied(position(1, 1), exactAt: nil, needed: [path])
        #expect(sent.resends == [[path]])
        shared.askAgain()
        // What comes later is no answer to that.
        shared.update { $0.journaled = position(1, 20) }
        shared.applied(position(1, 8), exactAt: nil, needed: [])
        shared.askAgain()
        #expect(sent.resends == [[path]])
        shared.applied(position(1, 9), exactAt: nil, needed: [])
        shared.askAgain()
        #expect(sent.resends == [[path], [path]])
    }

    @Test func `who stood still in the log does not in a seed`() {
        shared.pauses(.apply, because: "too much would be removed")
        shared.beginSeed()
        shared.enter(.seeding)
        #expect(shared.status.phase == .seeding)
    }

    /// Its index may have come, and a message not yet: an audit that judged it then said that the mailbox is unsound.
    @Test func `something of a mailbox is awaited whichever of its roots it is in`() {
        let box = StorePath(mail, "user/alice")
        shared.applied(
            position(1, 1), exactAt: nil, needed: [StorePath(RootName("meta-default"), "user/alice/cyrus.index")])
        #expect(!shared.awaited(ofMailbox: box).isEmpty)
        #expect(!shared.isAwaiting(in: box))
        #expect(shared.awaited(ofMailbox: StorePath(mail, "user/alic")).isEmpty)
    }
}

/// A link to nobody: it keeps what is sent.
private final class SentMessages: LinkTransport {
    private let frames = Mutex<[[UInt8]]>([])

    /// What was told of pauses.
    var pauses: [String?] {
        frames.withLock { $0 }.compactMap { frame in
            guard case .paused(let why)? = try? Message(decoding: frame[4...]) else { return nil }  // not one
            return .some(why)
        }
    }

    var resends: [[StorePath]] {
        frames.withLock { $0 }.compactMap { frame in
            guard case .resend(let paths)? = try? Message(decoding: frame[4...]) else { return nil }  // not one
            return paths
        }
    }

    var isWritable: Bool { true }
    var isOpen: Bool { true }
    func write(_ head: [UInt8], _ body: [UInt8]) { frames.withLock { $0.append(head + body) } }
    func flush() {}
    func close() {}
    func setReading(paused: Bool) {}
    func onLoop(_ body: @escaping @Sendable () -> Void) { body() }
}

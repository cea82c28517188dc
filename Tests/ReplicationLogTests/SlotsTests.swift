import Formats
import Linux
import Scratch
import Testing

@testable import ReplicationLog

@Suite struct SlotsTests {
    private let directory = TemporaryDirectory()
    private let then = Timestamp(nanoseconds: 1)
    private let now = Timestamp(nanoseconds: 2)

    private func ack(_ flushed: Position, _ applied: Position) -> Ack {
        Ack(received: flushed, flushed: flushed, applied: applied)
    }

    /// A seed that begins saves them, and so does the daemon's clock.
    @Test func `several threads may save at once`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("SHA256:aa", flushed: position(1, 5), applied: position(1, 4), isSeeding: false, now: then)
        let left = Condition(4)
        for _ in 0..<4 {
            _ = try Thread.start(name: "save") {
                for _ in 0..<50 {
                    do throws(SystemError) { try slots.save() } catch { Issue.record("\(error)") }
                }
                left.update { $0 -= 1 }
            }
        }
        #expect(left.wait(timeout: .seconds(60)) { $0 == 0 })
        #expect(try Slots(in: directory.path).all.count == 1)
    }

    @Test func `positions survive the daemon, connections do not`() throws {
        let slots = try Slots(in: directory.path)
        #expect(slots.all.isEmpty)
        #expect(slots.slowest == nil)
        slots.connect("SHA256:aa", flushed: position(1, 5), applied: position(1, 4), isSeeding: true, now: then)
        slots.connect("SHA256:bb", flushed: position(2, 3), applied: position(1, 9), isSeeding: false, now: then)
        try slots.save()
        let again = try Slots(in: directory.path)
        #expect(
            again.all == [
                "SHA256:aa": Slot(flushed: position(1, 5), applied: position(1, 4), isSeeding: true),
                "SHA256:bb": Slot(flushed: position(2, 3), applied: position(1, 9)),
            ])
        #expect(again.slowest == position(1, 5))
    }

    /// The primary forgot that it had only begun to seed a replica, and `wait` took that for one that has everything.
    @Test func `that a seed is under way is known until the replica follows the log, in another life too`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 5), isSeeding: true, now: then)
        try slots.save()
        let again = try Slots(in: directory.path)
        #expect(again.all["a"]?.isSeeding == true)
        #expect(again.all["a"]?.state == .disconnected)
        again.connect("a", flushed: position(1, 5), applied: position(1, 5), isSeeding: false, now: then)
        try again.save()
        #expect(try Slots(in: directory.path).all["a"]?.isSeeding == false)
    }

    @Test func `where a seed is consistent is on disk before the replica hears of it`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 5), isSeeding: true, now: then)
        try slots.settle("a", after: position(1, 9))
        #expect(try Slots(in: directory.path).all["a"]?.consistentAfter == position(1, 9))
    }

    @Test func `a replica that follows the log says itself where it is consistent`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 5), isSeeding: true, now: then)
        #expect(slots.all["a"]?.consistentAfter == .zero)
        slots.connect(
            "a", flushed: position(1, 5), applied: position(1, 5), consistentAfter: position(1, 9), isSeeding: false,
            now: then)
        #expect(slots.all["a"]?.consistentAfter == position(1, 9))
        slots.connect("a", flushed: position(1, 20), applied: position(1, 20), isSeeding: true, now: then)
        #expect(slots.all["a"]?.consistentAfter == position(1, 9))
    }

    /// The primary's journal was lost, and `wait` took replicas for where they had been in that.
    @Test func `of who was further than our log nothing is known`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 9000), applied: position(1, 9000), isSeeding: false, now: then)
        slots.connect("b", flushed: position(1, 3), applied: position(1, 3), isSeeding: false, now: then)
        slots.connect("c", flushed: position(1, 3), applied: position(1, 3), isSeeding: true, now: then)
        try slots.settle("c", after: position(1, 9))
        #expect(slots.forget(beyond: position(1, 9000)) == [])
        #expect(slots.forget(beyond: position(1, 3)) == ["a", "c"])
        try slots.save()
        let again = try Slots(in: directory.path)
        #expect(again.all["a"] == Slot(flushed: .zero, applied: .zero, isSeeding: true))
        #expect(again.all["a"]?.isUnknown == true)
        #expect(again.all["b"] == Slot(flushed: position(1, 3), applied: position(1, 3)))
        #expect(again.slowest == .zero)
    }

    @Test func `acks only move a slot forwards`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 4), isSeeding: false, now: then)
        slots.advance("a", ack(position(1, 4), position(1, 3)), now: now)
        #expect(slots.all["a"]?.flushed == position(1, 5))
        #expect(slots.all["a"]?.applied == position(1, 4))
        #expect(slots.all["a"]?.lastHeard == now)
        slots.advance("a", ack(position(1, 8), position(1, 7)), now: now)
        #expect(slots.all["a"]?.flushed == position(1, 8))
        #expect(slots.all["a"]?.applied == position(1, 7))
    }

    @Test func `the slowest replica holds the log, connected or not`() throws {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: .zero, isSeeding: false, now: then)
        slots.connect("b", flushed: position(1, 50), applied: .zero, isSeeding: false, now: then)
        slots.disconnect("a")
        #expect(slots.all["a"]?.isConnected == false)
        #expect(slots.all["b"]?.isConnected == true)
        #expect(slots.slowest == position(1, 5))
        slots.advance("a", ack(position(1, 60), .zero), now: now)
        #expect(slots.slowest == position(1, 50))
    }

    @Test func `an ack of nobody we know makes no slot`() throws {
        let slots = try Slots(in: directory.path)
        slots.advance("a", ack(position(1, 1), position(1, 1)), now: now)
        slots.heard("a", now: now)
        slots.disconnect("a")
        #expect(slots.all.isEmpty)
    }

    @Test func `a line that is no slot is passed over`() throws {
        try directory.put(
            utf8("a 1/2 1/1 0/0\nb 1/2 1/1\nc 1/x 1/1 0/0\n\nd 3/4 3/4 3/5\ne 3/4 3/4 3/5 seeding\n"), at: "slots")
        let slots = try Slots(in: directory.path)
        #expect(slots.all.keys.sorted() == ["a", "d", "e"])
        #expect(slots.all.filter(\.value.isSeeding).keys.sorted() == ["e"])
    }

    @Test func `why a replica is paused is kept until it says otherwise, and shown as its state while it is connected`()
        throws
    {
        let slots = try Slots(in: directory.path)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 4), isSeeding: false, now: then)
        #expect(slots.all["a"]?.state == .connected)
        slots.paused("a", because: "no space")
        #expect(slots.all["a"]?.state == .paused)
        slots.disconnect("a")
        #expect(slots.all["a"]?.state == .disconnected)
        #expect(slots.all["a"]?.pausedBecause == "no space")
        slots.connect("a", flushed: position(1, 5), applied: position(1, 4), isSeeding: true, now: then)
        #expect(slots.all["a"]?.state == .seeding)
        slots.connect("a", flushed: position(1, 5), applied: position(1, 4), isSeeding: false, now: then)
        #expect(slots.all["a"]?.state == .paused)
        slots.paused("a", because: nil)
        #expect(slots.all["a"]?.state == .connected)
    }
}

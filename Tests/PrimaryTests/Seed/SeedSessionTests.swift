import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Scratch
import Store
import Testing

@testable import Primary

@Suite struct SeedSessionTests {
    private let directory = TemporaryDirectory()
    private let replica = Fingerprint(ofDER: [1])

    private func position(_ number: UInt64) -> Position {
        Position(epoch: Epoch(1), sequence: SequenceNumber(number))
    }

    /// A rename that was under way when the last file was sent came to the log behind the end of the seed.
    @Test func `a copy is consistent where all that happened before the end of the seed is in the log`() throws {
        let (roots, path) = (try directory.makeStore(), directory("journal"))
        _ = try Directory.make(path)
        let slots = try Slots(in: directory.path)
        slots.connect(
            replica.description, flushed: position(3), applied: position(3), isSeeding: true,
            now: Timestamp(nanoseconds: 1))
        let (inbox, wire) = (Condition(CaptureInbox()), Wire())
        let seeder = Seeder(
            roots: roots, journal: try Journal.open(in: path, orStartAfter: position(3), hash: .zero), slots: slots,
            catalogue: try Catalogue(path: directory("catalogue")), inbox: inbox, isGrounded: Condition(true),
            positionNow: { _ in self.position(7) },
            now: { Timestamp(nanoseconds: 1) }, log: Logger(label: "") { _ in SwiftLogNoOpLogHandler() })
        SeedSession(seeder, link: Link(over: wire, peer: replica), isOverCopy: false).start()
        for _ in roots.names {
            let request = inbox.take(timeout: .seconds(60)) { $0.seedRequests.popLast() }
            try #require(request).deliver(SeedDelivery(files: []))
        }
        #expect(wire.sent.wait(timeout: .seconds(60)) { $0.contains { if case .seedEnd = $0 { true } else { false } } })
        for case .seedEnd(let end) in wire.messages { #expect(end.position == position(7)) }
        #expect(slots.all[replica.description]?.consistentAfter == position(7))
    }
}

import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Scratch
import Store
import Testing

@testable import Primary

@Suite struct ShipperTests {
    private let directory = TemporaryDirectory()
    private let replica = Fingerprint(ofDER: [1])

    /// One whose log is 1/1 to 1/3, and that knows what it has shipped.
    private func makePrimary() throws -> Primary {
        let (roots, state) = (try directory.makeStore(), directory("state"))
        for path in [state, state + "/journal"] { _ = try Directory.make(path) }
        let journal = try Journal.open(in: state + "/journal", orStartAfter: position(0), hash: .zero)
        for number in 1...3 as ClosedRange<UInt64> {
            try journal.append(
                SealedBatch.seal(
                    payload: [], rawBytes: 0, recordCount: 0, at: position(number), after: journal.newest.hash,
                    timeNanoseconds: 1, kind: .log))
        }
        try journal.flush()
        let catalogue = try Catalogue(path: state + "/catalogue")
        try catalogue.commit(at: position(3))
        catalogue.close()
        let options = Primary.Options(
            store: "mail", state: state, epoch: Epoch(1), sweepPeriod: .seconds(3600), scrubPeriod: nil,
            journalBytesMax: 1 << 30, journalKeep: .seconds(3600), replicas: [replica.description])
        return try Primary(
            options, roots: roots,
            locks: CyrusLocks(directory: roots.layout.lockRoot, rules: roots.layout.rules.paths),
            log: Logger(label: "") { _ in SwiftLogNoOpLogHandler() })
    }

    private func position(_ number: UInt64) -> Position {
        Position(epoch: Epoch(1), sequence: SequenceNumber(number))
    }

    private func hello(_ purpose: Hello.Purpose, epochSeen: UInt32 = 1) throws -> Message {
        .hello(
            Hello(
                store: "mail", purpose: purpose, flushed: position(0), hash: .zero, applied: position(0),
                epochSeen: Epoch(epochSeen), naming: try directory.makeStore().layout.naming))
    }

    private func open(_ user: any LinkUser, _ wire: Wire, _ said: Message) -> Link {
        let link = Link(over: wire, peer: replica)
        user.linkOpened(link)
        user.link(link, received: said)
        return link
    }

    @Test func `a replica is sent the log as soon as its link takes it`() throws {
        let (primary, wire) = (try makePrimary(), Wire())
        let user = primary.makeLinkUser { _ in true }
        wire.isFull = true
        let link = open(user, wire, try hello(.stream))
        #expect(wire.batchCount == 0)
        wire.isFull = false
        user.linkBecameWritable(link)
        #expect(wire.batchCount == 3)
    }

    @Test
    func
        `a primary that lost its journal waits for replicas that had more of it, and says of none that it has what is new`()
        throws
    {
        let state = directory("state")
        _ = try Directory.make(state)
        let slots = try Slots(in: state)
        slots.connect(
            replica.description, flushed: position(9000), applied: position(9000), isSeeding: false,
            now: Timestamp(nanoseconds: 1))
        try slots.save()
        let primary = try makePrimary()
        #expect(!primary.wait(for: position(3), .applied, timeout: .zero))
        #expect(primary.behind(position(3), .flushed).count == 1)
        #expect(try Slots(in: state).all[replica.description]?.isUnknown == true)
    }

    /// It shipped what it captured at its end, and a third host followed it past where the new log begins.
    @Test(arguments: [true, false])
    func `a primary that hears of its successor ships and admits nothing more`(isNoted: Bool) throws {
        let (primary, wire, other, late) = (try makePrimary(), Wire(), Wire(), Wire())
        let user = primary.makeLinkUser { _ in isNoted }
        wire.isFull = true
        let link = open(user, wire, try hello(.stream))
        _ = open(primary.makeLinkUser { _ in isNoted }, other, try hello(.fence, epochSeen: 2))
        #expect(other.refusals == [isNoted ? .fenced : .failed])
        #expect(wire.refusals == [.fenced])
        wire.isFull = false
        user.linkBecameWritable(link)
        #expect(wire.batchCount == 0)
        for purpose in [Hello.Purpose.stream, .seedEmpty, .seedOver] {
            _ = open(primary.makeLinkUser { _ in isNoted }, late, try hello(purpose))
        }
        #expect(late.refusals == [.fenced, .fenced, .fenced])
        #expect(late.batchCount == 0)
        let again = Wire()
        _ = open(primary.makeLinkUser { _ in isNoted }, again, try hello(.fence, epochSeen: 2))
        #expect(again.refusals == [isNoted ? .fenced : .failed])
    }
}

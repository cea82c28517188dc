import Digests
import Formats
import Linux
import ReplicationLog
import Testing

@testable import Replica

@Suite struct ReplicaRecordTests {
    private let store: TemporaryStore
    private var state: String { store.path + "/state" }

    init() throws { store = try TemporaryStore() }

    @Test func `a new state directory is an unseeded replica`() throws {
        #expect(try ReplicaRecord(in: state) == ReplicaRecord())
        #expect(ReplicaRecord().phase == .unseeded)
        #expect(ReplicaRecord().applied == .zero)
    }

    @Test(arguments: [ReplicaRecord.Phase.unseeded, .seeding, .seeded])
    func `what is saved is read`(_ phase: ReplicaRecord.Phase) throws {
        var record = ReplicaRecord()
        record.phase = phase
        record.applied = position(3, 4211)
        record.consistentAfter = position(.max, .max)
        record.epochSeen = Epoch(.max)
        record.exactAt = .min
        try record.save(in: state)
        #expect(try ReplicaRecord(in: state) == record)
        record.applied = .zero
        try record.save(in: state)
        #expect(try ReplicaRecord(in: state) == record)
    }

    @Test func `the file is lines that an operator can read, and lines of a later version are passed over`() throws {
        try store.put(
            utf8(
                "phase seeded\napplied 3/4211\nconsistent_after 3/4000\nepoch_seen 3\nexact_at 17\ncolour green\n\nx\n"),
            "state/replica")
        let record = try ReplicaRecord(in: state)
        #expect(record.phase == .seeded)
        #expect(record.applied == position(3, 4211))
        #expect(record.consistentAfter == position(3, 4000))
        #expect(record.epochSeen == Epoch(3))
        #expect(record.exactAt == 17)
    }

    @Test func `a phase nobody knows is taken for unseeded`() throws {
        try store.put(utf8("phase golden\n"), "state/replica")
        #expect(try ReplicaRecord(in: state).phase == .unseeded)
    }
}

@Suite struct SeededVersionsTests {
    private let store: TemporaryStore
    private var state: String { store.path + "/state" }
    private var versions: SeededVersions {
        var versions = SeededVersions()
        versions.asOf[StorePath(mail, "user/alice/cyrus.index")] = SequenceNumber(4211)
        versions.asOf[StorePath(root: mail, path: [0xff])!] = SequenceNumber(.max)
        versions.asOf[StorePath(.configuration, "mailboxes.db")] = SequenceNumber(0)
        return versions
    }

    init() throws { store = try TemporaryStore() }

    @Test func `what the log removes is known no more, with all below it`() {
        var seeded = SeededVersions()
        for path in ["user/a", "user/a/x", "user/a/y/z", "user/ab"] {
            seeded.asOf[StorePath(.sieve, path)] = SequenceNumber(1)
        }
        let known = ["user/b", "user/a/x", "user/a/y"].map { seeded.forget(StorePath(.sieve, $0)) }
        #expect(known == [false, true, true])
        #expect(Set(seeded.asOf.keys) == [StorePath(.sieve, "user/a"), StorePath(.sieve, "user/ab")])
    }

    /// A replica that was seeded by one primary up to 1/9000, and had its log up to 1/8990 when another was promoted at 1/8998, left out
    /// what that wrote.
    @Test func `what the log tells behind a fork did not come with the seed`() {
        let path = StorePath(.sieve, "user/a")
        var seeded = SeededVersions()
        seeded.asOf[path] = SequenceNumber(9000)
        func have(_ at: Position) -> Bool { seeded.have(path, at: at, seededIn: Epoch(1)) }
        #expect(have(position(1, 8995)) && have(position(1, 9000)))
        #expect(!have(position(1, 9001)) && !have(position(2, 8999)))
        #expect(!seeded.have(StorePath(.sieve, "user/b"), at: position(1, 1), seededIn: Epoch(1)))
    }

    @Test func `what is saved is read, and gone when it is removed`() throws {
        #expect(try SeededVersions(in: state) == SeededVersions())
        try versions.save(in: state)
        #expect(try SeededVersions(in: state) == versions)
        try SeededVersions.remove(in: state)
        #expect(try SeededVersions(in: state) == SeededVersions())
        #expect(throws: Never.self) { try SeededVersions.remove(in: state) }
    }

    @Test func `a file cut off anywhere is none at all`() throws {
        try versions.save(in: state)
        let bytes = try store.bytes("state/seeded")
        for count in 0..<bytes.count {
            try store.put(Array(bytes.prefix(count)), "state/seeded")
            #expect(try SeededVersions(in: state) == SeededVersions(), "cut to \(count)")
        }
    }
}

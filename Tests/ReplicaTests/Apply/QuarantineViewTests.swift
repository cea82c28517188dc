import Formats
import Linux
import Testing

@testable import Replica

@Suite struct QuarantineViewTests {
    private let store: TemporaryStore
    private let root: Directory
    private let quarantine: Quarantine

    init() throws {
        store = try TemporaryStore()
        root = try Directory(store.path + "/mail")
        quarantine = try Quarantine(store.path + "/state/quarantine")
    }

    private func view() throws -> QuarantineView { try #require(try QuarantineView(state: store.path + "/state")) }

    private func take(_ path: String, _ content: String, _ sequence: UInt64) throws {
        for (index, byte) in path.utf8.enumerated() where byte == UInt8(ascii: "/") {
            let parent = Array(path.utf8.prefix(index))
            if try root.status(of: parent) == nil { _ = try root.makeDirectory(parent) }
        }
        try root.open(utf8(path), for: .creatingNew).write(utf8(content), at: 0)
        let place = StorePath(mail, path)
        try quarantine.take(
            place, try #require(try root.status(of: place.path)), from: root, at: SequenceNumber(sequence))
    }

    @Test func `there is no view of a quarantine that never was`() throws {
        #expect(try QuarantineView(state: store.path + "/conf") == nil)
    }

    @Test func `entries are shown by batch and path, with their bytes`() throws {
        try take("b/2.", "two", 10)
        try take("a/1.", "first", 9)
        try take("b/1.", "one", 10)
        try take("b/1.", "again", 10)
        let view = try view()
        #expect(try view.batches() == [SequenceNumber(9), SequenceNumber(10)])
        let entries = try view.entries(of: SequenceNumber(10))
        #expect(entries.map(\.name).prefix(1) == ["10/partition-default/b/1."] && entries.count == 3)
        #expect(entries.map(\.byteCount).sorted() == [3, 3, 5])
        #expect(try view.open(entries[0]).readAll(max: 100) == utf8("one"))
        #expect(try view.entries(of: SequenceNumber(11)).isEmpty)
    }

    @Test func `what is old enough goes, by batches, and is told`() throws {
        try take("a/1.", "first", 9)
        try take("a/2.", "second", 9)
        try take("b/1.", "one", 10)
        let view = try view()
        let now = Timestamp.now()
        #expect(try view.expire(view.batches(), olderThan: .seconds(60), now: now).isEmpty)
        let later = now + .seconds(61)
        let removed = try view.expire([SequenceNumber(9)], olderThan: .seconds(60), now: later)
        #expect(removed.map(\.batch) == [SequenceNumber(9)])
        #expect(removed.map(\.entryCount) == [2] && removed.map(\.byteCount) == [11])
        #expect(try view.batches() == [SequenceNumber(10)])
    }

    @Test func `what a replica kept goes in its time when it is a primary`() throws {
        let state = store.path + "/state"
        try take("a/1.", "kept", 9)
        try QuarantineView.expire(in: state, olderThan: .seconds(60), now: .now())
        #expect(try view().batches() == [SequenceNumber(9)])
        try QuarantineView.expire(in: state, olderThan: .seconds(60), now: .now() + .seconds(61))
        #expect(try view().batches().isEmpty)
        try QuarantineView.expire(in: store.path + "/nowhere", olderThan: .zero, now: .now())
    }

    /// A seed adds to batch 0, and the newest was spared.
    @Test func `while a replica is seeded what seeds took stays, too`() throws {
        for batch in [0, 9, 10] as [UInt64] { try take("a/\(batch).", "kept", batch) }
        let (view, state) = (try view(), store.path + "/state")
        func filled() throws -> [UInt64] {
            try view.beingFilled(of: view.batches(), by: state).map(\.number).sorted()
        }
        var record = ReplicaRecord()
        record.phase = .seeding
        try record.save(in: state)
        #expect(try filled() == [0, 10])
        record.phase = .seeded
        try record.save(in: state)
        #expect(try filled() == [10])
    }

    @Test func `a second seed makes what all seeds took young again`() throws {
        try take("a/b/1.", "of the first seed", 0)
        let week = Duration.seconds(7 * 86400)
        let top = try Directory(store.path + "/state/quarantine")
        let old = Timestamp.now() - week - .seconds(60)
        try top.setTimes(of: utf8("0"), mtimeNanoseconds: old.nanoseconds)
        // The daemon was started anew in between.
        let later = try Quarantine(store.path + "/state/quarantine")
        try root.open(utf8("a/b/2."), for: .creatingNew).write(utf8("of the second"), at: 0)
        let path = StorePath(mail, "a/b/2.")
        try later.take(path, try #require(try root.status(of: path.path)), from: root, at: SequenceNumber(0))
        try later.expire(olderThan: week, now: .now())
        #expect(try view().expire(view().batches(), olderThan: week, now: .now()).isEmpty)
        #expect(try view().entries(of: SequenceNumber(0)).count == 2)
        try later.expire(olderThan: week, now: .now() + week)
        #expect(try view().batches().isEmpty)
    }

    @Test func `what another process expires does not keep a batch from taking more`() throws {
        try take("a/b/1.", "first", 9)
        _ = try view().expire(view().batches(), olderThan: .zero, now: .now() + .seconds(1))
        try take("a/b/2.", "second", 9)
        #expect(try view().entries(of: SequenceNumber(9)).map(\.name) == ["9/partition-default/a/b/2."])
    }
}

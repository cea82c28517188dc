import Digests
import Formats
import ReplicationLog
import Testing

@testable import Replica

@Suite struct JournalStartTests {
    private let store: TemporaryStore
    private var state: String { store.path + "/state" }
    private let hash = ChainHash(bytes: [UInt8](repeating: 7, count: ChainHash.byteCount))

    init() throws { store = try TemporaryStore() }

    @Test func `a journal that is not there yet begins where the seed said`() throws {
        #expect(try JournalStart(in: state).position == .zero)
        #expect(try JournalStart(in: state).hash == .zero)
        try JournalStart(position: position(3, 9), hash: .init(of: utf8("nine"))).save(in: state)
        #expect(try JournalStart(in: state).position == position(3, 9))
        #expect(try JournalStart(in: state).hash == .init(of: utf8("nine")))
        var bytes = try store.bytes("state/log-start")
        bytes[10] ^= 1
        try store.put(bytes, "state/log-start")
        #expect(try JournalStart(in: state).position == .zero)
    }

    /// A journal whose log ends at 1/26, beside the start of one that begins at 1/97.
    private func makeJump() throws {
        try JournalStart(position: position(1, 26), hash: .zero).save(in: state)
        #expect(try JournalStart.openJournal(in: state, applied: position(1, 26)).flushed.position == position(1, 26))
        try JournalStart(position: position(1, 97), hash: hash).save(in: state)
    }

    @Test func `a start is of no effect while there are segments`() throws {
        try makeJump()
        #expect(try JournalStart.openJournal(in: state, applied: position(1, 26)).flushed.position == position(1, 26))
    }

    /// Else the daemon would never start again: the log after 1/97 is not in what is left of the old one.
    @Test func `a jump that a crash cut off after its record is finished`() throws {
        try makeJump()
        let journal = try JournalStart.openJournal(in: state, applied: position(1, 97))
        #expect(journal.flushed.position == position(1, 97))
        #expect(journal.flushed.hash == hash)
        #expect(journal.oldest == position(1, 97))
    }

    @Test func `a journal that ends before what is applied, for no such reason, is kept`() throws {
        try makeJump()
        #expect(try JournalStart.openJournal(in: state, applied: position(1, 80)).flushed.position == position(1, 26))
    }
}

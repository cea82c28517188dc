import Digests
import Formats
import Linux
import ReplicationLog
import Scratch
import Testing

@Suite struct JournalTests {
    private let directory = TemporaryDirectory()
    private let start = position(1, 10)
    private let startHash = ChainHash(of: utf8("ten"))

    private func open() throws -> Journal { try Journal.open(in: directory.path, orStartAfter: start, hash: startHash) }
    private var chain: BatchChain { BatchChain(after: start, hash: startHash) }

    private func all(_ journal: Journal, after position: Position) throws -> [SealedBatch] {
        guard var cursor = journal.cursor(after: position), try journal.skip(&cursor, to: position) else { return [] }
        var batches: [SealedBatch] = []
        while case let some = try journal.read(&cursor, byteCountMax: 1 << 20), !some.isEmpty { batches += some }
        return batches
    }

    /// Batches of a little less than a quarter of a segment each, so that five fill one.
    private func append(segments count: Int, to journal: Journal, _ chain: inout BatchChain) throws -> [SealedBatch] {
        let batches = chain.next(count * 5, byteCount: Journal.segmentBytes / 4 - 128)
        for batch in batches {
            try journal.append([batch])
            try journal.flush()
        }
        return batches
    }

    // MARK: - appending and reading

    @Test func `a new journal starts where it is told`() throws {
        let journal = try open()
        #expect(journal.flushed.position == start)
        #expect(journal.flushed.hash == startHash)
        #expect(journal.newest.position == start)
        #expect(journal.oldest == start)
        #expect(try journal.hash(at: start) == startHash)
        #expect(try all(journal, after: start).isEmpty)
        #expect(try directory.names() == ["000000000000000a.journal"])
    }

    @Test func `a segment without a batch is made anew when it is opened, as its name may never have come to disk`()
        throws
    {
        func inode() throws -> UInt64? { try FileStatus.of(directory("000000000000000a.journal"))?.inode }
        var chain = chain
        let first = try open()
        let old = try Descriptor.open(directory("000000000000000a.journal"), for: .reading)
        let again = try open()
        #expect(try inode() != old.status().inode)
        #expect(again.flushed.position == first.flushed.position)
        try again.append(chain.next(1))
        try again.flush()
        let before = try inode()
        _ = try open()
        #expect(try inode() == before)
    }

    @Test func `what is appended is read, in order, by a journal opened again too`() throws {
        var chain = chain
        let batches = chain.next(20)
        do {
            let journal = try open()
            try journal.append(batches)
            try journal.flush()
            #expect(try all(journal, after: start) == batches)
            #expect(try all(journal, after: position(1, 25)) == Array(batches[15...]))
        }
        let again = try Journal.open(in: directory.path, orStartAfter: .zero, hash: .zero)
        #expect(again.flushed.position == position(1, 30))
        #expect(again.flushed.hash == chain.hash)
        #expect(again.oldest == start)
        #expect(try all(again, after: start) == batches)
        let more = chain.next(2)
        try again.append(more)
        try again.flush()
        #expect(try all(again, after: start) == batches + more)
    }

    @Test func `readers see a batch when it is flushed, not before`() throws {
        let journal = try open()
        var chain = chain
        let batches = chain.next(2)
        var cursor = try #require(journal.cursor(after: start))
        try journal.append(batches)
        #expect(journal.newest.position == position(1, 12))
        #expect(journal.newest.hash == chain.hash)
        #expect(journal.flushed.position == start)
        #expect(try journal.read(&cursor, byteCountMax: .max).isEmpty)
        #expect(try journal.hash(at: position(1, 12)) == nil)
        try journal.flush()
        #expect(journal.flushed.position == position(1, 12))
        #expect(try journal.read(&cursor, byteCountMax: .max) == batches)
        #expect(cursor.position == position(1, 12))
        #expect(try journal.read(&cursor, byteCountMax: .max).isEmpty)
    }

    @Test func `a read stops at about the bytes it may give, and goes on from there`() throws {
        let journal = try open()
        var chain = chain
        let batches = chain.next(10, byteCount: 1000)
        try journal.append(batches)
        try journal.flush()
        var cursor = try #require(journal.cursor(after: start))
        #expect(try journal.read(&cursor, byteCountMax: 1) == [batches[0]])
        #expect(try journal.read(&cursor, byteCountMax: 2500) == Array(batches[1...3]))
        #expect(try journal.read(&cursor, byteCountMax: .max) == Array(batches[4...]))
    }

    @Test func `what does not follow is refused and nothing of it written`() throws {
        let journal = try open()
        var chain = chain
        var other = BatchChain(after: start, hash: ChainHash(of: utf8("another past")))
        var seed = chain
        let batches = chain.next(3)
        try journal.append([batches[0]])
        for wrong in [batches[0], batches[2], other.next(), seed.next(kind: .seed)] {
            #expect(throws: JournalError.self) { try journal.append([wrong]) }
        }
        try journal.flush()
        #expect(journal.flushed.position == position(1, 11))
        try journal.append(Array(batches[1...]))
        try journal.flush()
        #expect(try all(journal, after: start) == batches)
        let again = try open()
        #expect(try all(again, after: start) == batches)
    }

    @Test func `an epoch begins in the middle of a journal`() throws {
        let journal = try open()
        var chain = chain
        let batches = [chain.next(), chain.next(epoch: 2), chain.next()]
        try journal.append(batches)
        try journal.flush()
        let again = try open()
        #expect(again.flushed.position == position(2, 13))
        #expect(try all(again, after: position(1, 11)) == Array(batches[1...]))
        var cursor = try #require(again.cursor(after: position(1, 12)))
        #expect(try again.skip(&cursor, to: position(1, 12)) == false)
        #expect(try again.hash(at: position(1, 12)) == nil)
        #expect(try again.hash(at: position(2, 12)) != nil)
        // What another primary wrote behind the fork is never reached, nor what is not there yet.
        for at in [position(1, 10), position(1, 11), position(2, 12), position(2, 13)] {
            #expect(try again.leads(through: at))
        }
        for at in [position(0, 5), position(1, 12), position(1, 9000), position(2, 14)] {
            #expect(try !again.leads(through: at))
        }
        // An end that wrote more in the old epoch is compared too.
        #expect(again.byteCount(after: position(1, 50)) == 0)
        #expect(again.byteCount(after: position(1, 11)) > 0)
    }

    // MARK: - segments

    @Test func `a log runs over segments, and is read across them from anywhere`() throws {
        let journal = try open()
        var chain = chain
        let batches = try append(segments: 3, to: journal, &chain)
        #expect(
            try directory.names() == [
                "000000000000000a.journal", "000000000000000f.journal", "0000000000000014.journal",
            ])
        for skipped in [0, 4, 5, 6, 11, 15] {
            let found = try all(journal, after: position(1, 10 + UInt64(skipped)))
            #expect(found == Array(batches[skipped...]), "after \(skipped)")
        }
        let again = try open()
        #expect(again.flushed.hash == chain.hash)
        #expect(try all(again, after: start) == batches)
        #expect(journal.byteCount == again.byteCount)
        #expect(again.byteCount == batches.reduce(0) { $0 + $1.bytes.count } + 3 * SegmentHead.byteCount)
    }

    @Test func `a reader that keeps up crosses into the next segment`() throws {
        let journal = try open()
        var chain = chain
        var cursor = try #require(journal.cursor(after: start))
        for batch in chain.next(12, byteCount: Journal.segmentBytes / 4) {
            try journal.append([batch])
            try journal.flush()
            #expect(try journal.read(&cursor, byteCountMax: .max) == [batch])
        }
    }

    @Test func `a reader at the end of a segment goes on in the next, even if its own was trimmed`() throws {
        let journal = try open()
        var chain = chain
        var cursor = try #require(journal.cursor(after: start))
        for batch in chain.next(12, byteCount: Journal.segmentBytes / 4) {
            try journal.append([batch])
            try journal.trim(through: cursor.position)
            try journal.flush()
            #expect(try journal.read(&cursor, byteCountMax: .max) == [batch])
        }
        #expect(journal.oldest > start)
    }

    @Test func `the chain hash is told at every kept position and at no other`() throws {
        let journal = try open()
        var chain = chain
        var hashes = [startHash]
        var walk = chain
        for batch in try append(segments: 2, to: journal, &chain) {
            hashes.append(batch.chainHash(after: walk.hash))
            _ = walk.next([UInt8](batch.payload))
        }
        for (offset, hash) in hashes.enumerated() {
            #expect(try journal.hash(at: position(1, 10 + UInt64(offset))) == hash, "\(offset)")
        }
        for wrong in [position(1, 9), position(1, 21), position(2, 15), position(0, 15), position(0, 10), .zero] {
            #expect(try journal.hash(at: wrong) == nil, "\(wrong)")
        }
    }

    @Test func `a trim drops the segments behind a position, never the last`() throws {
        let journal = try open()
        var chain = chain
        let batches = try append(segments: 3, to: journal, &chain)
        try journal.trim(through: position(1, 14))
        #expect(journal.oldest == start)
        try journal.trim(through: position(1, 15))
        #expect(journal.oldest == position(1, 15))
        #expect(try directory.names() == ["000000000000000f.journal", "0000000000000014.journal"])
        #expect(journal.cursor(after: position(1, 14)) == nil)
        #expect(try journal.hash(at: position(1, 14)) == nil)
        #expect(try all(journal, after: position(1, 15)) == Array(batches[5...]))
        try journal.trim(through: chain.position)
        #expect(journal.oldest == position(1, 20))
        #expect(try directory.names() == ["0000000000000014.journal"])
        let again = try open()
        #expect(again.oldest == position(1, 20))
        #expect(try all(again, after: position(1, 20)) == Array(batches[10...]))
        #expect(again.byteCount == journal.byteCount)
    }

    @Test func `what has to go for a cap is whole segments, the oldest, never the last`() throws {
        let journal = try open()
        var chain = chain
        _ = try append(segments: 3, to: journal, &chain)
        #expect(journal.position(leaving: journal.byteCount) == nil)
        #expect(journal.position(leaving: .max) == nil)
        #expect(journal.position(leaving: journal.byteCount - 1) == position(1, 15))
        // Each has about 20 MiB.
        #expect(journal.position(leaving: 50 << 20) == position(1, 15))
        #expect(journal.position(leaving: 30 << 20) == position(1, 20))
        #expect(journal.position(leaving: 0) == position(1, 20))
        try journal.trim(through: position(1, 20))
        #expect(journal.position(leaving: 0) == nil)
    }

    @Test func `a reader whose batches were trimmed is told so`() throws {
        let journal = try open()
        var chain = chain
        var cursor = try #require(journal.cursor(after: start))
        _ = try append(segments: 2, to: journal, &chain)
        try journal.trim(through: chain.position)
        #expect(throws: JournalError.self) { try journal.read(&cursor, byteCountMax: 1) }
    }

    // MARK: - crashes and damage

    /// The bytes of a journal of three batches: the whole file, and where the last batch begins.
    private func closed() throws -> (bytes: [UInt8], lastStart: Int, batches: [SealedBatch]) {
        var chain = chain
        let batches = [chain.next(utf8("one")), chain.next(utf8("two")), chain.next(utf8("three and some more"))]
        let journal = try open()
        try journal.append(batches)
        try journal.flush()
        let end = SegmentHead.byteCount + batches.reduce(0) { $0 + $1.bytes.count }
        let bytes = Array(try directory.bytes("000000000000000a.journal").prefix(end))
        return (bytes, end - batches[2].bytes.count, batches)
    }

    /// Opens, expects the first two batches, appends another third one, and expects it to be there after the next open.
    private func expectCut(_ closed: (bytes: [UInt8], lastStart: Int, batches: [SealedBatch]), _ what: String) throws {
        var chain = chain
        for batch in closed.batches.dropLast() { _ = chain.next(Array(batch.payload)) }
        let other = chain.next(utf8("3"))
        do {
            let journal = try open()
            guard journal.flushed.position == position(1, 12) else {
                Issue.record("\(what): at \(journal.flushed.position)")
                return
            }
            try journal.append([other])
            try journal.flush()
        }
        let found = try all(try open(), after: start)
        guard found == Array(closed.batches.dropLast()) + [other] else {
            Issue.record("\(what): \(found.map(\.position))")
            return
        }
    }

    @Test func `a tail torn at any byte of the last batch is cut at the last whole batch`() throws {
        let closed = try closed()
        for count in closed.lastStart..<closed.bytes.count {
            try directory.put(Array(closed.bytes.prefix(count)), at: "000000000000000a.journal")
            try expectCut(closed, "file of \(count)")
            // The same with the room written ahead behind it.
            let zeros = [UInt8](repeating: 0, count: 4096)
            try directory.put(Array(closed.bytes.prefix(count)) + zeros, at: "000000000000000a.journal")
            try expectCut(closed, "\(count) and zeros")
        }
    }

    @Test func `a last batch with a flipped bit anywhere is cut`() throws {
        let closed = try closed()
        for offset in closed.lastStart..<closed.bytes.count {
            var bytes = closed.bytes
            bytes[offset] ^= 0x04
            try directory.put(bytes, at: "000000000000000a.journal")
            try expectCut(closed, "flipped at \(offset)")
        }
    }

    /// The page with its head was written late: zeros, and then the rest.
    @Test func `a last batch whose head never came to disk is cut`() throws {
        let closed = try closed()
        var bytes = closed.bytes
        for offset in closed.lastStart..<closed.lastStart + BatchHeader.byteCount { bytes[offset] = 0 }
        try directory.put(bytes, at: "000000000000000a.journal")
        try expectCut(closed, "no head")
    }

    @Test func `damage in an earlier segment is reported to who reads it and cut by nobody`() throws {
        var chain = chain
        do { _ = try append(segments: 2, to: try open(), &chain) }
        let damaged = SegmentHead.byteCount + 5000
        try directory.flip(bit: 3, at: damaged, of: "000000000000000a.journal")
        let before = try directory.bytes("000000000000000a.journal")
        let journal = try open()
        #expect(journal.flushed.position == chain.position)
        var cursor = try #require(journal.cursor(after: start))
        let error = #expect(throws: JournalError.self) { try journal.read(&cursor, byteCountMax: .max) }
        #expect(error?.description.contains("000000000000000a.journal") == true)
        #expect(error?.description.contains("checksum mismatch") == true)
        #expect(try all(journal, after: position(1, 15)).count == 5)
        #expect(try directory.bytes("000000000000000a.journal") == before)
    }

    @Test func `age is looked for up to a damaged batch, and no error is made of it`() throws {
        var chain = chain
        do { _ = try append(segments: 4, to: try open(), &chain) }
        let later = Timestamp(nanoseconds: 1000)
        #expect(try open().position(before: later) == position(1, 25))
        try directory.flip(bit: 3, at: SegmentHead.byteCount + 5000, of: "0000000000000014.journal")
        #expect(try open().position(before: later) == position(1, 15))
    }

    @Test func `an earlier segment whose head is damaged is refused`() throws {
        var chain = chain
        do { _ = try append(segments: 2, to: try open(), &chain) }
        try directory.flip(bit: 3, at: 20, of: "000000000000000a.journal")
        #expect(throws: JournalError.self) { try open() }
    }

    /// Segments come under their name when their head is on disk.
    @Test(arguments: [0, 1, 63, 64]) func `what a crash left of a segment that was being begun is no segment`(
        _ byteCount: Int
    ) throws {
        var chain = chain
        do { _ = try append(segments: 1, to: try open(), &chain) }
        let head = SegmentHead(after: chain.position, hash: chain.hash).encoded()
        try directory.put(Array(head.prefix(byteCount)), at: ".000000000000000f.journal.new")
        let journal = try open()
        #expect(journal.flushed.position == chain.position)
        let more = try append(segments: 1, to: journal, &chain)
        #expect(try all(try open(), after: position(1, 15)) == more)
        #expect(try directory.names() == ["000000000000000a.journal", "000000000000000f.journal"])
    }

    @Test func `what a crash left of a first segment is no segment`() throws {
        try directory.put([1, 2, 3], at: ".000000000000000a.journal.new")
        #expect(try open().flushed.position == start)
        #expect(try open().flushed.position == start)
    }

    @Test(arguments: [0, 1, 63]) func `a segment without its whole head is refused, and kept`(_ byteCount: Int) throws {
        var chain = chain
        do { _ = try append(segments: 1, to: try open(), &chain) }
        try directory.put([UInt8](repeating: 1, count: byteCount), at: "000000000000000f.journal")
        #expect(throws: JournalError.self) { try open() }
        #expect(try directory.names().count == 2)
    }

    @Test func `a last segment with batches whose head is damaged is refused, and kept`() throws {
        var chain = chain
        do {
            let journal = try open()
            try journal.append(chain.next(3))
            try journal.flush()
        }
        try directory.flip(bit: 0, at: 40, of: "000000000000000a.journal")
        let before = try directory.bytes("000000000000000a.journal")
        #expect(throws: JournalError.self) { try open() }
        #expect(try directory.bytes("000000000000000a.journal") == before)
    }

    @Test func `files that are no segments are left alone`() throws {
        try directory.put(utf8("x"), at: "slots")
        do {
            let journal = try open()
            var chain = chain
            try journal.append(chain.next(1))
            try journal.flush()
        }
        #expect(try open().flushed.position == position(1, 11))
        #expect(try directory.bytes("slots") == utf8("x"))
    }
}

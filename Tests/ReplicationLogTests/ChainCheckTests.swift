import Digests
import Formats
import Foundation
import Linux
import ReplicationLog
import Scratch
import Testing

@Suite struct ChainCheckTests {
    private let directory = TemporaryDirectory()
    private let start = position(1, 10)
    private let startHash = ChainHash(of: utf8("ten"))
    private let first = "000000000000000a.journal"

    private func open() throws -> Journal { try Journal.open(in: directory.path, orStartAfter: start, hash: startHash) }

    private func report(_ marks: Set<Position> = []) throws -> ChainCheck.Report {
        var check = ChainCheck(marks: marks)
        try check.run(directory: directory.path)
        return check.report
    }

    /// A journal of one segment with `count` batches of `byteCount` bytes each; and their chain.
    private func write(_ count: Int, byteCount: Int = 100) throws -> ChainHash {
        var chain = BatchChain(after: start, hash: startHash)
        let journal = try open()
        for batch in chain.next(count, byteCount: byteCount) {
            try journal.append([batch])
            try journal.flush()
        }
        return chain.hash
    }

    @Test func `a chain over several segments is followed from its beginning to its head`() throws {
        var chain = BatchChain(after: start, hash: startHash)
        let journal = try open()
        var middle: ChainHash?
        for batch in chain.next(12, byteCount: Journal.segmentBytes / 4 - 128) {
            try journal.append([batch])
            try journal.flush()
            if batch.position == position(1, 17) { middle = journal.flushed.hash }
        }
        let found = try report([position(1, 17), position(1, 99)])
        #expect(found.segmentCount == 3 && found.batchCount == 12 && found.broken == nil && found.unfinished == nil)
        #expect(found.first == ChainCheck.Mark(position: start, hash: startHash))
        #expect(found.last == ChainCheck.Mark(position: position(1, 22), hash: chain.hash))
        #expect(found.marks == [ChainCheck.Mark(position: position(1, 17), hash: try #require(middle))])
        var named = ChainCheck()
        try named.run(segments: try directory.names().map { directory($0) })
        #expect(named.report.last == found.last)
        var alone = ChainCheck()
        try alone.run(segments: [directory(try directory.names()[1])])
        #expect(alone.report.broken == nil && alone.report.first?.position == position(1, 15))
    }

    @Test func `any bit flipped in front of a whole batch breaks the chain, and no journal opens over it`() throws {
        _ = try write(3)
        let sound = try directory.bytes(first)
        let last = SegmentHead.byteCount + 2 * (BatchHeader.byteCount + 100)
        for offset in 0..<last {
            var bytes = sound
            bytes[offset] ^= 1 << UInt8(offset % 8)
            // The time of the head, unused bytes included, is under its checksum too.
            try directory.put(bytes, at: first)
            #expect(try report().broken != nil, "offset \(offset)")
            #expect(throws: JournalError.self, "offset \(offset)") { try open() }
            #expect(try directory.bytes(first) == bytes, "nothing is cut")
        }
        try directory.put(sound, at: first)
        #expect(try open().flushed.position == position(1, 13))
    }

    @Test func `any bit flipped in the last batch is a write that was not finished, and cut`() throws {
        _ = try write(3)
        let sound = try directory.bytes(first)
        let last = SegmentHead.byteCount + 2 * (BatchHeader.byteCount + 100)
        for offset in last..<last + BatchHeader.byteCount + 100 {
            var bytes = sound
            bytes[offset] ^= 1 << UInt8(offset % 8)
            try directory.put(bytes, at: first)
            let found = try report()
            #expect(found.broken == nil && found.unfinished != nil && found.last?.position == position(1, 12))
            #expect(try open().flushed.position == position(1, 12))
        }
    }

    @Test func `sectors that were never written, behind them a batch of the same flush, are no damage`() throws {
        _ = try write(3, byteCount: 3000)
        var bytes = try directory.bytes(first)
        let second = SegmentHead.byteCount + BatchHeader.byteCount + 3000
        for offset in second / 512 * 512 + 512..<second / 512 * 512 + 1024 { bytes[offset] = 0 }
        try directory.put(bytes, at: first)
        #expect(try report().broken == nil)
        #expect(try open().flushed.position == position(1, 11))
    }

    @Test func `the unwritten rest of the sector that the log ended in is no damage`() throws {
        _ = try write(3, byteCount: 3000)
        var bytes = try directory.bytes(first)
        let second = SegmentHead.byteCount + BatchHeader.byteCount + 3000
        #expect(second % 512 != 0)
        let end = second / 512 * 512 + 512
        for offset in second..<end { bytes[offset] = 0 }
        try directory.put(bytes, at: first)
        #expect(try report().broken == nil)
        #expect(try open().flushed.position == position(1, 11))
        // Anything but zeros there was written, and is not what it was.
        bytes[end - 1] = 1
        try directory.put(bytes, at: first)
        #expect(try report().broken != nil)
        #expect(throws: JournalError.self) { try open() }
    }

    @Test func `a segment that is missing, exchanged, or cut breaks the chain there`() throws {
        var chain = BatchChain(after: start, hash: startHash)
        do {
            let journal = try open()
            for batch in chain.next(12, byteCount: Journal.segmentBytes / 4 - 128) {
                try journal.append([batch])
                try journal.flush()
            }
        }
        let names = try directory.names()
        let middle = try directory.bytes(names[1])
        try directory.put(Array(middle.dropLast(100)), at: names[1])
        #expect(try report().broken?.segment == directory(names[1]))
        try directory.put(middle + [1], at: names[1])
        #expect(try report().broken?.segment == directory(names[1]))
        try directory.put(try directory.bytes(names[0]), at: names[1])
        #expect(try report().broken?.segment == directory(names[1]))
        try Directory(directory.path).unlink(utf8(names[1]))
        #expect(try report().broken?.segment == directory(names[2]))
    }
}

@Suite struct SigningTests {
    @Test func `a signature is of its text and its key, and of no other`() throws {
        let (one, other) = (
            try Identity.make(commonName: "one", now: .now), try Identity.make(commonName: "other", now: .now)
        )
        let hash = ChainHash(of: utf8("text"))
        let signature = try one.sign(hash)
        let signer = Signer(certificate: one.certificateBytes)
        #expect(signer.fingerprint == one.fingerprint)
        #expect(signer.signed(hash, signature))
        #expect(!signer.signed(ChainHash(of: utf8("texT")), signature))
        #expect(!Signer(certificate: other.certificateBytes).signed(hash, signature))
        #expect(!Signer(certificate: []).signed(hash, signature))
        for offset in signature.indices {
            var changed = signature
            changed[offset] ^= 1
            #expect(!signer.signed(hash, changed))
        }
    }
}

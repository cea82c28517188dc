import Digests
import Formats
import Foundation
import ReplicationLog
import Testing

/// What a segment looks like, written without our code; Fixtures/README.md says how.
private func fixture(_ name: String) throws -> [UInt8] {
    let url = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Fixtures/wire/\(name).hex")
    let text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
    return text.split(separator: "\n").flatMap { line in
        line.prefix { $0 != "#" }.split(separator: " ").map { UInt8($0, radix: 16)! }
    }
}

private let previous = ChainHash(of: utf8("the batch before"))

@Suite struct SegmentHeadTests {
    @Test func `a head is, byte for byte, what its fixture says`() throws {
        let head = SegmentHead(after: position(3, 4210), hash: previous)
        #expect(head.encoded() == (try fixture("segment-head")))
        #expect(try SegmentHead(decoding: try fixture("segment-head")) == head)
    }

    @Test func `a head cut off anywhere, or with a flipped bit, is refused`() throws {
        let bytes = try fixture("segment-head")
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self) { try SegmentHead(decoding: Array(bytes.prefix(count))) }
        }
        for offset in bytes.indices {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[offset] ^= 1 << UInt8(bit)
                #expect(throws: MalformedBytes.self, "bit \(bit) at \(offset)") { try SegmentHead(decoding: flipped) }
            }
        }
    }
}

@Suite struct SegmentScanTests {
    private let head = SegmentHead(after: position(3, 4210), hash: previous)

    /// What a scan of `file` finds, with how it ended.
    private func scan(_ file: [UInt8]) -> (batches: [SealedBatch], end: SegmentScan.Found, offset: Int) {
        var scan = SegmentScan(head: head)
        var batches: [SealedBatch] = []
        while true {
            let found = scan.next { offset, count in Array(file.dropFirst(offset).prefix(count)) }
            guard case .batch(let batch) = found else { return (batches, found, scan.offset) }
            batches.append(batch)
        }
    }

    @Test func `the fixture has two batches, chained, and ends in zeros`() throws {
        let file = try fixture("segment")
        let found = scan(file)
        #expect(found.batches.map(\.position) == [position(3, 4211), position(3, 4212)])
        #expect(found.batches[1].follows(found.batches[0].chainHash(after: previous)))
        #expect(found.offset == file.count - 32)
        guard case .end = found.end else { return #expect(Bool(false), "\(found.end)") }
    }

    @Test func `cut anywhere, a scan gives the whole batches before the cut`() throws {
        let file = try fixture("segment")
        let ends = [64, 64 + scan(file).batches[0].bytes.count, file.count - 32]
        for count in 64..<file.count {
            let found = scan(Array(file.prefix(count)))
            let wholeCount = ends.filter { $0 <= count }.count - 1
            #expect(found.batches.count == wholeCount, "cut to \(count)")
            #expect(found.offset == ends[wholeCount], "cut to \(count)")
        }
    }

    @Test func `a flipped bit ends a scan before its batch, as torn`() throws {
        let file = try fixture("segment")
        let first = scan(file).batches[0].bytes.count
        for offset in 64..<file.count - 32 {
            var flipped = file
            flipped[offset] ^= 0x20
            let found = scan(flipped)
            #expect(found.batches.count == (offset < 64 + first ? 0 : 1), "at \(offset)")
            guard case .torn = found.end else {
                Issue.record("a flipped bit at \(offset) is taken for the end")
                continue
            }
        }
    }

    @Test func `a batch again, and one that does not follow, are torn`() throws {
        var chain = BatchChain(after: position(3, 4210), hash: previous)
        let batches = chain.next(3)
        for wrong in [[0, 0], [0, 2], [1], [0, 1, 0]] {
            let file = [UInt8](repeating: 0, count: 64) + wrong.flatMap { batches[$0].bytes }
            let found = scan(file)
            #expect(found.batches.count == wrong.count - 1, "\(wrong)")
            guard case .torn = found.end else { return #expect(Bool(false), "\(found.end)") }
        }
    }

    @Test func `a batch larger than one read is found whole`() {
        var chain = BatchChain(after: position(3, 4210), hash: previous)
        let batches = chain.next(3, byteCount: 10_000)
        #expect(scan([UInt8](repeating: 0, count: 64) + batches.flatMap(\.bytes)).batches == batches)
    }
}

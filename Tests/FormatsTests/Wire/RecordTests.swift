import Digests
import Formats
import Seeded
import Testing

@Suite struct RecordTests {
    private static let names = WireFixture.records.map(\.name)

    private func record(_ name: String) -> Record { WireFixture.records.first { $0.name == name }!.record }

    @Test(arguments: names) func `each kind is, byte for byte, what its fixture says`(_ name: String) throws {
        let bytes = try WireFixture.bytes("record-" + name)
        #expect(record(name).encoded == bytes)
        #expect(try Record(decodingAll: bytes) == record(name))
    }

    @Test(arguments: names) func `a record cut off anywhere is refused`(_ name: String) throws {
        let bytes = record(name).encoded
        for count in 0..<bytes.count {
            #expect(throws: MalformedBytes.self, "cut to \(count) of \(bytes.count)") {
                try Record(decodingAll: Array(bytes.prefix(count)))
            }
        }
    }

    /// The checksum of the batch finds a flipped bit; a record alone must only never trap, nor take it for what it was.
    @Test(arguments: names) func `a flipped bit never traps and never goes unseen`(_ name: String) throws {
        let (record, bytes) = (record(name), record(name).encoded)
        for offset in bytes.indices {
            for bit in 0..<8 {
                guard let other = try? Record(decodingAll: bytes.flipping(bit: bit, at: offset)) else { continue }
                #expect(other != record, "bit \(bit) at \(offset)")
                #expect(try Record(decodingAll: other.encoded) == other, "bit \(bit) at \(offset)")
            }
        }
    }

    @Test func `mutated records never trap`() throws {
        let seed: UInt64 = 0x5eed_0001
        var generator = SeededGenerator(seed: seed)
        var readCount = 0
        for round in 0..<20_000 {
            let bytes = record(Self.names[round % Self.names.count]).encoded.mutated(using: &generator)
            guard let read = try? Record(decodingAll: bytes) else { continue }
            readCount += 1
            #expect(try Record(decodingAll: read.encoded) == read, "seed \(seed), round \(round)")
        }
        #expect(readCount > 0, "seed \(seed)")
    }

    @Test func `the result is told by all kinds that have a content`() {
        let told = WireFixture.records.filter { $0.record.result != nil }.map(\.name)
        #expect(told == ["whole", "extents", "delta", "assembled", "link", "metadata"])
        #expect(record("extents").result == WireFixture.new)
    }

    // MARK: - hostile bytes

    /// A record's bytes from its kind on; `body` writes what follows the path.
    private func bytes(kind: UInt8, path: [UInt8] = utf8("a"), _ body: (inout ByteWriter) -> Void) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(kind)
        writer.write(string: utf8("partition-default"))
        writer.write(string: path)
        body(&writer)
        return writer.finish()
    }

    private func why(_ bytes: [UInt8]) -> String? {
        do throws(MalformedBytes) {
            _ = try Record(decodingAll: bytes)
            return nil
        } catch {
            return error.description
        }
    }

    @Test(arguments: [0, 13, 255] as [UInt8]) func `an unknown kind is refused`(_ kind: UInt8) {
        #expect(why(bytes(kind: kind) { _ in })?.contains("unknown kind \(kind)") == true)
    }

    @Test(
        arguments: [
            "/etc/passwd", "a/../b", "..", "../a", "a/..", ".", "./a", "a/./b", "a//b", "a/", "a\0b", "/",
            String(repeating: "x", count: 256), String(repeating: "a/", count: 2000) + "a",
        ])
    func `a path that could lead out of its root, or is none, is refused`(_ path: String) {
        #expect(why(bytes(kind: 10, path: utf8(path)) { _ in }) != nil)
        let link = bytes(kind: 7) { writer in
            writer.write(string: utf8("partition-default"))
            writer.write(string: utf8(path))
            writer.write(WireFixture.new)
        }
        #expect(why(link) != nil)
    }

    @Test func `an empty path is the root itself`() throws {
        #expect(try Record(decodingAll: bytes(kind: 10, path: []) { _ in }).path == StorePath(root: WireFixture.mail))
    }

    @Test func `lengths are checked before they are used`() {
        func hostile(_ kind: UInt8, _ body: @escaping (inout ByteWriter) -> Void) -> String {
            why(
                bytes(kind: kind) { writer in
                    if kind != 5 { WireFixture.metadata.encode(into: &writer) }
                    body(&writer)
                }) ?? "taken"
        }
        let overCount = UInt64(Record.contentBytesMax) + 1
        #expect(
            hostile(2) {
                $0.write(WireFixture.new)
                $0.write(count: overCount)
            }.contains("is more than"))
        #expect(
            hostile(2) {
                $0.write(WireFixture.new)
                $0.write(count: .max)
            }.contains("is more than"))
        #expect(
            hostile(2) {
                $0.write(WireFixture.new)
                $0.write(count: UInt64(Record.contentBytesMax))
            }.contains("needed"))
        #expect(
            hostile(5) {
                $0.write(WireFixture.new)
                $0.write(count: Record.fileBytesMax + 1)
            }.contains("is more than"))
        #expect(
            hostile(6) {
                $0.write(WireFixture.new)
                $0.write(count: .max)
            }.contains("is more than"))
        #expect(hostile(8) { $0.write(count: 4097) }.contains("is more than"))
        #expect(
            hostile(4) {
                $0.write(WireFixture.old)
                $0.write(WireFixture.new)
                $0.write(count: 1)
                $0.write(count: overCount)
            }.contains("is more than"))
    }

    @Test func `extents outside the file, or too many, are refused`() {
        func extents(_ byteCount: UInt64, _ count: UInt64, _ pieces: [(gap: UInt64, bytes: [UInt8])]) -> String {
            why(
                bytes(kind: 3) { writer in
                    WireFixture.metadata.encode(into: &writer)
                    writer.write(WireFixture.old)
                    writer.write(WireFixture.new)
                    writer.write(count: byteCount)
                    writer.write(count: count)
                    for piece in pieces {
                        writer.write(count: piece.gap)
                        writer.write(string: piece.bytes)
                    }
                }) ?? "taken"
        }
        #expect(extents(4, 1, [(0, [1, 2, 3, 4])]) == "taken")
        #expect(extents(4, 1, [(1, [1, 2, 3, 4])]).contains("ends at 5 of 4"))
        #expect(extents(4, 2, [(0, [1, 2]), (1, [3, 4])]).contains("ends at 5 of 4"))
        #expect(extents(4, 1, [(Record.fileBytesMax, [1])]).contains("of 4 bytes"))
        #expect(extents(4, 1, [(0, [])]).contains("no bytes"))
        #expect(extents(4, 1, [(.max, [1])]).contains("is more than"))
        #expect(extents(4, (1 << 20) + 1, []).contains("is more than"))
        #expect(extents(4, 1 << 20, []).contains("needed"))
        #expect(extents(Record.fileBytesMax + 1, 0, []).contains("is more than"))
    }
}

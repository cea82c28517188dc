import Digests
import Formats
import Seeded
import Testing

@Suite struct MessageTests {
    private static let names = WireFixture.messages.map(\.name)

    private func message(_ name: String) -> Message { WireFixture.messages.first { $0.name == name }!.message }

    @Test(arguments: names) func `each kind is, byte for byte, what its fixture says`(_ name: String) throws {
        let frame = try WireFixture.bytes("message-" + name)
        #expect(message(name).encoded() == frame)
        #expect(try Message(frame: frame) == message(name))
    }

    /// A batch's bytes are checked by who opens it: to the frame, a shorter batch is a batch.
    @Test(arguments: names) func `a body cut off anywhere is refused`(_ name: String) throws {
        let body = message(name).encoded().dropFirst(4)
        for count in 0..<body.count where name != "batch" || count == 0 {
            #expect(throws: MalformedBytes.self, "cut to \(count) of \(body.count)") {
                try Message(decoding: body.prefix(count))
            }
        }
    }

    @Test(arguments: names.filter { $0 != "batch" }) func `a byte too many is refused`(_ name: String) {
        let body = message(name).encoded().dropFirst(4)
        #expect(throws: MalformedBytes.self) { try Message(decoding: body + [0]) }
    }

    @Test(arguments: names) func `a flipped bit never traps and never goes unseen`(_ name: String) throws {
        let (message, frame) = (message(name), message(name).encoded())
        for offset in 4..<frame.count {
            for bit in 0..<8 {
                let flipped = frame.flipping(bit: bit, at: offset)
                guard let other = try? Message(decoding: flipped.dropFirst(4)) else { continue }
                #expect(other != message, "bit \(bit) at \(offset)")
                #expect(try Message(frame: other.encoded()) == other, "bit \(bit) at \(offset)")
            }
        }
    }

    @Test func `mutated messages never trap`() throws {
        let seed: UInt64 = 0x5eed_0002
        var generator = SeededGenerator(seed: seed)
        for round in 0..<20_000 {
            let body = Array(message(Self.names[round % Self.names.count]).encoded().dropFirst(4))
            let mutated = body.mutated(using: &generator)
            guard let read = try? Message(decoding: mutated[...]) else { continue }
            #expect(try Message(frame: read.encoded()) == read, "seed \(seed), round \(round)")
        }
    }

    @Test(arguments: [0, 17, 255] as [UInt8]) func `an unknown kind is refused`(_ kind: UInt8) {
        #expect(throws: MalformedBytes("message: kind", at: 0, "unknown kind \(kind)")) {
            try Message(decoding: [kind])
        }
    }

    @Test func `a reason that this version does not know is a failure, and its text is kept`() throws {
        var frame = Message.refuse(.fenced, text: "why").encoded()
        frame[5] = 99
        #expect(try Message(frame: frame) == .refuse(.failed, text: "why"))
    }

    @Test func `a long text of a refusal is cut, so that the other end takes it`() throws {
        let frame = Message.refuse(.failed, text: String(repeating: "x", count: 10_000)).encoded()
        #expect(try Message(frame: frame) == .refuse(.failed, text: String(repeating: "x", count: 4096)))
    }

    @Test func `a text is cut between characters, and one that is no UTF-8 does not grow beyond its bound`() throws {
        let long = Message.paused(because: String(repeating: "ü", count: 2047) + "xüü")
        #expect(try Message(frame: long.encoded()) == .paused(because: String(repeating: "ü", count: 2047) + "x"))
        var writer = ByteWriter()
        writer.write(UInt8(16))
        writer.write(string: [UInt8](repeating: 0xdc, count: 1365))
        let repaired = try Message(decoding: writer.bytes[...])
        #expect(repaired == .paused(because: String(repeating: "\u{fffd}", count: 1365)))
        #expect(try Message(frame: repaired.encoded()) == repaired)
        writer = ByteWriter()
        writer.write(UInt8(16))
        writer.write(string: [UInt8](repeating: 0xdc, count: 1366))
        #expect(throws: MalformedBytes("paused: why", at: 1369, "no UTF-8")) {
            try Message(decoding: writer.bytes[...])
        }
    }

    @Test func `of a hello of another version the version is read, whatever follows`() throws {
        for version in [UInt8(0), 1, 2, 4] {
            guard case .hello(let hello) = try Message(decoding: [1, 0, version, 0xff, 0xff]) else {
                Issue.record("no hello")
                return
            }
            #expect(hello.version == version)
        }
        #expect(throws: MalformedBytes.self) { try Message(decoding: [1, 0, 3, 0xff, 0xff]) }
    }

    @Test func `an ack that goes backwards is refused`() {
        let (low, high) = (position(3, 1), position(3, 2))
        for ack in [
            Ack(received: low, flushed: high, applied: low), Ack(received: high, flushed: low, applied: high),
            Ack(received: position(2, 9), flushed: low, applied: .zero),
        ] {
            #expect(throws: MalformedBytes.self) { try Message(frame: Message.ack(ack).encoded()) }
        }
        #expect(throws: Never.self) {
            try Message(frame: Message.ack(Ack(received: low, flushed: low, applied: low)).encoded())
        }
    }

    @Test func `counts and names of a hostile peer are refused`() {
        func body(_ kind: UInt8, _ write: (inout ByteWriter) -> Void) -> ArraySlice<UInt8> {
            var writer = ByteWriter()
            writer.write(kind)
            write(&writer)
            return writer.bytes[...]
        }
        func refused(_ body: ArraySlice<UInt8>, _ text: String) {
            do throws(MalformedBytes) {
                _ = try Message(decoding: body)
                Issue.record("taken, where \"\(text)\" was due")
            } catch {
                #expect(error.description.contains(text))
            }
        }
        refused(body(7) { $0.write(count: (1 << 22) + 1) }, "is more than")
        refused(body(7) { $0.write(count: 1 << 22) }, "needed")
        func listing(_ name: String, flags: UInt8 = 0) -> ArraySlice<UInt8> {
            body(8) {
                $0.write(StorePath(root: .sieve))
                WireFixture.metadata.encode(into: &$0)
                $0.write(count: 1)
                $0.write(string: utf8(name))
                $0.write(flags)
                $0.write(count: 0)
            }
        }
        func want(_ name: String) -> ArraySlice<UInt8> {
            body(9) {
                $0.write(StorePath(root: .sieve))
                $0.write(count: 1)
                $0.write(string: utf8(name))
                $0.write(UInt8(0))
            }
        }
        for name in ["", ".", "..", "a/b", "/", "a\0b"] {
            refused(listing(name), "not a file's name")
            refused(want(name), "not a name")
        }
        refused(listing("a", flags: 4), "unknown flags")
        #expect(throws: Never.self) { try Message(decoding: listing("a")) }
        #expect(throws: Never.self) { try Message(decoding: want("a")) }
        let purpose = body(1) {
            $0.write(Message.protocolVersion)
            $0.write(string: utf8("s"))
            $0.write(UInt8(5))
        }
        refused(purpose, "unknown purpose 5")
    }

    @Test func `the head of a batch's frame and the batch are its frame`() throws {
        let batch = try WireFixture.bytes("batch")
        #expect(Message.headOfBatch(byteCount: batch.count) + batch == Message.batch(batch).encoded())
    }
}

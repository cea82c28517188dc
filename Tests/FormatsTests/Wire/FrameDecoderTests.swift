import Formats
import Testing

@Suite struct FrameDecoderTests {
    private static let stream = WireFixture.messages.map(\.message)
    private static let bytes = stream.flatMap { $0.encoded() }

    private func messages(_ pieces: some Sequence<ArraySlice<UInt8>>) throws(MalformedBytes) -> [Message] {
        var decoder = FrameDecoder()
        var messages: [Message] = []
        for piece in pieces {
            Array(piece).withUnsafeBytes { decoder.push($0) }
            while let message = try decoder.next() { messages.append(message) }
        }
        return messages
    }

    @Test(arguments: [1, 2, 3, 5, 7, 64, 1000, 100_000])
    func `messages come out whole, however the stream is cut`(_ pieceBytes: Int) throws {
        let pieces = stride(from: 0, to: Self.bytes.count, by: pieceBytes).map {
            Self.bytes[$0..<min($0 + pieceBytes, Self.bytes.count)]
        }
        #expect(try messages(pieces) == Self.stream)
    }

    @Test func `nothing comes before the last byte of a frame`() throws {
        let frame = Self.stream[0].encoded()
        var decoder = FrameDecoder()
        for byte in frame.dropLast() {
            withUnsafeBytes(of: byte) { decoder.push($0) }
            #expect(try decoder.next() == nil)
        }
        withUnsafeBytes(of: frame.last!) { decoder.push($0) }
        #expect(try decoder.next() == Self.stream[0])
        #expect(try decoder.next() == nil)
    }

    @Test(arguments: [0, UInt32(Message.frameBytesMax) + 1, .max])
    func `a frame of no bytes, or of too many, is refused by its head`(_ byteCount: UInt32) {
        var writer = ByteWriter()
        writer.write(byteCount)
        #expect(throws: MalformedBytes.self) { try messages([writer.bytes[...]]) }
    }

    @Test func `a stream that lost its framing stays lost`() throws {
        var decoder = FrameDecoder()
        ([0, 0, 0, 1, 99] + Self.stream[0].encoded()).withUnsafeBytes { decoder.push($0) }
        let first = #expect(throws: MalformedBytes.self) { try decoder.next() }
        let second = #expect(throws: MalformedBytes.self) { try decoder.next() }
        #expect(first == second)
        Self.stream[0].encoded().withUnsafeBytes { decoder.push($0) }
        #expect(throws: MalformedBytes.self) { try decoder.next() }
    }

    /// More than the megabyte after which what was read is thrown away.
    @Test func `a long stream with large frames comes out as it went in`() throws {
        let large = (0..<6).map { Message.batch([UInt8](repeating: UInt8($0), count: 700_000)) }
        let bytes = large.flatMap { $0.encoded() }
        let pieces = stride(from: 0, to: bytes.count, by: 99_991).map { bytes[$0..<min($0 + 99_991, bytes.count)] }
        #expect(try messages(pieces) == large)
    }

    @Test func `a large frame of each kind, and of none, is what it is in one piece`() throws {
        for kind in UInt8(0)...40 {
            var frame = ByteWriter()
            frame.write(UInt32(100_001))
            frame.write(kind)
            frame.write(raw: [UInt8](repeating: 7, count: 100_000))
            let whole = Result { () throws(MalformedBytes) in try messages([frame.bytes[...]]) }
            let cut = Result { () throws(MalformedBytes) in
                try messages([frame.bytes[..<5], frame.bytes[5..<70_000], frame.bytes[70_000...]])
            }
            switch (whole, cut) {
            case (.success(let one), .success(let other)): #expect(one == other)
            case (.failure(let one), .failure(let other)): #expect(one.what == other.what)
            default: Issue.record("kind \(kind): \(whole), \(cut)")
            }
        }
    }
}

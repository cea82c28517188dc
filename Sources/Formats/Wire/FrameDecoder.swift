/// Takes a stream of bytes apart into messages: push what arrived, pull until there is nothing.
///
/// Holds at most one frame and what came with it; a frame longer than `Message.frameBytesMax` is refused by its head.
/// After an error it stays failed: a stream that lost its framing has no next message.
package struct FrameDecoder {
    private var buffer: [UInt8] = []
    private var start = 0
    private var failure: MalformedBytes?

    package init() {}

    package mutating func push(_ bytes: UnsafeRawBufferPointer) {
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 1 << 20)
            start = 0
        } else if start > 1 << 20 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// The next message, or nothing until more bytes come.
    package mutating func next() throws(MalformedBytes) -> Message? {
        if let failure { throw failure }
        do throws(MalformedBytes) {
            return try decodeNext()
        } catch {
            failure = error
            throw error
        }
    }

    private mutating func decodeNext() throws(MalformedBytes) -> Message? {
        guard buffer.count - start >= 4 else { return nil }
        var reader = ByteReader(buffer[start..<start + 4])
        let byteCount = Int(try reader.read(UInt32.self, "frame: bytes"))
        guard byteCount >= 1, byteCount <= Message.frameBytesMax else {
            throw MalformedBytes("frame: bytes", at: 0, "\(byteCount), \(Message.frameBytesMax) allowed")
        }
        guard buffer.count - start >= 4 + byteCount else { return nil }
        let frame = buffer[start + 4..<start + 4 + byteCount]
        start += 4 + byteCount
        return try Message(decoding: frame)
    }
}

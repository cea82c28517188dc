/// Takes a stream of bytes apart into messages: push what arrived, pull until there is nothing.
///
/// Holds at most one frame and what came with it; a frame longer than `Message.frameBytesMax` is refused by its head.
/// After an error it stays failed: a stream that lost its framing has no next message.
package struct FrameDecoder {
    /// What came, from `start` on not looked at yet.
    private var buffer: [UInt8] = []
    private var start = 0
    private var large: LargeFrame?
    private var failure: MalformedBytes?

    /// A frame of which the head and a part have come. Its body is gathered where it will be used, and copied once.
    private struct LargeFrame {
        let kind: UInt8
        var body: [UInt8] = []
        var missingBytes: Int
    }

    private static let largeBytesMin = 64 << 10

    package init() {}

    package mutating func push(_ bytes: UnsafeRawBufferPointer) {
        var bytes = bytes
        if let missing = large?.missingBytes, missing > 0 {
            let part = min(missing, bytes.count)
            large?.body.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[..<part]))
            large?.missingBytes -= part
            bytes = UnsafeRawBufferPointer(rebasing: bytes[part...])
        }
        guard !bytes.isEmpty else { return }
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
        if let frame = large.take() {
            guard frame.missingBytes == 0 else {
                large = frame
                return nil
            }
            return try Message(kind: frame.kind, body: frame.body)
        }
        guard buffer.count - start >= 4 else { return nil }
        var reader = ByteReader(buffer[start..<start + 4])
        let byteCount = Int(try reader.read(UInt32.self, "frame: bytes"))
        guard byteCount >= 1, byteCount <= Message.frameBytesMax else {
            throw MalformedBytes("frame: bytes", at: 0, "\(byteCount), \(Message.frameBytesMax) allowed")
        }
        let there = buffer.count - start - 4
        guard there >= byteCount else {
            if byteCount >= Self.largeBytesMin, there >= 1 { beginLarge(byteCount, there) }
            return nil
        }
        let frame = buffer[start + 4..<start + 4 + byteCount]
        start += 4 + byteCount
        return try Message(decoding: frame)
    }

    /// The frame at `start` has `byteCount` bytes, of which only `there` have come.
    private mutating func beginLarge(_ byteCount: Int, _ there: Int) {
        var frame = LargeFrame(kind: buffer[start + 4], missingBytes: byteCount - there)
        frame.body.reserveCapacity(byteCount - 1)
        frame.body.append(contentsOf: buffer[(start + 5)...])
        large = frame
        start = buffer.count
    }
}

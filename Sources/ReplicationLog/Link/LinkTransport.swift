internal import NIOCore
internal import Synchronization

/// What carries a link's bytes: a channel of NIO's, or a simulated network.
package protocol LinkTransport: Sendable {
    /// False while too much is waiting to be sent.
    var isWritable: Bool { get }
    var isOpen: Bool { get }
    /// Sends a frame, of which `body` may be the larger part, with the next `flush`; any thread; kept in order.
    func write(_ head: [UInt8], _ body: [UInt8])
    func flush()
    func close()
    /// Stops taking bytes from the other end while `paused`.
    func setReading(paused: Bool)
    /// Runs `body` on the event loop that the link's user is called on.
    func onLoop(_ body: @escaping @Sendable () -> Void)
}

/// Makes links to the other ends.
package protocol LinkDialer: Sendable {
    /// Returns when the link is open, throws `LinkFailure` if it does not open.
    func dial(_ address: Address, user: any LinkUser) async throws
}

/// TLS over TCP.
final class ChannelTransport: LinkTransport {
    private let channel: any Channel
    /// Bytes that the event loop was given and has not flushed yet, of which the channel knows nothing (TLS keeps them until
    /// then): a thread that sends may be far ahead of a busy loop.
    private let handedBytes = Atomic(0)
    /// Those of them that are written and not flushed.
    private let writtenBytes = Atomic(0)

    /// What is waiting to be sent: above the high mark `isWritable` is false, until what the channel has of it fell below the low
    /// mark, and what it has not below the high mark.
    static let waterMarks = ChannelOptions.Types.WriteBufferWaterMark(low: 256 << 10, high: highMark)
    private static let highMark = 1 << 20
    /// Frames are handed to TLS in pieces of this size: larger ones collapse, smaller ones cost more.
    private static let pieceBytes = 256 << 10

    init(_ channel: any Channel) { self.channel = channel }

    var isWritable: Bool { channel.isWritable && handedBytes.load(ordering: .relaxed) < Self.highMark }
    var isOpen: Bool { channel.isActive }

    func write(_ head: [UInt8], _ body: [UInt8]) {
        guard !channel.eventLoop.inEventLoop else { return writeOnLoop(head, body) }
        let byteCount = head.count + body.count
        handedBytes.add(byteCount, ordering: .relaxed)
        // The pieces of a frame follow one another, whoever else writes.
        channel.eventLoop.execute {
            self.writeOnLoop(head, body)
            self.writtenBytes.add(byteCount, ordering: .relaxed)
        }
    }

    private func writeOnLoop(_ head: [UInt8], _ body: [UInt8]) {
        if head.count + body.count <= Self.pieceBytes {
            var buffer = channel.allocator.buffer(capacity: head.count + body.count)
            buffer.writeBytes(head)
            buffer.writeBytes(body)
            channel.write(buffer, promise: nil)
        } else {
            writeInPieces(head)
            writeInPieces(body)
        }
    }

    private func writeInPieces(_ bytes: [UInt8]) {
        for start in stride(from: 0, to: bytes.count, by: Self.pieceBytes) {
            let piece = bytes[start..<min(start + Self.pieceBytes, bytes.count)]
            var buffer = channel.allocator.buffer(capacity: piece.count)
            buffer.writeBytes(piece)
            channel.write(buffer, promise: nil)
        }
    }

    func flush() {
        if channel.eventLoop.inEventLoop { flushOnLoop() } else { channel.eventLoop.execute(flushOnLoop) }
    }

    @Sendable private func flushOnLoop() {
        channel.flush()
        let (before, left) = handedBytes.subtract(writtenBytes.exchange(0, ordering: .relaxed), ordering: .relaxed)
        if before >= Self.highMark, left < Self.highMark { channel.pipeline.fireChannelWritabilityChanged() }
    }

    func close() { channel.close(promise: nil) }
    func setReading(paused: Bool) { channel.setOption(.autoRead, value: !paused).whenFailure { _ in } }
    func onLoop(_ body: @escaping @Sendable () -> Void) { channel.eventLoop.execute(body) }
}

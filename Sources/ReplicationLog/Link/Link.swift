package import Formats
internal import NIOCore
internal import NIOSSL
internal import NIOTLS
internal import Synchronization

/// What uses a link. All calls come on the link's event loop, in order, and must not block for long.
package protocol LinkUser: AnyObject, Sendable {
    func linkOpened(_ link: Link)
    func link(_ link: Link, received message: Message)
    /// There is room again after `isWritable` was false.
    func linkBecameWritable(_ link: Link)
    /// Time to say `heartbeat`.
    func linkHeartbeat(_ link: Link)
    /// The last call. `reason` is for the operator.
    func linkClosed(_ link: Link, reason: String)
}

/// One connection between two ends: messages in both directions over TLS, in order, back-pressured.
///
/// Life: made by `LinkListener` or `LinkDialer` once the TLS handshake is done; ended by `close`, by either end, by
/// silence of `silenceMax`, or by bytes that are no message. A link that ended is not used again.
package final class Link: Sendable {
    /// The certificate at the other end.
    package let peer: Fingerprint
    private let transport: any LinkTransport
    private let reason = Mutex("closed by the other end")

    package init(over transport: any LinkTransport, peer: Fingerprint) {
        self.transport = transport
        self.peer = peer
    }

    package var isWritable: Bool { transport.isWritable }
    package var isClosed: Bool { !transport.isOpen }

    /// Any thread; kept in order. What is sent to a closed link is dropped.
    package func send(_ message: Message) {
        transport.write(message.encoded(), [])
        transport.flush()
    }

    /// Any thread; kept in order.
    package func send(_ batches: [SealedBatch]) {
        for batch in batches { transport.write(Message.headOfBatch(byteCount: batch.bytes.count), batch.bytes) }
        transport.flush()
    }

    /// Says why, to the other end and to this end's user, and ends the link.
    package func refuse(_ refusal: Refusal, _ text: String) {
        send(.refuse(refusal, text: text))
        close(because: text)
    }

    /// The first reason given is the one that is told.
    package func close(because text: String) {
        guard !isClosed else { return }
        reason.withLock { $0 = text }
        transport.close()
    }

    /// Stops taking bytes from the other end while `paused`; any thread.
    package func setReading(paused: Bool) { transport.setReading(paused: paused) }

    /// Runs `body` on the link's event loop.
    package func onLoop(_ body: @escaping @Sendable () -> Void) { transport.onLoop(body) }

    package func noteFailure(_ text: String) { reason.withLock { $0 = text } }
    package var closingReason: String { reason.withLock { $0 } }
}

/// The end of the pipeline: TLS's events and bytes in, the user's calls out.
final class LinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let user: any LinkUser
    private let peer: VerifiedPeer
    /// There once TLS has verified the other end.
    private var link: Link?
    private var decoder = FrameDecoder()
    private var failure: String?
    private var heartbeat: RepeatedTask?
    private var deadline: Scheduled<Void>?
    private let waiting: Waiting?
    /// Told when the link opens, or why it does not.
    private let opening: EventLoopPromise<Void>?

    /// `waiting` is for the listening side, where anybody may come.
    init(
        user: any LinkUser, verified peer: VerifiedPeer, waiting: Waiting? = nil,
        opening: EventLoopPromise<Void>? = nil
    ) {
        self.waiting = waiting
        self.user = user
        self.peer = peer
        self.opening = opening
    }

    /// Before there is a connection, or as it is accepted.
    func handlerAdded(context: ChannelHandlerContext) {
        waiting?.entered(context.channel)
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: LinkTiming.handshake) {
            channel.pipeline.fireUserInboundEventTriggered(HandshakeOverdue())
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { forgetWaiting(context) }

    private func forgetWaiting(_ context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = nil
        waiting?.left(context.channel)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted = event as? TLSUserEvent {
            opened(context)
        } else if event is HandshakeOverdue {
            guard link == nil else { return }
            failure = "no TLS within \(LinkTiming.handshake.nanoseconds / 1_000_000_000) s"
            context.close(promise: nil)
        } else if event is IdleStateHandler.IdleStateEvent {
            // What we do not read we do not hear.
            guard (try? context.channel.syncOptions?.getOption(.autoRead)) != false else { return }
            failure = "nothing heard from the other end for \(LinkTiming.silenceMax.nanoseconds / 1_000_000_000) s"
            context.close(promise: nil)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func opened(_ context: ChannelHandlerContext) {
        guard link == nil, let fingerprint = peer.fingerprint else { return }
        let link = Link(over: ChannelTransport(context.channel), peer: fingerprint)
        self.link = link
        forgetWaiting(context)
        let user = user
        heartbeat = context.eventLoop.scheduleRepeatedTask(
            initialDelay: LinkTiming.heartbeat, delay: LinkTiming.heartbeat
        ) { _ in
            // Who does not read is not told more: what waits for it would grow.
            if link.isWritable { user.linkHeartbeat(link) }
        }
        opening?.succeed()
        user.linkOpened(link)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let link else { return }
        unwrapInboundIn(data).withUnsafeReadableBytes { decoder.push($0) }
        do throws(MalformedBytes) {
            while let message = try decoder.next() { user.link(link, received: message) }
        } catch {
            link.noteFailure("bytes that are no message: \(error)")
            context.close(promise: nil)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if let link, link.isWritable { user.linkBecameWritable(link) }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The peer that closes without TLS's goodbye is a peer that died; the positions tell what it has.
        switch error {
        case NIOSSLError.uncleanShutdown: break
        case is NIOSSLError, is BoringSSLError: failure = failure ?? TLS.words(for: error, refused: peer.refused)
        default: failure = failure ?? LinkEndpoint.words(for: error)
        }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        heartbeat?.cancel()
        forgetWaiting(context)
        if let link {
            if let failure { link.noteFailure(failure) }
            user.linkClosed(link, reason: link.closingReason)
            self.link = nil
        } else {
            opening?.fail(LinkFailure(why: failure ?? "the other end closed the connection before TLS was done"))
        }
        context.fireChannelInactive()
    }
}

/// A connection's time to show who it is, is over.
private struct HandshakeOverdue: Sendable {}

enum LinkTiming {
    /// From connecting until TLS is done.
    static let handshake = TimeAmount.seconds(10)
    /// An end is silent no longer than this: it says `heartbeat`.
    static let heartbeat = TimeAmount.seconds(5)
    /// An end that was not heard for so long is gone.
    static let silenceMax = TimeAmount.seconds(20)
    static let connect = TimeAmount.seconds(10)
}

/// Why a link did not come to be; for the operator.
package struct LinkFailure: Error, CustomStringConvertible {
    package let why: String

    package init(why: String) { self.why = why }

    package var description: String { why }
}

/// Where TLS's verification leaves the fingerprint that it accepted, or refused.
final class VerifiedPeer: Sendable {
    private let seen = Mutex<(fingerprint: Fingerprint, isTrusted: Bool)?>(nil)

    var fingerprint: Fingerprint? { seen.withLock { $0?.isTrusted == true ? $0?.fingerprint : nil } }
    var refused: Fingerprint? { seen.withLock { $0?.isTrusted == false ? $0?.fingerprint : nil } }

    func note(_ fingerprint: Fingerprint, isTrusted: Bool) { seen.withLock { $0 = (fingerprint, isTrusted) } }
}

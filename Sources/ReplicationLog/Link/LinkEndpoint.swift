internal import Linux
package import Logging
internal import NIOCore
internal import NIOPosix
internal import NIOSSL

/// An address as the configuration has it: `host:port`, `[::1]:port`.
package struct Address: Hashable, Sendable, CustomStringConvertible {
    package let host: String
    package let port: Int

    /// Nothing if `text` is not a host and a port.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard digits.allSatisfy(\.isNumber), let port = UInt16(digits) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = Int(port)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Makes links: listens for the other ends, or dials one. One event loop serves all links of a process.
///
/// Who may connect is decided by fingerprint before a byte of ours is read.
package final class LinkEndpoint: LinkDialer {
    private let group: MultiThreadedEventLoopGroup
    private let tls: TLS
    private let trusted: Set<Fingerprint>
    private let log: Logger
    private let refused: @Sendable (String) -> Void

    /// Connections that the kernel keeps until they are accepted.
    private static let backlog: Int32 = 128

    /// `refused` is told, in words, who connected and was not let in.
    package init(
        identity: Identity, trusting trusted: Set<Fingerprint>, log: Logger,
        refused: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        tls = try TLS(identity: identity)
        self.trusted = trusted
        self.log = log
        self.refused = refused
    }

    /// Listens on `address` until `stop`; each link that opens gets its user from `user`.
    package func listen(on address: Address, user: @escaping @Sendable () -> any LinkUser) async throws {
        let waiting = Waiting(log: log)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: Self.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: ChannelTransport.waterMarks)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let peer = VerifiedPeer()
                    let host = channel.remoteAddress?.ipAddress ?? "somebody"
                    let handler = self.tls.serverHandler(
                        self.verification(peer, of: host) { why in
                            self.log.warning("refused \(why)")
                            self.refused(why)
                        })
                    try channel.pipeline.syncOperations.addHandlers(
                        handler, IdleStateHandler(readTimeout: LinkTiming.silenceMax),
                        LinkHandler(user: user(), verified: peer, waiting: waiting))
                }
            }
        do {
            let channel = try await bootstrap.bind(host: address.host, port: address.port).get()
            log.info("listening on \(channel.localAddress.map { "\($0)" } ?? address.description)")
        } catch {
            throw LinkFailure(why: "listen: \(address): \(Self.words(for: error)); \(Self.listenHint)")
        }
    }

    /// Dials `address`; returns when the link is open, throws `LinkFailure` if it does not open.
    package func dial(_ address: Address, user: any LinkUser) async throws {
        let opening = group.next().makePromise(of: Void.self)
        let bootstrap = ClientBootstrap(group: group)
            .connectTimeout(LinkTiming.connect)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.writeBufferWaterMark, value: ChannelTransport.waterMarks)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let peer = VerifiedPeer()
                    let handler = try self.tls.clientHandler(
                        self.verification(peer, of: address.description) { why in self.log.warning("\(why)") })
                    try channel.pipeline.syncOperations.addHandlers(
                        handler, IdleStateHandler(readTimeout: LinkTiming.silenceMax),
                        LinkHandler(user: user, verified: peer, opening: opening))
                }
            }
        do {
            _ = try await bootstrap.connect(host: address.host, port: address.port).get()
        } catch {
            opening.fail(LinkFailure(why: "connect: \(Self.words(for: error))"))
        }
        do { try await opening.futureResult.get() } catch let failure as LinkFailure {
            throw LinkFailure(why: "\(address): \(failure.why)")
        }
    }

    private static let listenHint =
        "\"ss -ltnp\" shows who listens where, \"ip address\" which addresses are this host's"

    /// What the kernel or the resolver said, without NIO's types around it.
    static func words(for error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            if let failure = error.connectionErrors.first { return words(for: failure.error) }
            return "\(error.host) is no known host"
        case let error as IOError:
            return "\(Errno(rawValue: error.errnoCode))"
        case ChannelError.connectTimeout:
            return "no answer within \(LinkTiming.connect.nanoseconds / 1_000_000_000) s"
        default:
            return "\(error)"
        }
    }

    /// Closes everything.
    package func stop() async throws { try await group.shutdownGracefully() }

    /// The same without waiting, for who is on the way out already; after `stop`, nothing.
    package func stopSoon() { group.shutdownGracefully { _ in } }

    /// `otherwise` is told why the other end, at `host`, is not trusted.
    private func verification(
        _ peer: VerifiedPeer, of host: String, otherwise: @escaping @Sendable (String) -> Void
    ) -> @Sendable (Fingerprint) -> Bool {
        { [trusted] fingerprint in
            let isTrusted = trusted.contains(fingerprint)
            peer.note(fingerprint, isTrusted: isTrusted)
            if !isTrusted {
                otherwise("\(host): its certificate is \(fingerprint), which is no peer_fingerprint here")
            }
            return isTrusted
        }
    }
}

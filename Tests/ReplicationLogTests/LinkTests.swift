import Formats
import Foundation
import Linux
import Logging
import Synchronization
import Testing

@testable import ReplicationLog

/// Two ends on the loopback, with certificates of their own.
@Suite struct LinkTests {
    private let primary: Identity
    private let replica: Identity

    init() throws {
        primary = try Identity.make(commonName: "primary", now: Date())
        replica = try Identity.make(commonName: "replica", now: Date())
    }

    /// A listener that trusts `trusted`, with the user all its links get, and where it listens.
    private func listening(
        trusting trusted: Set<Fingerprint>, _ user: Recorder, refused: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> (endpoint: LinkEndpoint, address: Address) {
        let lines = LogLines()
        let endpoint = try LinkEndpoint(identity: primary, trusting: trusted, log: lines.logger, refused: refused)
        try await endpoint.listen(on: Address("127.0.0.1:0")!, user: { user })
        // The port that the kernel chose is in the one line that the listener logs.
        let line = try #require(lines.all.first { $0.hasPrefix("listening on") })
        let port = try #require(line.split(separator: ":").last.flatMap { UInt16($0) })
        return (endpoint, Address("127.0.0.1:\(port)")!)
    }

    private func dialling(trusting trusted: Set<Fingerprint>) throws -> LinkEndpoint {
        try LinkEndpoint(identity: replica, trusting: trusted, log: LogLines().logger)
    }

    @Test func `pinned ends meet, and a batch arrives unchanged, in order with what else is said`() async throws {
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let dialler = try dialling(trusting: [primary.fingerprint])
        try await dialler.dial(address, user: client)
        let link = try #require(try await client.waitForLink())
        #expect(link.peer == primary.fingerprint)
        #expect(try await server.waitForLink()?.peer == replica.fingerprint)

        var chain = BatchChain(after: position(1, 0))
        // Longer than a piece for TLS, longer than the water mark, and short.
        let batches = [
            chain.next(utf8("short")), chain.next([UInt8](repeating: 7, count: 300_000)),
            chain.next([UInt8](repeating: 9, count: 5_000_000)), chain.next([]),
        ]
        link.send(.heartbeat(timeNanoseconds: 1, journaled: .zero))
        link.send(batches)
        link.send(.refuse(.failed, text: "the end"))
        let expected =
            [.heartbeat(timeNanoseconds: 1, journaled: .zero)] + batches.map { Message.batch($0.bytes) }
            + [.refuse(.failed, text: "the end")]
        #expect(try await server.wait(forMessages: expected.count) == expected)

        try await server.waitForLink()?.send(.resend([StorePath(root: .sieve)]))
        #expect(try await client.wait(forMessages: 1) == [.resend([StorePath(root: .sieve)])])
        link.close(because: "enough")
        #expect(try await client.waitForClosing() == "enough")
        #expect(try await server.waitForClosing() != nil)
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `what a busy loop has not come to counts as waiting, and the sender hears when there is room`()
        async throws
    {
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let dialler = try dialling(trusting: [primary.fingerprint])
        try await dialler.dial(address, user: client)
        let link = try #require(try await client.waitForLink())
        let isLoopFree = Condition(false)
        link.onLoop { _ = isLoopFree.wait(timeout: .seconds(10)) { $0 } }
        var (chain, wasWritable) = (BatchChain(after: position(1, 0)), [Bool]())
        for _ in 0..<3 {
            wasWritable.append(link.isWritable)
            link.send([chain.next([UInt8](repeating: 7, count: 600_000))])
        }
        #expect(wasWritable == [true, true, false])
        isLoopFree.update { $0 = true }
        #expect(try await server.wait(forMessages: 3).count == 3)
        #expect(try await client.waitForRoom() == true)
        link.close(because: "enough")
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `a replica that is not pinned gets no link, and the primary never hears of it`() async throws {
        let (server, client) = (Recorder(), Recorder())
        let refused = Mutex<[String]>([])
        let (listener, address) = try await listening(trusting: [primary.fingerprint], server) { why in
            refused.withLock { $0.append(why) }
        }
        let dialler = try dialling(trusting: [primary.fingerprint])
        // In TLS 1.3 the client is done before the server has looked at its certificate: the link may open, and closes.
        do { try await dialler.dial(address, user: client) } catch { client.note(closed: "\(error)") }
        #expect(try await client.waitForClosing() != nil)
        #expect(server.hasLink == false)
        let who = "127.0.0.1: its certificate is \(replica.fingerprint), which is no peer_fingerprint here"
        #expect(refused.withLock { $0 } == [who])
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `a primary that is not pinned is not talked to, and counts as nobody who was refused`() async throws {
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let refused = Mutex<[String]>([])
        let lines = LogLines()
        let dialler = try LinkEndpoint(identity: replica, trusting: [replica.fingerprint], log: lines.logger) { why in
            refused.withLock { $0.append(why) }
        }
        await #expect(throws: (any Error).self) { try await dialler.dial(address, user: client) }
        #expect(client.hasLink == false)
        #expect(refused.withLock { $0 } == [])
        #expect(lines.all.contains { $0.hasPrefix("\(address): its certificate is \(primary.fingerprint)") })
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `bytes that are no message close the link, and say so`() async throws {
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let dialler = try dialling(trusting: [primary.fingerprint])
        try await dialler.dial(address, user: client)
        let link = try #require(try await client.waitForLink())
        // An ack that says more is applied than flushed: encoded without complaint, refused by who reads it.
        link.send(.ack(Ack(received: .zero, flushed: .zero, applied: position(1, 1))))
        link.send(.heartbeat(timeNanoseconds: 1, journaled: .zero))
        let reason = try await server.waitForClosing()
        #expect(reason?.contains("bytes that are no message") == true, "\(reason ?? "not closed")")
        #expect(try await client.waitForClosing() != nil)
        #expect(server.messages.isEmpty)
        #expect(link.isClosed)
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `what speaks no TLS gets no link`() async throws {
        let server = Recorder()
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let answer = try PlainConnection.say(utf8("EHLO mail.example\r\n"), toPort: address.port)
        #expect(answer.count < 100)  // an alert at most, and then the end
        #expect(server.hasLink == false)
        try await listener.stop()
    }

    /// The pin is the whole trust: a certificate that runs out at night must not stop a replica.
    @Test func `a pinned certificate that expired long ago is still who it is`() async throws {
        let old = try Identity.make(commonName: "replica", now: Date(timeIntervalSince1970: 0))
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [old.fingerprint], server)
        let dialler = try LinkEndpoint(identity: old, trusting: [primary.fingerprint], log: LogLines().logger)
        try await dialler.dial(address, user: client)
        #expect(try await server.waitForLink()?.peer == old.fingerprint)
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `connections that say nothing are so many at most, and keep no replica out`() async throws {
        let (server, client) = (Recorder(), Recorder())
        let (listener, address) = try await listening(trusting: [replica.fingerprint], server)
        let silent = try PlainConnection.open(200, toPort: address.port)
        defer { PlainConnection.close(silent) }
        let dialler = try dialling(trusting: [primary.fingerprint])
        try await dialler.dial(address, user: client)
        #expect(try await server.waitForLink()?.peer == replica.fingerprint)
        // The first came first, so they went first.
        #expect(try PlainConnection.isClosed(silent[0]))
        #expect(PlainConnection.stillOpen(silent) <= Waiting.countMax)
        try await dialler.stop()
        try await listener.stop()
    }

    @Test func `nobody there is an error that names the address`() async throws {
        let (listener, address) = try await listening(trusting: [], Recorder())
        try await listener.stop()
        let dialler = try dialling(trusting: [primary.fingerprint])
        let error = await #expect(throws: LinkFailure.self) { try await dialler.dial(address, user: Recorder()) }
        #expect(error?.description.contains(address.description) == true)
        try await dialler.stop()
    }
}

/// Notes all that a link tells its user; waiters have ten seconds.
private final class Recorder: LinkUser {
    private struct State {
        var link: Link?
        var messages: [Message] = []
        var hasHeardOfRoom = false
        var closed: String?
    }

    private let state = Condition(State())
    private static let patience = Duration.seconds(10)
    private static let stillHere = Message.heartbeat(timeNanoseconds: 0, journaled: .zero)

    var hasLink: Bool { state.withLock { $0.link != nil } }
    var messages: [Message] { state.withLock { $0.messages } }

    func waitForLink() async throws -> Link? { try await wait { $0.link } }
    func waitForClosing() async throws -> String? { try await wait { $0.closed } }

    func waitForRoom() async throws -> Bool? { try await wait { $0.hasHeardOfRoom ? true : nil } }

    func wait(forMessages count: Int) async throws -> [Message] {
        _ = try await wait { $0.messages.count >= count || $0.closed != nil ? true : nil }
        return messages
    }

    private func wait<Value: Sendable>(for value: @escaping @Sendable (State) -> Value?) async throws -> Value? {
        let state = state
        return try await Thread.run(name: "waiting") { state.take(timeout: Self.patience) { value($0) } }
    }

    func note(closed reason: String) { state.update { $0.closed = reason } }

    func linkOpened(_ link: Link) { state.update { $0.link = link } }
    func link(_ link: Link, received message: Message) {
        if message != Self.stillHere { state.update { $0.messages.append(message) } }
    }
    func linkBecameWritable(_ link: Link) {
        if link.isWritable { state.update { $0.hasHeardOfRoom = true } }
    }
    /// A test that waits for its turn on a busy machine must not lose its links to silence.
    func linkHeartbeat(_ link: Link) { link.send(Self.stillHere) }
    func linkClosed(_ link: Link, reason: String) { note(closed: reason) }
}

private final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    var logger: Logger { Logger(label: "test") { _ in Handler(lines: self) } }

    struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            lines.lines.withLock { $0.append(event.message.description) }
        }
    }
}

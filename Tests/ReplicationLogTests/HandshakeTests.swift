import Digests
import Formats
import ReplicationLog
import Testing

@Suite struct HandshakeTests {
    private static func hash(_ text: String) -> ChainHash { ChainHash(of: utf8(text)) }

    /// A primary of epoch 3 whose log begins after 2/100 and ends at 3/200; epoch 3 began with 3/151.
    private let ours = Handshake.Ours(
        store: "mail", epoch: Epoch(3), newest: position(3, 200), newestHash: hash("3/200"), oldest: position(2, 100),
        naming: NamingRules(["fulldirhash": "no", "hashimapspool": "yes", "partition-a": "partition-a"]))

    private static func hashAt(_ position: Position) -> ChainHash? {
        switch (position.epoch.number, position.sequence.number) {
        case (2, 100...150), (3, 151...200): hash(position.description)
        default: nil
        }
    }

    private func hello(
        _ flushed: Position, consistentAfter: Position = .zero, hash: ChainHash? = nil,
        purpose: Hello.Purpose = .stream, epochSeen: UInt32 = 3,
        naming: NamingRules = NamingRules([
            "fulldirhash": "no", "hashimapspool": "yes", "partition-a": "partition-a", "partition-b": "partition-b",
        ])
    ) -> Hello {
        Hello(
            store: "mail", purpose: purpose, flushed: flushed, hash: hash ?? Self.hash(flushed.description),
            applied: flushed, consistentAfter: consistentAfter, epochSeen: Epoch(epochSeen), naming: naming)
    }

    private enum Short: Equatable {
        case stream, seed(overCopy: Bool), jump, deposed(by: UInt32), refuse(Refusal)
    }

    private func answer(_ hello: Hello, _ ours: Handshake.Ours? = nil) -> Short {
        switch Handshake.answer(to: hello, ours: ours ?? self.ours, hashAt: Self.hashAt) {
        case .stream: .stream
        case .seed(let over): .seed(overCopy: over)
        case .jump: .jump
        case .deposed(let epoch): .deposed(by: epoch.number)
        case .refuse(let refusal, _): .refuse(refusal)
        }
    }

    @Test(arguments: [position(3, 200), position(3, 199), position(3, 151), position(2, 150), position(2, 100)])
    func `a replica anywhere in the kept log is streamed to`(_ flushed: Position) {
        #expect(answer(hello(flushed)) == .stream)
    }

    /// Its files are as of positions that only the primary before had: it became exact, and promotable, with those in it.
    @Test func `a replica whose seed ended behind the fork has diverged, whatever of the log it has`() {
        #expect(answer(hello(position(2, 140), consistentAfter: position(2, 160))) == .refuse(.diverged))
        #expect(answer(hello(position(2, 140), consistentAfter: position(2, 151))) == .refuse(.diverged))
        #expect(answer(hello(position(2, 140), consistentAfter: position(3, 201))) == .refuse(.diverged))
        for position in [position(2, 150), position(3, 160), position(2, 140), position(2, 120)] {
            #expect(answer(hello(HandshakeTests.position140, consistentAfter: position)) == .stream)
        }
        var knowing = ours
        knowing.knownSince = position(2, 80)
        #expect(answer(hello(position(2, 85), consistentAfter: position(2, 95)), knowing) == .jump)
        #expect(answer(hello(position(2, 85), consistentAfter: position(1, 95)), knowing) == .refuse(.diverged))
        #expect(answer(hello(position(2, 85), consistentAfter: position(2, 160)), knowing) == .refuse(.diverged))
    }

    private static let position140 = position(2, 140)

    @Test(arguments: [Hello.Purpose.stream, .seedEmpty, .seedOver])
    func `a replica whose Cyrus would look elsewhere gets nothing`(_ purpose: Hello.Purpose) {
        let other = hello(position(3, 200), purpose: purpose, naming: NamingRules(["hashimapspool": "no"]))
        #expect(answer(other) == .refuse(.otherNaming))
        guard case .refuse(_, let text) = Handshake.answer(to: other, ours: ours, hashAt: Self.hashAt) else { return }
        #expect(text.hasPrefix("hashimapspool: yes on the primary, no on the replica"))
    }

    @Test func `a replica that lacks a partition gets nothing`() {
        #expect(answer(hello(position(3, 200), naming: NamingRules())) == .refuse(.otherNaming))
    }

    @Test func `a newer primary fences one whose files are named otherwise`() {
        let other = hello(.zero, purpose: .fence, epochSeen: 4, naming: NamingRules(["hashimapspool": "no"]))
        #expect(answer(other) == .deposed(by: 4))
    }

    @Test(arguments: [position(2, 99), position(1, 5), .zero])
    func `a replica before the kept log needs a seed`(_ flushed: Position) {
        #expect(answer(hello(flushed)) == .refuse(.trimmed))
    }

    @Test func `a replica before the kept log jumps, if all that it missed is known`() {
        var knowing = ours
        knowing.knownSince = position(2, 80)
        #expect(answer(hello(position(2, 80)), knowing) == .jump)
        #expect(answer(hello(position(2, 99)), knowing) == .jump)
        #expect(answer(hello(position(2, 79)), knowing) == .refuse(.trimmed))
        #expect(answer(hello(position(1, 90)), knowing) == .refuse(.trimmed))
        // What is kept is streamed, and what forked has forked, whatever is known.
        #expect(answer(hello(position(2, 100)), knowing) == .stream)
        #expect(answer(hello(position(3, 201)), knowing) == .refuse(.diverged))
        #expect(answer(hello(position(3, 180), hash: Self.hash("other")), knowing) == .refuse(.diverged))
    }

    @Test func `a newer primary that says so deposes this one, an older one is refused`() {
        #expect(answer(hello(.zero, purpose: .fence, epochSeen: 4)) == .deposed(by: 4))
        #expect(answer(hello(.zero, purpose: .fence, epochSeen: 3)) == .refuse(.rival))
        #expect(answer(hello(.zero, purpose: .fence, epochSeen: 2)) == .refuse(.rival))
        var other = hello(.zero, purpose: .fence, epochSeen: 4)
        other.store = "shop"
        #expect(answer(other) == .refuse(.wrongStore))
    }

    @Test func `a replica ahead of the log, or beside it, has diverged`() {
        #expect(answer(hello(position(3, 201))) == .refuse(.diverged))
        #expect(answer(hello(position(2, 160))) == .refuse(.diverged))  // went on in epoch 2 after the promotion
        #expect(answer(hello(position(3, 150))) == .refuse(.diverged))
        #expect(answer(hello(position(3, 180), hash: Self.hash("other"))) == .refuse(.diverged))
        #expect(answer(hello(position(3, 200), hash: Self.hash("other"))) == .refuse(.diverged))
        #expect(answer(hello(position(2, 100), hash: Self.hash("other"))) == .refuse(.diverged))
    }

    @Test func `a seed asks for no position`() {
        #expect(answer(hello(.zero, hash: .zero, purpose: .seedEmpty)) == .seed(overCopy: false))
        #expect(answer(hello(.zero, hash: .zero, purpose: .seedOver)) == .seed(overCopy: true))
    }

    @Test func `who has seen a higher epoch fences this primary, for a seed too`() {
        for purpose in [Hello.Purpose.stream, .seedEmpty, .seedOver] {
            #expect(answer(hello(position(3, 200), purpose: purpose, epochSeen: 4)) == .refuse(.fenced))
            #expect(answer(hello(position(3, 200), purpose: purpose, epochSeen: 2)) != .refuse(.fenced))
        }
    }

    @Test func `a replica here refuses to be a primary`() {
        var replica = ours
        replica.epoch = nil
        #expect(answer(hello(position(3, 200)), replica) == .refuse(.notPrimary))
        #expect(answer(hello(.zero, purpose: .seedEmpty), replica) == .refuse(.notPrimary))
    }

    @Test func `versions are compared first, then stores, and nothing is told of a wrong one`() {
        var other = hello(position(9, 9), epochSeen: 9)
        other.store = "shop"
        other.version = Message.protocolVersion + 1
        #expect(answer(other) == .refuse(.wrongVersion))
        other.version = Message.protocolVersion
        #expect(answer(other) == .refuse(.wrongStore))
        other.store = "mail"
        #expect(answer(other) == .refuse(.fenced))
    }

    @Test func `the text tells the operator both sides`() {
        guard case .refuse(_, let text) = Handshake.answer(to: hello(position(1, 5)), ours: ours, hashAt: Self.hashAt)
        else {
            Issue.record("not refused")
            return
        }
        #expect(text.contains("1/5") && text.contains("2/100"))
    }
}

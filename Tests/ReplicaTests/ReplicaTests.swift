import Formats
import Linux
import Logging
import ReplicationLog
import Store
import Testing

@testable import Replica

@Suite struct ReplicaTests {
    private let store: TemporaryStore
    private var state: String { store.path + "/state" }

    init() throws { store = try TemporaryStore() }

    private func makeReplica(_ dialer: any LinkDialer) throws -> Replica {
        var record = ReplicaRecord()
        record.phase = .seeded
        try record.save(in: state)
        let options = Replica.Options(
            store: "mail", state: state, peers: [Address("nowhere:1")!], mayOverwrite: false,
            quarantineKeep: .seconds(60), removalLimit: nil)
        try store.writer().known.save(in: state)
        return try Replica(
            options, layout: store.layout, dialer: dialer, log: Logger(label: "") { _ in SwiftLogNoOpLogHandler() })
    }

    /// The primary that called it diverged was lost before it had sent anything, and no copy was left.
    @Test(arguments: [Refusal.diverged, .trimmed])
    func `a copy that is to be seeded can be promoted until somebody has begun to`(_ refusal: Refusal) async throws {
        let primary = LostPrimary(refusal)
        let replica = try makeReplica(primary)
        async let run: Void = replica.run()
        let wasAsked = try await Thread.run(name: "test") {
            primary.seedsWanted.wait(timeout: .seconds(60)) { $0 > 1 }
        }
        #expect(wasAsked)
        #expect(replica.status.phase == .diverged)
        #expect(throws: Never.self) { try replica.checkPromotable() }
        #expect(!replica.wait(for: position(0, 0).next, isApplied: true, timeout: .zero))
        replica.stop()
        try await run
        #expect(try ReplicaEnd(in: state).applied == .zero)
    }
}

/// Refuses a replica that would follow the log, and is not there any more when it comes to be seeded.
private final class LostPrimary: LinkDialer {
    private let refusal: Refusal
    let seedsWanted = Condition(0)
    private let hasRefused = Condition(false)

    init(_ refusal: Refusal) { self.refusal = refusal }

    func dial(_ address: Address, user: any LinkUser) async throws {
        let isFirst = hasRefused.update { hasRefused in
            defer { hasRefused = true }
            return !hasRefused
        }
        guard isFirst else {
            seedsWanted.update { $0 += 1 }
            throw LinkFailure(why: "nobody listens")
        }
        let link = Link(over: ClosedTransport(), peer: Fingerprint(ofDER: [1]))
        user.linkOpened(link)
        user.link(link, received: .refuse(refusal, text: "seed it"))
        user.linkClosed(link, reason: "refused")
    }
}

private struct ClosedTransport: LinkTransport {
    var isWritable: Bool { true }
    var isOpen: Bool { false }
    func write(_ head: [UInt8], _ body: [UInt8]) {}
    func flush() {}
    func close() {}
    func setReading(paused: Bool) {}
    func onLoop(_ body: @escaping @Sendable () -> Void) { body() }
}

import Formats
import Linux
import Logging
import Testing

@testable import Replica

@Suite struct ApplierTests {
    /// It came to that with a checkpoint only, and a replica at rest makes none.
    @Test func `a replica at rest tidies up, too`() async throws {
        let store = try TemporaryStore()
        let state = store.path + "/state"
        let shared = SharedReplica(now: { Timestamp(nanoseconds: 7) })
        let tidied = Condition(0)
        let parts = Applier.Parts(
            journal: try JournalStart.openJournal(in: state, applied: .zero), writer: try store.writer(),
            tidyUp: { tidied.update { $0 += 1 } }, tidyInterval: .milliseconds(10), layout: store.layout,
            removalLimit: nil, state: state, shared: shared, log: Logger(label: "") { _ in SwiftLogNoOpLogHandler() })
        let applier = Boxed(try Applier(parts, record: ReplicaRecord(), seeded: SeededVersions()))
        async let run: Void = Thread.run(name: "apply") { try applier.value.run() }
        let isTidied = try await Thread.run(name: "test") { tidied.wait(timeout: .seconds(60)) { $0 > 2 } }
        #expect(isTidied)
        shared.stop()
        try await run
    }
}

/// Given to one thread, and touched by no other.
private final class Boxed: @unchecked Sendable {
    let value: Applier

    init(_ value: Applier) { self.value = value }
}

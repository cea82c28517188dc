import Digests
import Formats
import Seeded
import Store
import Testing

@testable import Replica

@Suite struct ApplyPlanTests {
    private let layout: StoreLayout

    init() throws { layout = try TemporaryStore().layout }

    private func whole(_ root: RootName, _ path: String) -> Record { .whole(StorePath(root, path), utf8(path)) }

    @Test func `what is referred to comes before what refers to it, removals last`() {
        let directory = Record(StorePath(mail, "user/alice"), .directory(.usual))
        let ordered = [
            directory, whole(mail, "user/alice/1."), whole(mail, "user/alice/cyrus.cache"),
            whole(mail, "user/alice/cyrus.header"), whole(mail, "user/alice/cyrus.index"),
            whole(.configuration, "user/a/alice.conversations"), whole(.configuration, "mailboxes.db"),
            Record(StorePath(mail, "user/bob/1."), .remove), Record(StorePath(mail, "user/bob"), .remove),
        ]
        for seed: UInt64 in 0..<50 {
            var generator = SeededGenerator(seed: seed)
            // Removals stay as they came: a file before its directory.
            let shuffled = ordered.dropLast(2).shuffled(using: &generator)
            let place = Int.random(in: 0...shuffled.count, using: &generator)
            let batch = shuffled[..<place] + ordered.suffix(2) + shuffled[place...]
            #expect(ApplyPlan.ordered(Array(batch), layout).map(\.path) == ordered.map(\.path), "seed \(seed)")
        }
    }

    @Test func `records of one rank stay as they came`() {
        let messages = ["9.", "1.", "5.", "2."].map { whole(mail, "user/alice/" + $0) }
        #expect(ApplyPlan.ordered(messages, layout) == messages)
        let parts = Record.parts(StorePath(mail, "user/alice/1."), content(12_000))
        #expect(ApplyPlan.ordered(parts, layout) == parts)
    }

    @Test func `no records is no plan`() {
        #expect(ApplyPlan.ordered([], layout).isEmpty)
    }
}

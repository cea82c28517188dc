import Formats
import ReplicationLog
import Scratch
import Testing

@Suite struct MissedPathsTests {
    private let directory = TemporaryDirectory()
    private let replica = "SHA256:0a1b"

    private func record(_ path: String) -> Record { Record(StorePath(.sieve, path), .remove) }

    private func missed() -> MissedPaths {
        var missed = MissedPaths(since: position(1, 10))
        missed.add([record("a"), record("b")], at: position(1, 11))
        missed.add([record("b"), record("c/d")], at: position(2, 12))
        return missed
    }

    @Test func `a path that changed often is missed once`() {
        let missed = missed()
        #expect(missed.paths == Set(["a", "b", "c/d"].map { StorePath(.sieve, $0) }))
        #expect(missed.since == position(1, 10))
        #expect(missed.through == position(2, 12))
    }

    @Test func `what was trimmed since it was noted is not in it`() {
        #expect(missed().reaches(position(2, 11)))
        #expect(missed().reaches(position(2, 12)))
        #expect(!missed().reaches(position(2, 13)))
    }

    @Test func `what is saved is read, for its replica only, until it is removed`() throws {
        #expect(try MissedPaths(in: directory.path, replica: replica) == nil)
        try missed().save(in: directory.path, replica: replica)
        let read = try #require(try MissedPaths(in: directory.path, replica: replica))
        #expect(read.paths == missed().paths)
        #expect(read.since == position(1, 10))
        #expect(read.through == position(2, 12))
        #expect(try MissedPaths(in: directory.path, replica: "SHA256:ffff") == nil)
        try MissedPaths.remove(in: directory.path, replica: replica)
        #expect(try MissedPaths(in: directory.path, replica: replica) == nil)
        #expect(throws: Never.self) { try MissedPaths.remove(in: directory.path, replica: replica) }
    }

    /// Better seeded than left without a path.
    @Test func `a file cut off anywhere is none`() throws {
        try missed().save(in: directory.path, replica: replica)
        let name = try #require(try directory.names().first)
        let bytes = try directory.bytes(name)
        for count in 0..<bytes.count {
            try directory.put(Array(bytes.prefix(count)), at: name)
            #expect(try MissedPaths(in: directory.path, replica: replica) == nil, "cut to \(count)")
        }
    }
}

import Digests
import Formats
import Linux
import Testing

@testable import Replica

struct AwaitedPathsTests {
    private let index = StorePath(mail, "uuid/a/cyrus.index")
    private let message = StorePath(mail, "uuid/a/1.")

    private func awaiting(_ paths: [StorePath]) -> AwaitedPaths {
        var awaited = AwaitedPaths(exact: position(1, 3))
        _ = awaited.applied(position(1, 4), needed: paths)
        return awaited
    }

    @Test func `the store is exact up to the batch before the first file that is awaited`() {
        var awaited = AwaitedPaths(exact: position(1, 3))
        #expect(awaited.applied(position(1, 4), needed: []) == [])
        #expect(awaited.exact == position(1, 4))
        #expect(awaited.applied(position(1, 5), needed: [index, message]) == [index, message])
        #expect(awaited.applied(position(1, 6), needed: [index]) == [], "it was asked for already")
        #expect(awaited.exact == position(1, 4))
        awaited.arrived(Record.whole(index, []))
        #expect(awaited.applied(position(1, 7), needed: []) == [])
        #expect(awaited.exact == position(1, 4))
        awaited.arrived(Record(message, .remove))
        #expect(awaited.applied(position(1, 8), needed: []) == [])
        #expect(awaited.exact == position(1, 8))
    }

    /// What a replay has applied was acked while nobody had looked at it yet.
    @Test func `a batch of a replay is not exact before the replay is over, and what it left wrong is known`() {
        var awaited = AwaitedPaths(exact: position(1, 3))
        #expect(awaited.applied(position(1, 4), needed: [], .inDoubt) == [])
        #expect(awaited.exact == position(1, 3))
        var wrong = awaited
        #expect(wrong.applied(position(1, 5), needed: [index]) == [index])
        #expect(wrong.exact == position(1, 3))
        #expect(awaited.applied(position(1, 5), needed: []) == [])
        #expect(awaited.exact == position(1, 5))
    }

    @Test func `a patch is not what was asked for, and a directory's removal takes all in it`() {
        var awaited = awaiting([index, message])
        awaited.arrived(Record(index, .metadata(.usual, result: Digest(of: []))))
        #expect(awaited.paths == [index, message])
        awaited.arrived(Record(StorePath(mail, "uuid/a"), .remove))
        #expect(awaited.paths.isEmpty)
    }

    @Test func `what is awaited outlasts the process, and leaves no file when it has come`() throws {
        let store = try TemporaryStore()
        let state = store.path + "/state"
        let awaited = awaiting([index, message])
        try awaited.save(in: state)
        #expect(try AwaitedPaths(in: state, applied: position(1, 9)) == awaited)
        try AwaitedPaths(exact: position(1, 9)).save(in: state)
        #expect(try AwaitedPaths(in: state, applied: position(1, 9)) == AwaitedPaths(exact: position(1, 9)))
        #expect(try Directory(state).status(of: utf8("awaited")) == nil)
    }
}

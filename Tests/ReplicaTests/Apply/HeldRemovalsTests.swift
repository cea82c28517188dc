import Linux
import Testing

@testable import Replica

@Suite struct HeldRemovalsTests {
    @Test func `what is held is known until it is let go`() throws {
        let store = try TemporaryStore()
        let state = store.path + "/state"
        _ = try Directory.make(state)
        #expect(try HeldRemovals.reason(in: state) == nil)
        try HeldRemovals.save("1001 of 4000 files", in: state)
        #expect(try HeldRemovals.reason(in: state) == "1001 of 4000 files")
        try HeldRemovals.remove(in: state)
        #expect(try HeldRemovals.reason(in: state) == nil)
        try HeldRemovals.remove(in: state)
    }
}

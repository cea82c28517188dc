import Linux
import Testing

@Suite struct ThreadTests {
    @Test func `join waits for the end`() throws {
        let state = Condition(0)
        let thread = try Thread.start(name: "worker") {
            for _ in 0..<1000 { state.update { $0 += 1 } }
        }
        thread.join()
        #expect(state.withLock { $0 } == 1000)
    }

    @Test func `a thread nobody holds runs on`() throws {
        let state = Condition(false)
        do { _ = try Thread.start(name: "free") { state.update { $0 = true } } }
        #expect(state.wait(timeout: .seconds(60)) { $0 })
    }

    @Test func `run gives the value from a thread of that name`() async throws {
        let name = try await Thread.run(name: "a name longer than fifteen bytes") {
            let text = try Descriptor.open("/proc/thread-self/comm", for: .reading).readAll(max: 64)
            return String(decoding: text, as: UTF8.self)
        }
        #expect(name == "a name longer t\n")
    }

    @Test func `run throws what its body throws`() async {
        let expected = SystemError(call: "x", path: "y", errno: .busy)
        await #expect(throws: expected) { try await Thread.run(name: "thrower") { throw expected } }
    }

    @Test func `more threads wait at once than Swift has in its pool`() async throws {
        let arrived = Condition(0)
        let count = 32
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<count {
                group.addTask {
                    try await Thread.run(name: "waiter") {
                        arrived.update { $0 += 1 }
                        return arrived.wait(timeout: .seconds(60)) { $0 == count }
                    }
                }
            }
            for try await allThere in group { #expect(allThere) }
        }
    }
}

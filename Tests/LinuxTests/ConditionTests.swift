import Linux
import Testing

@Suite struct ConditionTests {
    @Test func `an update wakes who waits for it`() throws {
        let state = Condition([String]())
        let thread = try Thread.start(name: "waiter") {
            let ping = state.take { $0.firstIndex(of: "ping").map { _ in "seen" } }
            state.update { $0.append(ping ?? "never") }
        }
        state.update { $0.append("ping") }
        #expect(state.wait(timeout: .seconds(60)) { $0 == ["ping", "seen"] })
        thread.join()
    }

    @Test func `a bounded queue passes all through, in order`() throws {
        let queue = Condition([Int]())
        let thread = try Thread.start(name: "producer") {
            for number in 0..<10_000 { _ = queue.take { $0.count < 3 ? $0.append(number) : nil } }
        }
        for number in 0..<10_000 {
            #expect(queue.take { $0.isEmpty ? nil : $0.removeFirst() } == number)
        }
        thread.join()
    }

    @Test func `after the timeout it says that it still isn't so`() {
        let state = Condition(0)
        let start = MonotonicTime.now()
        #expect(state.wait(timeout: .milliseconds(2)) { $0 == 1 } == false)
        #expect(state.take(timeout: .milliseconds(2)) { $0 == 1 ? $0 : nil } == nil)
        #expect(MonotonicTime.now() - start >= .milliseconds(4))
    }

    @Test func `what is so already needs no wait`() {
        #expect(Condition(1).wait(timeout: .zero) { $0 == 1 })
        #expect(Condition(1).wait(timeout: .seconds(Int64.max)) { $0 == 1 })
    }

    @Test func `an error leaves the lock free`() throws {
        let state = Condition(0)
        let error = SystemError(call: "x", path: "y", errno: .busy)
        #expect(throws: error) { try state.update { (_) throws(SystemError) in throw error } }
        #expect(throws: error) { try state.withLock { (_) throws(SystemError) in throw error } }
        #expect(state.withLock { $0 } == 0)
    }
}

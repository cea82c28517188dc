import Linux
import Scratch
import Testing

@Suite struct PollerTests {
    @Test func `a signal is seen until it is cleared`() throws {
        let event = try WakeEvent()
        let interests = [Poller.Interest(event.raw)]
        #expect(try Poller.wait(interests, timeout: .zero) == [[]])
        event.signal()
        event.signal()
        #expect(try Poller.wait(interests, timeout: nil) == [.readable])
        #expect(try Poller.wait(interests, timeout: .seconds(60)) == [.readable])
        event.clear()
        event.clear()
        #expect(try Poller.wait(interests, timeout: .zero) == [[]])
        // Their numbers are no use when they are gone, and an optimised build lets them go after their last use.
        withExtendedLifetime(event) {}
    }

    @Test func `it says which of several`() throws {
        let events = try (0..<3).map { _ in try WakeEvent() }
        events[1].signal()
        #expect(try Poller.wait(events.map { Poller.Interest($0.raw) }) == [[], .readable, []])
        #expect(try Poller.wait([Poller.Interest(events[1].raw, [.readable, .writable])]) == [[.readable, .writable]])
        withExtendedLifetime(events) {}
    }

    @Test func `another thread ends the wait`() async throws {
        let stop = try WakeEvent()
        let never = try WakeEvent()
        async let seen = Thread.run(name: "poller") {
            try Poller.wait([Poller.Interest(never.raw), Poller.Interest(stop.raw)])
        }
        stop.signal()
        #expect(try await seen == [[], .readable])
        withExtendedLifetime((stop, never)) {}
    }

    @Test func `after the timeout that much time has passed`() throws {
        let event = try WakeEvent()
        let start = MonotonicTime.now()
        #expect(try Poller.wait([Poller.Interest(event.raw)], timeout: .microseconds(1500)) == [[]])
        #expect(MonotonicTime.now() - start >= .microseconds(1500))
        withExtendedLifetime(event) {}
    }

    @Test func `a connection whose other side is gone has hung up`() throws {
        let directory = TemporaryDirectory()
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: nil)
        #expect(try Poller.wait([Poller.Interest(listener.raw)]) == [.readable])
        do { _ = try listener.accept(timeout: nil) }
        #expect(try Poller.wait([Poller.Interest(client.raw)]) == [[.readable, .hungUp]])
    }
}

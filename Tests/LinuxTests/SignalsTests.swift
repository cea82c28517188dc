import Glibc
import Linux
import Testing

@Suite struct SignalsTests {
    @Test func `a blocked signal is waited for, without a handler`() async {
        // Its own process, for the signal would end a test runner whose other threads do not block it.
        await #expect(processExitsWith: .exitCode(42)) {
            Signals.block([.user1, .terminate])
            let thread = try Thread.start(name: "signals") {
                // It has inherited what is blocked, or it would die of this.
                pthread_kill(pthread_self(), SIGUSR1)
                if Signals.wait(for: [.user1, .terminate]) == .user1 { exit(42) }
            }
            thread.join()
        }
    }
}

import Linux
import Scratch
import Testing

@testable import Store

@Suite struct LockQueueTests {
    private let directory = TemporaryDirectory()
    private let queue = LockQueue()

    @Test func `a lock is had once its writer lets go, and keeps the next one out`() throws {
        try directory.put([], at: "lock")
        do {
            let writer = try Descriptor.open(directory("lock"), for: .updating)
            try #require(try FileLock.tryExclusive(writer))
            #expect(queue.take(directory("lock"), timeout: .milliseconds(20)) == nil)
            // Asked again while the first thread still waits.
            #expect(queue.take(directory("lock"), timeout: .milliseconds(20)) == nil)
        }
        let next = try Descriptor.open(directory("lock"), for: .updating)
        do {
            let lock = try #require(queue.take(directory("lock"), timeout: .seconds(60)))
            #expect(try !FileLock.tryExclusive(next))
            withExtendedLifetime(lock) {}
        }
        #expect(try FileLock.tryExclusive(next))
    }

    @Test func `what is not there is not waited for`() {
        let start = MonotonicTime.now()
        #expect(queue.take(directory("lock"), timeout: .seconds(60)) == nil)
        #expect(MonotonicTime.now() - start < .seconds(50))
    }
}

internal import CKernel
internal import Glibc

/// A thread of its own (pthreads(7)), for what waits in the kernel: Swift's pool has as many as there are processors,
/// and must not be held up.
///
/// This value is the right to wait for its end; who lets it go leaves the thread running.
package struct Thread: ~Copyable, Sendable {
    package static let stackBytes = 2 << 20

    private let thread: pthread_t
    /// In a simulation.
    private let number: UInt64

    /// Starts a thread that runs `body` and ends (pthread_create). `name`, of which `ps -L` and `top -H` show the first
    /// 15 bytes, helps who looks. `Errno.wouldBlock` when there are too many threads.
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) -> Thread {
        var attributes = pthread_attr_t()
        try kernel(returningError: "pthread_attr_init", name) { pthread_attr_init(&attributes) }
        defer { pthread_attr_destroy(&attributes) }
        try kernel(returningError: "pthread_attr_setstacksize", name) {
            pthread_attr_setstacksize(&attributes, stackBytes)
        }
        let number = Simulation.kernel?.threadWillStart(name) ?? 0
        let job = Unmanaged.passRetained(Job(name: name, number: number, body: body))
        var thread = pthread_t()
        do {
            try kernel(returningError: "pthread_create", name) {
                pthread_create(&thread, &attributes, { Job.run($0) }, job.toOpaque())
            }
        } catch {
            job.release()
            throw error
        }
        return Thread(thread: thread, number: number)
    }

    /// Runs `body` on a thread of its own and waits for its end without holding a thread of Swift's pool.
    ///
    /// Cancelling the task does not end `body`: tell it by a `WakeEvent` or `Condition`. Throws what `body` throws, or
    /// the `SystemError` of `start`.
    package static func run<Value: Sendable>(
        name: String, _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            do throws(SystemError) {
                _ = try start(name: name) { continuation.resume(with: Result(catching: body)) }
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }

    /// Waits for its end (pthread_join).
    package consuming func join() {
        Simulation.kernel?.waitForEnd(of: number)
        let result = pthread_join(thread, nil)
        // Only a thread that joins itself gets here.
        precondition(result == 0, "pthread_join: \(Errno(rawValue: result))")
        discard self
    }

    deinit { pthread_detach(thread) }
}

/// What a new thread is given: retained by `start`, released by the thread.
private final class Job: Sendable {
    private let name: String
    private let number: UInt64
    private let body: @Sendable () -> Void

    init(name: String, number: UInt64, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.number = number
        self.body = body
    }

    static func run(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        let number = work(Unmanaged<Job>.fromOpaque(pointer!).takeRetainedValue())
        Simulation.kernel?.threadEnded(number)
        return nil
    }

    /// What the job holds is let go of when this returns.
    private static func work(_ job: consuming Job) -> UInt64 {
        let number = job.number
        ms_set_thread_name(String(decoding: Array(job.name.utf8.prefix(15)), as: UTF8.self))
        Simulation.kernel?.threadBegan(number)
        job.body()
        return number
    }
}

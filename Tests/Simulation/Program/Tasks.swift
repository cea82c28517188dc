import Glibc
import Linux

/// Swift's pool, replaced by one thread of the simulation: what is enqueued anywhere runs there, one after the other.
///
/// The runtime calls a hook for every job that is to run on the pool; it is set once for the process.
enum Tasks {
    private typealias Original = @convention(thin) (UnownedJob) -> Void
    private typealias Hook = @convention(thin) (UnownedJob, Original) -> Void

    /// Of the run that is under way.
    nonisolated(unsafe) private static var pool: TaskPool?

    static func takeOver() {
        guard let symbol = dlsym(dlopen(nil, RTLD_NOW), "swift_task_enqueueGlobal_hook") else {
            preconditionFailure("Swift's runtime has no hook for its pool")
        }
        symbol.assumingMemoryBound(to: Hook?.self).pointee = { job, _ in Tasks.enqueue(job) }
    }

    static func use(_ pool: TaskPool?) { self.pool = pool }

    private static func enqueue(_ job: UnownedJob) {
        guard let pool else { preconditionFailure("a task outside of a run") }
        pool.enqueue(job)
    }
}

/// The jobs of one run, and the thread that runs them.
///
/// `@unchecked Sendable` holds because only the thread with the world's baton touches it.
final class TaskPool: SerialExecutor, @unchecked Sendable {
    private let world: World
    private var jobs: [(job: UnownedJob, host: Host?)] = []
    private var isEnding = false

    init(_ world: World) throws(SystemError) {
        self.world = world
        _ = try Linux.Thread.start(name: "pool") { [self] in run() }
    }

    func enqueue(_ job: UnownedJob) {
        jobs.append((job, world.current.host))
        world.wake(ObjectIdentifier(self))
    }

    func enqueue(_ job: consuming ExecutorJob) { enqueue(UnownedJob(job)) }

    func end() {
        isEnding = true
        world.wake(ObjectIdentifier(self))
    }

    private func run() {
        let thread = world.current
        thread.isOutside = true
        while true {
            guard !jobs.isEmpty else {
                if isEnding { return }
                world.wait(on: ObjectIdentifier(self), until: nil)
                continue
            }
            let (job, host) = jobs.removeFirst()
            thread.host = host
            thread.isOutside = false
            job.runSynchronously(on: asUnownedSerialExecutor())
            thread.isOutside = true
            thread.host = nil
        }
    }
}

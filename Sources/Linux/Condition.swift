internal import Glibc

/// State that threads share and wait on: a mutex and a condition variable of pthreads(7) around one value.
///
/// For threads of their own (`Thread`) only: waiting in a task would hold up Swift's pool.
///
/// `@unchecked Sendable` holds because `state` is private and touched only in `locked`, between pthread_mutex_lock and
/// pthread_mutex_unlock of `mutex` (or in pthread_cond_wait's hands, which unlocks and relocks); the two pointers never
/// change and are freed when the last reference, and with it every possible caller, is gone.
package final class Condition<State: Sendable>: @unchecked Sendable {
    private var state: State
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init(_ state: State) {
        self.state = state
        mutex.initialize(to: pthread_mutex_t())
        changed.initialize(to: pthread_cond_t())
        must("pthread_mutex_init", pthread_mutex_init(mutex, nil))
        var attributes = pthread_condattr_t()
        must("pthread_condattr_init", pthread_condattr_init(&attributes))
        // So that setting the wall clock makes no timeout early or late.
        must("pthread_condattr_setclock", pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC))
        must("pthread_cond_init", pthread_cond_init(changed, &attributes))
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Looks at the state, or changes it in a way nobody waits for. `body` must not come back here.
    package func withLock<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        lock()
        defer { unlock() }
        return try body(&state)
    }

    /// Changes the state and wakes everybody who waits, to look again.
    package func update<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        lock()
        defer {
            wakeAll()
            unlock()
        }
        return try body(&state)
    }

    /// Waits until `isTrue` of the state; `false` if it still isn't after `timeout`.
    package func wait(timeout: Duration? = nil, until isTrue: (State) -> Bool) -> Bool {
        lock()
        defer { unlock() }
        return wait(timeout: timeout) { isTrue($0) ? () : nil } != nil
    }

    /// Waits until `attempt` returns something, and wakes the others, as it will have changed the state.
    ///
    /// An `attempt` that returns `nil` must not have changed anything. Nothing is returned if that still is so after
    /// `timeout`.
    package func take<Result>(timeout: Duration? = nil, _ attempt: (inout State) -> Result?) -> Result? {
        lock()
        defer { unlock() }
        let result = wait(timeout: timeout, attempt)
        if result != nil { wakeAll() }
        return result
    }

    /// With the lock held, before and after.
    private func wait<Result>(timeout: Duration?, _ attempt: (inout State) -> Result?) -> Result? {
        let deadline = timeout.map { MonotonicTime.now() + $0 }
        // Ends at the deadline; wakes for nothing are allowed for, by pthreads and by us.
        while true {
            if let result = attempt(&state) { return result }
            if let simulated = Simulation.kernel {
                if let deadline, MonotonicTime.now() >= deadline { return nil }
                unlock()
                simulated.wait(on: ObjectIdentifier(self), until: deadline)
                lock()
                continue
            }
            guard let deadline else {
                must("pthread_cond_wait", pthread_cond_wait(changed, mutex))
                continue
            }
            var time = timespec(nanoseconds: max(0, deadline.nanoseconds))
            let result = pthread_cond_timedwait(changed, mutex, &time)
            if result == ETIMEDOUT { return attempt(&state) }
            must("pthread_cond_timedwait", result)
        }
    }

    private func wakeAll() {
        must("pthread_cond_broadcast", pthread_cond_broadcast(changed))
        Simulation.kernel?.wake(ObjectIdentifier(self))
    }

    private func lock() { must("pthread_mutex_lock", pthread_mutex_lock(mutex)) }
    private func unlock() { must("pthread_mutex_unlock", pthread_mutex_unlock(mutex)) }
}

/// These calls fail only if we misuse them.
private func must(_ call: String, _ result: CInt) {
    precondition(result == 0, "\(call): \(Errno(rawValue: result))")
}

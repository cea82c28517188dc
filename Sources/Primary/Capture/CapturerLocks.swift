import Formats
import Linux
import Store

// Users' locks, and where it is told that one cannot be had at all.

extension Capturer {
    /// In turn with those who write, if it comes before `deadline`.
    func lockUser(
        _ owner: OwnerFinder.Owner, of jobs: [CaptureJob], before deadline: MonotonicTime
    ) throws(SystemError) -> CyrusLocks.UserLock? {
        while true {
            if let lock = try tryUserLock(owner.user, of: jobs) { return lock }
            let timeout = deadline - .now()
            guard timeout > .zero else { return nil }
            if let lock = parts.locks.awaitUserLock(owner.user, timeout: timeout) { return lock }
            _ = parts.inbox.wait(timeout: Self.busyInterval) { _ in false }
        }
    }

    /// One that cannot be opened is an alarm, and its user's files wait as if somebody wrote them.
    private func tryUserLock(_ user: [UInt8]?, of jobs: [CaptureJob]) throws(SystemError) -> CyrusLocks.UserLock? {
        do throws(SystemError) {
            let lock = try parts.locks.tryUserLock(user)
            if let place = lockAlarms.removeValue(forKey: user ?? []) {
                parts.status.update { _ = $0.alarms.removeValue(forKey: place) }
            }
            return lock
        } catch {
            guard !error.isShortage else { throw error }
            let place = lockAlarms[user ?? []] ?? jobs.first?.directory ?? StorePath(root: .configuration)
            lockAlarms[user ?? []] = place
            alarm(place, .system(error))
            return nil
        }
    }
}

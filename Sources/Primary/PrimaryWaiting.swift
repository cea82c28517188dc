package import Formats
package import Linux
import Logging
package import ReplicationLog
import Store
import Synchronization

// Who waits for something: that all is in the log, and that the replicas have it.

extension Primary {
    /// Throws `MovedRoot` if the store's roots are not where they were.
    package func checkRoots() throws { try roots.checkPlaces() }

    /// The position at which everything is in the log that was written before this call; nothing after `timeout`.
    ///
    /// Blocks its thread. Where events were lost, at the start too, or a directory is not watched, it takes a sweep.
    package func positionNow(timeout: Duration) throws(SystemError) -> Position? {
        let deadline = MonotonicTime.now() + timeout
        let wasComplete = watcher.watchCounts.isComplete
        guard let position = try positionOfEvents(timeout: timeout) else { return nil }
        // What was lost by now is known: the overflow came before the cookie. What is watched only since may have come before.
        if !wasComplete || !watcher.watchCounts.isComplete { sweeper.sweepSoon() }
        guard sweeper.isOwed else { return position }
        guard sweeper.waitForOwed(timeout: deadline - .now()) else { return nil }
        return try positionOfEvents(timeout: deadline - .now())
    }

    /// The same, however long it takes: Cyrus may hold a lock for long. Nothing at the end, or when it is not wanted any more.
    func positionNow(while isWanted: () -> Bool) throws(SystemError) -> Position? {
        // A cookie may be lost, so it is asked again; for longer each time, as a sweep of a large store takes its time, and another
        // is asked for then.
        var patience = Duration.seconds(5)
        while !isStopped.load(ordering: .relaxed), !hasEnded, isWanted() {
            do throws(SystemError) {
                if let position = try positionNow(timeout: patience) { return position }
                patience = min(patience * 2, .seconds(3600))
            } catch {
                // A seed of hours is not to be lost for want of a descriptor at its end.
                guard error.isShortage else { throw error }
                _ = cookies.wait(timeout: .seconds(1)) { _ in hasEnded }
            }
        }
        return nil
    }

    /// The same, as far as events tell.
    private func positionOfEvents(timeout: Duration) throws(SystemError) -> Position? {
        let cookie = try watcher.makeCookie()
        return cookies.take(timeout: timeout) { cookies -> Position?? in
            guard let position = cookies.removeValue(forKey: cookie) else { return hasEnded ? .some(nil) : nil }
            return position
        } ?? nil
    }

    /// `run` has: nothing that is waited for here comes any more.
    package var hasEnded: Bool { isEnded.load(ordering: .relaxed) }

    package enum Level: String, Sendable {
        case flushed, applied
    }

    /// Whether every replica has reached `position` before `timeout` and the end of `run`; false while there is none. Blocks its
    /// thread.
    package func wait(for position: Position, _ level: Level, timeout: Duration) -> Bool {
        _ = acks.wait(timeout: timeout) { _ in hasEnded || isReached(position, level) }
        return isReached(position, level) && leads(through: position)
    }

    /// False for what a primary of an earlier epoch wrote behind the fork: no replica ever comes to that, whatever its number.
    package func leads(through position: Position) -> Bool {
        do throws(JournalError) {
            return try journal.leads(through: position)
        } catch {
            log.error("\(error)")
            return false
        }
    }

    private func isReached(_ position: Position, _ level: Level) -> Bool {
        let all = slots.all.values
        return !all.isEmpty && all.allSatisfy { Self.isReached(position, level, by: $0) }
    }

    private static func isReached(_ position: Position, _ level: Level, by slot: Slot) -> Bool {
        !slot.isSeeding && (level == .flushed ? slot.flushed : slot.applied) >= max(position, slot.consistentAfter)
    }

    /// The replicas that have not reached `position`, by their fingerprints.
    package func behind(_ position: Position, _ level: Level) -> [String: Slot] {
        slots.all.filter { !Self.isReached(position, level, by: $0.value) }
    }
}

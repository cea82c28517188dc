import Linux
import Store

// Users who go on writing: with one read after the other there would always be somebody who has news by then.

extension Capturer {
    /// So many users are locked at the same time at most.
    private static let lockedMax = 64
    /// Names of so many files are read meanwhile, at most.
    private static let namesReadMax = 1000
    /// How long is waited for all of them.
    private static let lockingWait = Duration.milliseconds(100)

    /// Locks all who have news, and reads them as one state: nothing is moved between two of them meanwhile. Returns whether they were read; if
    /// not, their news is still to be read.
    func readTogether(_ round: inout CaptureRound) throws -> Bool {
        guard areIndexesTold else { return false }
        for owner in round.busyUsers { round.takeBusy(owner) }
        try takeAllDirty(&round)
        guard try lockAndRead(&round, locked: [], before: .now() + Self.lockingWait) else {
            for (owner, jobs) in round.users { round.note(busy: jobs, of: owner) }
            return false
        }
        round.takenThrough = dirty.generation
        (round.unsettled, round.lacksOthers) = ([], false)
        return true
    }

    /// `locked`: whose locks are held. Those who waited for one of these and then wrote to others have no lock any more to wait for.
    private func lockAndRead(
        _ round: inout CaptureRound, locked: Set<OwnerFinder.Owner>, before deadline: MonotonicTime
    ) throws -> Bool {
        guard let owner = round.users.keys.first(where: { !locked.contains($0) }) else {
            return try readLocked(&round, locked, before: deadline)
        }
        guard locked.count < Self.lockedMax,
            let lock = try lockUser(owner, of: round.users[owner] ?? [], before: deadline)
        else { return false }
        let start = MonotonicTime.now()
        let areRead = try lockAndRead(&round, locked: locked.union([owner]), before: deadline)
        let isWhole = try parts.locks.release(lock)
        parts.status.update { $0.lockHolds.add(.now() - start) }
        if !isWhole { round.putOff(owner) }
        return areRead && isWhole
    }

    /// All who are known to have news are locked: what events have told by now is all that they have, unless others have news as well.
    private func readLocked(
        _ round: inout CaptureRound, _ locked: Set<OwnerFinder.Owner>, before deadline: MonotonicTime
    ) throws -> Bool {
        guard try fetchEvents(within: Self.eventsWait), MonotonicTime.now() < deadline else { return false }
        try takeAllDirty(&round)
        guard round.users.keys.allSatisfy(locked.contains) else {
            return try lockAndRead(&round, locked: locked, before: deadline)
        }
        guard round.users.values.joined().reduce(0, { $0 + $1.names.count }) <= Self.namesReadMax else { return false }
        for owner in locked where owner != .shared {
            guard try readOne(owner, &round) else { return false }
        }
        // Last, as their lock may say nothing: until there is no news of them. Nobody moves a message of a user's there meanwhile.
        while round.users[.shared] != nil {
            guard try readOne(.shared, &round), try fetchEvents(within: Self.eventsWait),
                MonotonicTime.now() < deadline
            else { return false }
            try takeDirty(of: [.shared], into: &round)
        }
        return true
    }

    private func readOne(_ owner: OwnerFinder.Owner, _ round: inout CaptureRound) throws -> Bool {
        guard let jobs = round.users[owner] else { return true }
        guard case .read(let captured) = try read(jobs, round) else { return false }
        note(captured, of: owner, jobs, &round, .whole)
        return true
    }
}

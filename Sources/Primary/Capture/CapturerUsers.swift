import Formats
import Linux
import Store

// What is a user's: all that is dirty of theirs, read under one lock, as one state.

extension Capturer {
    /// How long events are waited for under a user's lock.
    private static let eventsWait = Duration.milliseconds(20)

    /// Events come after what they tell of: what was read of a user may lack what changed before it. A message that was moved
    /// into a mailbox of which no event had come would be gone from the other one, and nowhere in the log's state.
    ///
    /// Who has news once all events of before this call have come is read again with those, or put off.
    func completeUsers(_ round: inout CaptureRound) throws {
        let owners = round.unsettled
        guard !owners.isEmpty, !Simulation.isMutated(.usersOnce) else { return }
        try fetchEvents()
        try takeDirty(of: owners, into: &round)
        writers = areChangesTold ? owners.filter { round.users[$0] != nil } : owners
        for owner in round.order where writers.contains(owner) {
            if try !readUser(owner, &round, wholly: true) { round.putOff(owner) }
        }
        round.unsettled = []
    }

    /// Adds to the round what else is dirty of those who are in it anyway.
    func takeDirty(of owners: Set<OwnerFinder.Owner>, into round: inout CaptureRound) throws {
        guard !Simulation.isMutated(.usersOnce) else { return }
        try sort(try dirty.take { try mayBe($0, of: owners) }, into: &round)
    }

    private func mayBe(_ dirt: DirtySet.Dirt, of owners: Set<OwnerFinder.Owner>) throws -> Bool {
        let name: [UInt8]?
        switch dirt.names {
        case .some(let names): name = names.first
        // Elsewhere a directory as a whole is of many.
        case .all: name = RootKind(dirt.directory.root).holdsMailboxes ? Self.headerName : nil
        }
        guard let name else { return true }
        do throws(SystemError) {
            return owners.contains(try owner(of: dirt.directory.appending(name), in: dirt.directory))
        } catch {
            return true  // who sorts it gives the alarm
        }
    }

    /// All that is dirty of one user, under one lock: `wholly` with what is only found to be dirty by the events that the lock ends.
    /// Returns whether they were read.
    @discardableResult
    func readUser(_ owner: OwnerFinder.Owner, _ round: inout CaptureRound, wholly: Bool) throws -> Bool {
        var jobs = round.users[owner] ?? []
        try shipManyAhead(&jobs, &round)
        let user: [UInt8]? = if case .user(let name) = owner { name } else { nil }
        // Twice at most: once more after the messages that were too many went ahead.
        for _ in 0..<2 {
            guard let lock = try tryUserLock(user, of: jobs) else { break }
            let start = MonotonicTime.now()
            let outcome = try wholly && !takeEvents(of: owner, &jobs, &round) ? .busy : read(jobs, round)
            let isWhole = try parts.locks.release(lock)
            parts.status.update { $0.lockHolds.add(.now() - start) }
            guard isWhole else { break }
            switch outcome {
            case .busy:
                note(busy: jobs, of: owner, &round)
                return false
            case .messagesFirst(let paths):
                try shipAhead(paths, &round)
            case .read(let captured):
                round.users[owner] = nil
                round.note(read: jobs, of: owner, wholly: wholly)
                noteSeeds(jobs, captured, &round)
                round.add(captured)
                return true
            }
        }
        note(busy: jobs, of: owner, &round)
        return false
    }

    /// Whether it is known what changed of theirs before their lock was taken: all events of before have come, and the mailboxes of
    /// which there may be none were looked at.
    private func takeEvents(
        of owner: OwnerFinder.Owner, _ jobs: inout [CaptureJob], _ round: inout CaptureRound
    ) throws -> Bool {
        guard try fetchEvents(within: Self.eventsWait) else { return false }
        if knowsShipped, !areChangesTold {
            for index in userIndexes[owner] where try differsFromRowOrAlarm(index) { dirty.suspect(index) }
        }
        try takeDirty(of: [owner], into: &round)
        jobs = round.users[owner] ?? jobs
        return true
    }

    private func differsFromRowOrAlarm(_ path: StorePath) throws -> Bool {
        do {
            return try differsFromRow(path)
        } catch let error as SystemError {
            guard !error.isShortage else { throw error }
            alarm(path, .system(error))
            return false
        }
    }

    func read(_ jobs: [CaptureJob], _ round: CaptureRound) throws -> UnitReader.Outcome {
        var captured: [Captured] = []
        var ahead: [StorePath] = []
        for job in jobs {
            guard var names = try audit.unproven(job.directory, job.names) else { return .busy }
            // A seed wants them even where nothing is to be told of them.
            let wanted = seeds[job.directory]?.wanted ?? []
            if !wanted.isEmpty { names.formUnion(job.names.filter { wanted.contains(job.directory.appending($0)) }) }
            let outcome = try reader.read(
                job.directory, names, shippedAlready: round.shippedMessages, wholly: wanted)
            switch outcome {
            case .read(let found): captured.append(contentsOf: found)
            case .messagesFirst(let paths): ahead.append(contentsOf: paths)
            case .busy: return .busy
            }
        }
        if !isGrounded {
            for item in captured {
                if item.isGone { goneMeanwhile.insert(item.path) } else { goneMeanwhile.remove(item.path) }
            }
        }
        return ahead.isEmpty ? .read(captured) : .messagesFirst(ahead)
    }

    func note(busy jobs: [CaptureJob], of owner: OwnerFinder.Owner, _ round: inout CaptureRound) {
        round.note(busy: jobs, of: owner)
        parts.status.update { $0.busyCount += 1 }
    }

    /// Where many messages are dirty, they go first: to look at each under the lock would take too long.
    private func shipManyAhead(_ jobs: inout [CaptureJob], _ round: inout CaptureRound) throws {
        let messages = jobs.map { job in job.names.filter { isMessage(job.directory.appending($0)) } }
        guard messages.reduce(0, { $0 + $1.count }) > UnitReader.openMessagesMax else { return }
        for (index, messages) in zip(jobs.indices, messages) where !messages.isEmpty {
            let directory = jobs[index].directory
            try shipAhead(messages.map { directory.appending($0) }, &round)
            jobs[index].names.subtract(messages.filter { round.shippedMessages.contains(directory.appending($0)) })
        }
    }

    /// Messages need no lock to be read: they never change. Nothing else goes ahead with them, and none that is gone: the index
    /// that says so comes with it.
    func shipAhead(_ paths: [StorePath], _ round: inout CaptureRound) throws {
        let others = round.captured
        round.forgetCaptured()
        defer { round.add(others) }
        for path in paths where !round.shippedMessages.contains(path) {
            let found: Captured?
            do { found = try reader.openAhead(path) } catch let error as SystemError where error.isShortage { break }
            if found?.isGone == true { continue }
            if let found { round.add([found]) }
            round.shippedMessages.insert(path)
            audit.looked(at: path.parent, CollectionOfOne(Array(path.name)))
            if round.captured.count >= Self.openCountMax || round.capturedBytes > Self.captureBytesMax {
                try shipCaptured(&round)
            }
        }
        try shipCaptured(&round)
    }
}

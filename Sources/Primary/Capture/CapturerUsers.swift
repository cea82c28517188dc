import Formats
import Linux
import Store

// What is a user's: all that is dirty of theirs, read under one lock, as one state; and of all users so much that no message is lost
// between two of them.

extension Capturer {
    /// As of when a user is read.
    enum Reading {
        /// What events have told of by now.
        case asTold
        /// All that changed before the lock was taken.
        case asLocked
    }

    /// Of whom what was read is to be one state.
    enum Extent {
        /// Each user is one; a message may be on its way from one to another.
        case eachUser
        case everybody
    }

    /// How long events are waited for under a user's lock.
    static let eventsWait = Duration.milliseconds(20)
    /// How long nobody is waited for after somebody was in vain: who holds a lock for long does not keep others waiting.
    private static let overdueInterval = Duration.milliseconds(150)
    /// Of more mailboxes the indexes are looked at before the lock is taken.
    private static let lockedIndexesMax = 500

    // MARK: - a round's users

    /// Reads the users of the round, each as one state.
    func readUsers(_ round: inout CaptureRound) throws {
        guard !round.users.isEmpty || round.lacksOthers else { return }
        // So that little is left to wait for under a lock.
        if !areIndexesTold || !writers.isDisjoint(with: round.users.keys) { try awaitEvents(&round) }
        try lookAtIndexes(round)
        round.takenThrough = 0
        try takeDirty(of: Set(round.users.keys), into: &round)
        round.takenThrough = dirty.generation
        let now = MonotonicTime.now()
        let overdueDeadline = now < nextOverdueWait ? .distantPast : now + Self.busyWait
        for owner in round.order where round.users[owner] != nil {
            let isOverdue = round.users[owner]?.contains(where: \.isOverdue) == true
            let reading: Reading = writers.contains(owner) || !areIndexesTold ? .asLocked : .asTold
            let isRead = try readUser(owner, &round, reading, before: isOverdue ? overdueDeadline : .distantPast)
            if isOverdue, !isRead, overdueDeadline != .distantPast {
                nextOverdueWait = max(nextOverdueWait, .now() + Self.overdueInterval)
            }
            try relieve(&round)
            if round.capturedBytes > RoundShipper.togetherBytes || round.openCount > Self.openCountMax {
                try completeUsers(&round, .eachUser)
                try ship(&round)
            }
        }
        try completeUsers(&round, .everybody)
    }

    /// Events come after what they tell of: what was read of a user may lack what changed before it. A message that was moved into a mailbox of
    /// which no event had come would be gone from the other one, and nowhere in the log's state. So once the events of before have come, who has
    /// news is read again, and who cannot be is put off.
    ///
    /// Of everybody: a message may have been moved to another user's mailbox, or be one that deliver.db knows. Where a mailbox has messages no more, or
    /// deliver.db was read, everybody's news is read, and all of it waits for who is writing.
    func completeUsers(_ round: inout CaptureRound, _ extent: Extent) throws {
        guard !Simulation.isMutated(.usersOnce) else { return }
        let deadline = MonotonicTime.now() + Self.busyWait
        var (readingCount, isAboutOthers) = (0, false)
        while let lacking = Self.lacking(extent, round) {
            readingCount += 1
            isAboutOthers = isAboutOthers || lacking == .everybody
            let isInTime = MonotonicTime.now() < deadline || readingCount <= Self.readingsMin
            guard isInTime, try awaitEvents(&round), try lacking == .eachUser || areOthersKnown(&round) else {
                return try putOff(lacking, extent, &round)
            }
            if readingCount > 1, lacking == .everybody, try readTogether(&round) { continue }
            // More than can be held, as after a long downtime, goes as it is.
            guard try readNews(of: lacking, &round) else { break }
            guard try lacking == .eachUser || waitForWriters(&round) else { return try putOff(lacking, extent, &round) }
        }
        guard extent == .everybody else { return }
        round.lacksOthers = false
        if round.isRead(.shared) { sharedPatience.settled() }
        if isAboutOthers { lossPatience.settled() }
        if hasDeliveries(round) { deliveriesPatience.settled() }
    }

    /// Whose news is to be read before that is one state; nothing if it is.
    private static func lacking(_ extent: Extent, _ round: CaptureRound) -> Extent? {
        if extent == .everybody, round.lacksOthers { return .everybody }
        return round.unsettled.isEmpty ? nil : .eachUser
    }

    /// Of the users of whom there may be more, or of all. Returns whether there was room for it.
    private func readNews(of lacking: Extent, _ round: inout CaptureRound) throws -> Bool {
        let owners = round.unsettled
        round.unsettled = []
        if lacking == .everybody {
            round.lacksOthers = false
            try takeAllDirty(&round)
            round.takenThrough = dirty.generation
        } else {
            try takeDirty(of: owners, into: &round)
        }
        let wanted = round.order.filter { round.users[$0] != nil && (lacking == .everybody || owners.contains($0)) }
        writers.subtract(owners)
        writers.formUnion(owners.intersection(wanted))
        let untold = areIndexesTold ? [] : owners.subtracting(wanted).subtracting([.shared])
        let toRead = wanted + untold
        for (index, owner) in toRead.enumerated() {
            let isReadAgain = round.isRead(owner)
            if try !readUser(owner, &round, .asLocked), isReadAgain {
                round.putOff(owner)
                // What was moved there is not in the round any more.
                if mayLackOthers(round) { round.lacksOthers = true }
            }
            try relieve(&round)
            if round.capturedBytes > 2 * RoundShipper.togetherBytes {
                // What was read of these before their news may be half.
                for owner in toRead[(index + 1)...] where round.isRead(owner) { round.putOff(owner) }
                return false
            }
        }
        return true
    }

    private func mayLackOthers(_ round: CaptureRound) -> Bool {
        !round.losers.isEmpty || !round.removedPlaces.isEmpty || hasDeliveries(round)
    }

    func hasDeliveries(_ round: CaptureRound) -> Bool { round.capturedGlobals.contains { $0.path == deliveries } }

    /// Who was busy gets a moment to finish: returns whether all have.
    private func waitForWriters(_ round: inout CaptureRound) throws -> Bool {
        let deadline = MonotonicTime.now() + Self.busyWait
        while true {
            let busy = round.busyUsers
            guard !busy.isEmpty else { return true }
            guard MonotonicTime.now() < deadline, !round.isBlind else { return false }
            _ = parts.inbox.wait(timeout: Self.busyInterval) { _ in false }
            for owner in busy {
                round.takeBusy(owner)
                try readUser(owner, &round, .asLocked, before: deadline)
                try relieve(&round)
            }
        }
    }

    /// What was read of these, and is no whole, comes in another round; what only may lack others' news, not for ever.
    private func putOff(_ lacking: Extent, _ extent: Extent, _ round: inout CaptureRound) throws {
        let off = round.unsettled.filter {
            $0 != .shared || round.isBlind || sharedPatience.lasts(.now(), in: roundNumber)
        }
        for owner in off { round.putOff(owner) }
        round.unsettled = []
        hasPutOff = true
        guard extent == .everybody else { return }
        round.lacksOthers = false
        if lacking == .everybody || !off.isEmpty { try putOffLosers(&round) }
    }

    /// What others have that are put off they may not lack, unless that goes on for long.
    private func putOffLosers(_ round: inout CaptureRound) throws {
        putOffDeliveries(&round)
        guard !round.losers.isEmpty || !round.removedPlaces.isEmpty, isPatient(round) else { return }
        for owner in round.losers { round.putOff(owner) }
        let removed = round.removedPlaces
        guard !removed.isEmpty else { return }
        // With what mailboxes.db tells besides.
        round.isMailboxListHeld = true
        round.putOff(mailboxesAt: removed.union(try changedMailboxes(of: round)), and: mailboxList)
    }

    private func isPatient(_ round: CaptureRound) -> Bool {
        if round.isBlind || !areIndexesTold && !round.hasLookedAround { return true }
        return lossPatience.lasts(.now(), in: roundNumber)
    }

    /// mailboxes.db, and the mailboxes at these places with it; and who may have lost what is in others that it does not know yet.
    func putOffMailboxes(at places: Set<[UInt8]>, _ round: inout CaptureRound) throws {
        hasPutOff = true
        round.putOff(mailboxesAt: places, and: mailboxList)
        try putOffLosers(&round)
    }

    /// It knows of messages that are put off, or may.
    func putOffDeliveries(_ round: inout CaptureRound) {
        guard hasDeliveries(round), round.isBlind || deliveriesPatience.lasts(.now(), in: roundNumber) else {
            return
        }
        round.putOff(mailboxesAt: [], and: deliveries)
    }

    /// Adds to the round what else is dirty of those who are in it anyway.
    func takeDirty(of owners: Set<OwnerFinder.Owner>, into round: inout CaptureRound) throws {
        guard !Simulation.isMutated(.usersOnce) else { return }
        let before = round.takenThrough
        try sortUsers(dirty.take { $0.newest > before && mayBe($0, of: owners) }, into: &round)
    }

    func takeAllDirty(_ round: inout CaptureRound) throws {
        try sortUsers(dirty.take { $0.names != .some([Array(deliveries.name)]) }, into: &round)
    }

    /// What is nobody's was read, or comes in another round.
    private func sortUsers(_ taken: [DirtySet.Dirt], into round: inout CaptureRound) throws {
        round.forgetShipped(taken)
        try sort(taken, into: &round)
        for job in round.takeGlobals(leaving: readLast) { round.note(busy: [job], of: .none) }
    }

    private func mayBe(_ dirt: DirtySet.Dirt, of owners: Set<OwnerFinder.Owner>) -> Bool {
        if Self.mayChangeOwner(dirt) { self.owners[dirt.directory] = nil }
        let names: Set<[UInt8]>
        switch dirt.names {
        case .some(let some): names = some
        case .all where RootKind(dirt.directory.root).holdsMailboxes: names = [Self.headerName]
        // Elsewhere a directory as a whole is of many.
        case .all: return true
        }
        return names.contains { name in
            do throws(SystemError) {
                return owners.contains(try owner(of: dirt.directory.appending(name), in: dirt.directory))
            } catch {
                return true  // who sorts it gives the alarm
            }
        }
    }

    /// Whether they have come; if not, nobody is read in this round any more.
    @discardableResult
    func awaitEvents(_ round: inout CaptureRound) throws -> Bool {
        guard !round.isBlind else { return false }
        round.isBlind = try !fetchEvents()
        round.isLate = false
        if areIndexesTold {
            userIndexes = UserIndexes()
        } else {
            try userIndexes.refresh(parts.roots)
        }
        return !round.isBlind
    }

    // MARK: - a user

    /// All that is dirty of one user, under one lock. Returns whether they were read.
    ///
    /// Of shared mailboxes the lock says nothing, as not all versions of Cyrus's take it (imap/mailbox.c of 3.6.1): what was read of them counts when
    /// no news of them came by then.
    @discardableResult
    func readUser(
        _ owner: OwnerFinder.Owner, _ round: inout CaptureRound, _ reading: Reading,
        before deadline: MonotonicTime = .distantPast
    ) throws -> Bool {
        guard !round.isBlind, reading == .asTold || !round.isLate else {
            note(busy: round.users[owner] ?? [], of: owner, &round)
            return false
        }
        try shipManyAhead(of: owner, &round)
        if reading == .asLocked, userIndexes[owner].count > Self.lockedIndexesMax {
            try suspectIndexes(of: owner, round)
        }
        // Twice at most: once more after the messages that were too many went ahead.
        for _ in 0..<2 {
            guard let lock = try lockUser(owner, of: round.users[owner] ?? [], before: deadline) else { break }
            let start = MonotonicTime.now()
            let isKnown = try reading == .asTold || takeEvents(of: owner, &round)
            let jobs = round.users[owner] ?? []
            let outcome = try isKnown ? read(jobs, round) : .busy
            let isWhole = try parts.locks.release(lock)
            parts.status.update { $0.lockHolds.add(.now() - start) }
            guard isWhole else { break }
            switch outcome {
            case .busy:
                note(busy: jobs, of: owner, &round)
                return false
            case .messagesFirst(let paths):
                try shipAhead(paths, .all, &round)
            case .read(let captured):
                note(
                    captured, of: owner, jobs, &round, reading == .asLocked && owner != .shared ? .whole : .provisional)
                return true
            }
        }
        note(busy: round.users[owner] ?? [], of: owner, &round)
        return false
    }

    /// `jobs` gave that, of a user.
    func note(
        _ captured: [Captured], of owner: OwnerFinder.Owner, _ jobs: [CaptureJob], _ round: inout CaptureRound,
        _ standing: CaptureRound.Standing
    ) {
        let isReadAgain = round.isRead(owner)
        round.users[owner] = nil
        round.note(read: jobs, of: owner, standing)
        noteSeeds(jobs, captured, &round)
        round.add(captured, of: owner, insteadOf: isReadAgain ? jobs : [])
    }

    /// Whether it is known what changed of theirs before their lock was taken: all events of before have come, and the mailboxes of
    /// which there may be none were looked at.
    private func takeEvents(of owner: OwnerFinder.Owner, _ round: inout CaptureRound) throws -> Bool {
        guard try fetchEvents(within: Self.eventsWait) else {
            round.isLate = true
            return false
        }
        let known = round.users[owner] ?? []
        if !areIndexesTold {
            // One that cannot be read says nothing of what there is; its alarm is told.
            guard userIndexes.isKnown || parts.status.current.alarms[mailboxList] != nil else { return false }
            if userIndexes[owner].count <= Self.lockedIndexesMax { try suspectIndexes(of: owner, round) }
        }
        try takeDirty(of: [owner], into: &round)
        if known.flatMap(\.paths).count == (round.users[owner] ?? []).flatMap(\.paths).count { writers.remove(owner) }
        return true
    }

    private func suspectIndexes(of owner: OwnerFinder.Owner, _ round: CaptureRound) throws {
        guard knowsShipped else { return }
        let known = Set((round.users[owner] ?? []).flatMap(\.paths))
        try suspect(userIndexes[owner].filter { !known.contains($0) }, round)
    }

    /// Where events do not tell all, anybody may have what somebody else has no more: all indexes are looked at, which may take a second
    /// for 100,000, and a tenth of the time.
    private func areOthersKnown(_ round: inout CaptureRound) throws -> Bool {
        guard !areIndexesTold, knowsShipped else { return true }
        let start = MonotonicTime.now()
        guard start >= nextLookAtIndexes else { return false }
        try suspect(userIndexes.all, round)
        round.hasLookedAround = true
        let end = MonotonicTime.now()
        nextLookAtIndexes = end + (end - start) * 10
        return true
    }

    /// Once after each start and overflow, as soon as all directories are watched: what changes from then on is told.
    private func lookAtIndexes(_ round: CaptureRound) throws {
        guard !areIndexesTold, knowsShipped, !round.isBlind, userIndexes.isKnown, parts.isAllWatched() else { return }
        hasLookedAtIndexes = true
        try suspect(userIndexes.all, round)
    }

    /// Whether it is known which indexes changed.
    var areIndexesTold: Bool { areChangesTold || hasLookedAtIndexes && parts.isAllWatched() }

    /// Those that are neither as they were shipped nor as they were read in this round.
    private func suspect(_ indexes: some Sequence<StorePath>, _ round: CaptureRound) throws {
        let read = round.captured.isEmpty ? [:] : round.capturedStatus
        for index in indexes {
            do {
                if let known = read[index], try parts.roots.status(of: index) == known { continue }
                if try differsFromRow(index) { dirty.suspect(index) }
            } catch is SystemError {
                dirty.mark(index)  // reading it gives the alarm
            }
        }
    }

    func read(_ jobs: [CaptureJob], _ round: CaptureRound) throws -> UnitReader.Outcome {
        reader.looksForMessages = !areChangesTold
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

    // MARK: - messages ahead

    /// Where many messages are dirty, they go first: to look at each under the lock would take too long.
    private func shipManyAhead(of owner: OwnerFinder.Owner, _ round: inout CaptureRound) throws {
        let jobs = round.users[owner] ?? []
        let messages = jobs.map { job in job.names.filter { isMessage(job.directory.appending($0)) } }
        guard messages.reduce(0, { $0 + $1.count }) > UnitReader.openMessagesMax else { return }
        for (index, messages) in zip(jobs.indices, messages) where !messages.isEmpty {
            let directory = jobs[index].directory
            try shipAhead(messages.map { directory.appending($0) }, .new, &round)
            let shipped = messages.filter { round.shippedMessages.contains(directory.appending($0)) }
            round.users[owner]?[index].names.subtract(shipped)
        }
    }

    /// Which messages need not wait for their index.
    enum Ahead {
        /// Not those that are others than was shipped under their names.
        case new
        /// As so many cannot be kept open.
        case all
    }

    /// Messages need no lock to be read: they never change. Nothing else goes ahead with them, and none that is gone: the index that says so
    /// comes with it.
    func shipAhead(_ paths: [StorePath], _ which: Ahead, _ round: inout CaptureRound) throws {
        let others = round.takeCaptured()
        defer { round.add(others) }
        for path in paths where !round.shippedMessages.contains(path) {
            let found: Captured?
            do { found = try reader.openAhead(path) } catch let error as SystemError where error.isShortage { break }
            if found?.isGone == true || which == .new && found?.replacesMessage == true { continue }
            if let found { round.add([found]) }
            round.shippedMessages.insert(path)
            audit.looked(at: path.parent, CollectionOfOne(Array(path.name)))
            if round.captured.count >= Self.openCountMax || round.capturedBytes > Self.captureBytesMax {
                try shipCaptured(&round)
            }
        }
        try shipCaptured(&round)
    }

    /// Ships the new messages that were captured, if they are many; all else waits for the end of the round.
    private func relieve(_ round: inout CaptureRound) throws {
        guard round.messageBytes > Self.captureBytesMax || round.openCount > Self.openCountMax else { return }
        let captured = round.takeCaptured()
        var others: [Captured] = []
        for item in captured {
            guard case .message = item.found, !item.replacesMessage else {
                others.append(item)
                continue
            }
            round.add([item])
            round.shippedMessages.insert(item.path)
        }
        try shipCaptured(&round)
        round.add(others)
    }
}

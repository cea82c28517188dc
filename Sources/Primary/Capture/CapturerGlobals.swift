import Digests
import Formats
import Linux
import Store

// What is nobody's: mailboxes.db, which is read before the users whose mailboxes it names, with them again if it changed
// meanwhile, and shipped after them;
// annotations.db, which is read after the users whose indexes keep its sums; and the databases on which nothing depends.

extension Capturer {
    /// How long is waited for somebody who is writing, and how often what he writes is looked at.
    static let busyWait = Duration.milliseconds(30)
    static let busyInterval = Duration.microseconds(500)

    /// All but annotations.db.
    func readGlobals(_ round: inout CaptureRound) throws {
        for job in round.takeGlobals(leaving: readLast) { try readGlobal(job, into: &round) }
        // What mailboxes.db tells of was made before it, so its events are in the queue already: fetch them.
        guard round.capturedGlobals.contains(where: { $0.path == mailboxList }) else { return }
        let areTold = areChangesTold
        guard try awaitEvents(&round) else {
            round.isMailboxListHeld = true
            return try putOffMailboxes(at: [], &round)
        }
        if !areTold || !areChangesTold { try markUntold(round) }
        // Those too that were put back: a mailbox of somebody who is still writing may be among them.
        try sort(dirty.take(now: MonotonicTime(nanoseconds: .max)), into: &round)
        // What was read already stays as it was then; if it has changed, it is read again in the next round.
        let known = Set(round.capturedGlobals.map(\.path))
        let isListChanged = try hasMailboxListChanged(since: round)
        for var job in round.takeGlobals(leaving: readLast) {
            let read = job.names.filter { known.contains(job.directory.appending($0)) }
            let again = read.filter { isListChanged || job.directory.appending($0) != mailboxList }
            if !again.isEmpty { round.note(busy: [job.only(again)], of: .none) }
            job.names.subtract(read)
            if !job.names.isEmpty { try readGlobal(job, into: &round) }
        }
    }

    /// Of what events have not told, and a sweep has not found yet, mailboxes.db may name mailboxes: those that are there and were
    /// never shipped are dirty.
    ///
    /// Asks the catalogue for each mailbox there is, while a sweep is out or watches lack.
    private func markUntold(_ round: CaptureRound) throws {
        guard knowsShipped, !Simulation.isMutated(.untoldMailboxes),
            let list = round.capturedGlobals.first(where: { $0.path == mailboxList }),
            let bytes = try reader.bytes(of: list), let mailboxes = parts.roots.layout.mailboxes(namedIn: bytes)
        else { return }
        for header in mailboxes.map(\.header) where try parts.catalogue.entry(header) == nil {
            guard let partition = StoreLayout.partition(of: header.root) else { continue }
            for root in parts.roots.layout.mailboxRoots(partition: partition) {
                guard let directory = StorePath(root: root, path: header.parent.path) else { continue }
                do throws(SystemError) {
                    if try parts.roots.status(of: directory) != nil { dirty.markAll(directory) }
                } catch {
                    guard !error.isShortage else { throw error }
                    alarm(directory, .system(error))
                }
            }
        }
    }

    /// annotations.db as it is after the users whose indexes refer to it were read, with or without an event; while an
    /// alarm holds it back, only if it was told of. Somebody who is writing there gets a moment to finish.
    func readAnnotations(_ round: inout CaptureRound) throws {
        guard let readLast else { return }
        var jobs = round.takeGlobals()
        if jobs.isEmpty, parts.status.current.alarms[readLast] == nil, try differsFromRow(readLast) {
            jobs = [CaptureJob(readLast, since: 0)]
        }
        let deadline = MonotonicTime.now() + Self.busyWait
        for job in jobs {
            var outcome = try read([job], round)
            while case .busy = outcome, MonotonicTime.now() < deadline {
                _ = parts.inbox.wait(timeout: Self.busyInterval) { _ in false }
                outcome = try read([job], round)
            }
            try note(outcome, of: job, &round, in: \.captured)
        }
    }

    var readLast: StorePath? { Simulation.isMutated(.annotationsFirst) ? nil : annotations }

    private func readGlobal(_ job: CaptureJob, into round: inout CaptureRound) throws {
        try note(try read([job], round), of: job, &round, in: \.capturedGlobals)
    }

    /// What was read goes to those `captured`; what was not comes again.
    private func note(
        _ outcome: UnitReader.Outcome, of job: CaptureJob, _ round: inout CaptureRound,
        in captured: WritableKeyPath<CaptureRound, [Captured]>
    ) throws {
        switch outcome {
        case .read(let found):
            round.note(read: [job], of: .none)
            noteSeeds([job], found, &round)
            round[keyPath: captured].append(contentsOf: found)
            if found.contains(where: { $0.path == deliveries }) || found.contains(where: \.losesMessages) {
                round.lacksOthers = true
            }
        case .messagesFirst(let paths):
            try shipAhead(paths, .all, &round)
            round.note(busy: [job], of: .none)
        case .busy:
            note(busy: [job], of: .none, &round)
        }
    }

    /// mailboxes.db may name a mailbox that somebody is just making: they get a moment to finish. If they do not, it
    /// is held back with them, and so is what would be ahead of it; not for ever, as it is everybody's.
    func waitForMakers(_ round: inout CaptureRound) throws {
        guard round.capturedGlobals.contains(where: { $0.path == mailboxList }) else { return }
        let deadline = MonotonicTime.now() + Self.busyWait
        while try isAnyMaking(round) {
            guard MonotonicTime.now() < deadline else {
                guard makersPatience.lasts(.now(), in: roundNumber) else { return }
                round.isMailboxListHeld = true
                return try putOffMailboxes(at: waitingMailboxes(of: round), &round)
            }
            _ = parts.inbox.wait(timeout: Self.busyInterval) { _ in false }
            for owner in round.busyUsers {
                round.takeBusy(owner)
                try readUser(owner, &round, .asLocked)
            }
            try completeUsers(&round, .everybody)
        }
        makersPatience.settled()
    }

    /// Those that are to wait for mailboxes.db; none, if they have waited long enough.
    private func waitingMailboxes(of round: CaptureRound) throws -> Set<[UInt8]> {
        let changed = try changedMailboxes(of: round)
        return changed.isEmpty || isMailboxListShort || mailboxListPatience.lasts(.now(), in: roundNumber)
            ? changed : []
    }

    /// Something has run out that it needs, which ends by itself.
    private var isMailboxListShort: Bool { parts.status.current.alarms[mailboxList]?.isShortage == true }

    /// Those that would go into the log ahead of mailboxes.db: that were there before, and have another header now (by name,
    /// rights, or a keyword), or none, or no directory.
    func changedMailboxes(of round: CaptureRound) throws -> Set<[UInt8]> {
        var changed: Set<[UInt8]> = []
        for item in round.captured + round.capturedGlobals where RootKind(item.path.root).holdsMailboxes {
            let isHeader = item.path.name.elementsEqual(Self.headerName)
            guard isHeader || item.isGone, let row = try parts.catalogue.entry(item.path) else { continue }
            if isHeader, try differs(item, from: row) { changed.insert(item.path.parent.path) }
            if !isHeader, row.kind == .directory { changed.insert(item.path.path) }
        }
        return changed
    }

    private func differs(_ item: Captured, from row: CatalogueEntry) throws -> Bool {
        guard case .file(let version, _) = item.found else { return true }
        // Read for a seed, before any version of it was shipped.
        guard let digest = row.digest else { return !row.stillDescribes(version.status) }
        return version.table.digest != digest
    }

    /// Reads all again that is not in the log yet, as long as mailboxes.db changed while it was read: a user whose mailbox was
    /// renamed or removed meanwhile would go into the log ahead of it, which no crash of Cyrus leaves (imap/mboxlist.c,
    /// mboxlist_renamemailbox: the database first). If it does not rest, or is locked, they are put off, and it with them, for
    /// they may have new mailboxes, too; once they have waited long enough, what was read is shipped as it is. Its own
    /// event is not waited for, so a change that is found here is none that was missed.
    func settleMailboxList(_ round: inout CaptureRound) throws {
        let deadline = MonotonicTime.now() + Self.busyWait
        var readingCount = 1
        while try !Simulation.isMutated(.mailboxesOnce) && hasMailboxListChanged(since: round) {
            let isInTime = MonotonicTime.now() < deadline || readingCount < Self.readingsMin
            guard isInTime, isMailboxListFree(before: .now() + Self.busyWait) else {
                let waiting = try waitingMailboxes(of: round)
                guard !waiting.isEmpty else { return }
                return try putOffMailboxes(at: waiting, &round)
            }
            readingCount += 1
            dirty.mark(mailboxList)
            // It may be a user's name that changed.
            owners = [:]
            try sort(round.takeBack() + dirty.take(now: .now()), into: &round)
            try readAll(&round)
        }
        if !round.isMailboxListHeld { mailboxListPatience.settled() }
    }

    /// Of a round that takes longer than the wait.
    static let readingsMin = 3

    private func hasMailboxListChanged(since round: CaptureRound) throws -> Bool {
        let isHeldBack = parts.status.current.alarms[mailboxList] != nil && !isMailboxListShort
        guard !round.isMailboxListHeld, !isHeldBack else { return false }
        guard let read = round.capturedGlobals.first(where: { $0.path == mailboxList }) else {
            return try differsFromRow(mailboxList)
        }
        guard case .file(let version, _) = read.found else { return true }
        // Each transaction makes it longer or another file, so that a status is a content.
        return try parts.roots.status(of: mailboxList) != version.status
    }

    /// Waits for who is writing it.
    private func isMailboxListFree(before deadline: MonotonicTime) -> Bool {
        let locking = UnitReader.locking(parts.roots.layout.role(of: mailboxList))
        while true {
            do throws(SystemError) {
                if (try parts.roots.openLocked(mailboxList, locking)) != nil { return true }
            } catch {
                // The reading will tell.
                return true
            }
            guard MonotonicTime.now() < deadline else { return false }
            _ = parts.inbox.wait(timeout: Self.busyInterval) { _ in false }
        }
    }

    /// Whether among what could not be read is a mailbox, or a directory, that was never shipped. That a mailbox's
    /// directory was says nothing of what is in it.
    private func isAnyMaking(_ round: CaptureRound) throws -> Bool {
        for job in round.busy.values.joined() {
            if !job.directory.isRoot, try parts.catalogue.entry(job.directory) == nil { return true }
            for name in job.names.union(Self.mailboxNames) {
                let path = job.directory.appending(name)
                guard try parts.catalogue.entry(path) == nil, let status = try parts.roots.status(of: path) else {
                    continue
                }
                if status.kind == .directory || Self.mailboxNames.contains(name) { return true }
            }
        }
        return false
    }

    private static let mailboxNames: Set = [headerName, Array("cyrus.index".utf8)]
}

import Delta
import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Store

/// From dirt to journaled batches; one thread.
///
/// Flow of a round:
///   1. take what is dirty
///   2. read mailboxes.db and the other databases that are nobody's, each under its own lock
///   3. wait for the events of before that, so that what those databases refer to is dirty too; where events do not tell
///      all, look for it
///   4. for each user: lock, read all that is dirty of theirs, unlock (`UnitReader`); once more of whom an event comes after
///      that may be of before (`completeUsers`); if mailboxes.db changed meanwhile, from 2 on again
///   5. read annotations.db, if it changed: by Cyrus's own order it may be ahead of the indexes that keep its sums, and
///      never behind (imap/mailbox.c, mailbox_commit)
///   6. encode in the order of dependence (`ApplyRank`), seal, append, flush
///   7. note in catalogue and shadows; tell the shippers
/// Who cannot be locked now is put back and does not hold up the others.
///
/// It ends when it is told to, after a last round, or when the journal fails: then nothing more can be promised.
final class Capturer {
    struct Parts {
        let roots: StoreRoots
        let locks: CyrusLocks
        let catalogue: Catalogue
        let journal: Journal
        let inbox: Condition<CaptureInbox>
        let status: SharedCaptureStatus
        let makeCookie: () throws(SystemError) -> UInt64
        /// Hints that are in no hurry are not looked at before.
        let pausing: (MonotonicTime) -> Void
        /// The log has grown.
        let journaled: @Sendable (Position) -> Void
        /// All that was written before the cookie was made is in the log up to here.
        let cookieDue: @Sendable (UInt64, Position) -> Void
        /// An event queue overflowed: everything is to be looked at.
        let sweepWanted: @Sendable () -> UInt64
        /// Of every directory events tell.
        let isAllWatched: @Sendable () -> Bool
        /// The catalogue of an earlier life was found.
        let isCatalogueDurable: Bool
        /// The first sweep's rows are there, and would be after a power cut.
        let grounded: @Sendable () -> Void
        /// A replica is being given what is there, with or without a row.
        let isSeeding: @Sendable () -> Bool
        let now: @Sendable () -> Timestamp
        let batchBytes: Int
        let log: Logger
    }

    let parts: Parts
    let reader: UnitReader
    let shipper: RoundShipper
    let alarm: (StorePath, AlarmCause) -> Void
    private let finder: OwnerFinder
    let audit: CaptureAudit
    let mailboxList: StorePath
    private(set) var roundNumber: UInt64 = 0
    var mailboxListPatience = Patience()
    /// How long it waits for who is making a mailbox.
    var makersPatience = Patience(.seconds(30))
    let annotations: StorePath
    /// deliver.db, which must not know of a message that is in no index: who delivers it again would not be believed.
    let deliveries: StorePath
    /// Behind, it only has a message delivered twice.
    var deliveriesPatience = Patience(.seconds(60))
    var lossPatience = Patience()
    var sharedPatience = Patience()
    var dirty = DirtySet()
    var seeds: [StorePath: PendingSeed] = [:]
    var waitingSeeds: [SeedRequest] = []
    /// Asked for before. A mailbox changes hands by a new cyrus.header, and then all are asked again.
    var owners: [StorePath: OwnerFinder.Owner] = [:]
    /// Until this sweep has reported, nobody knows what events did not tell of: no cookie is due before.
    private(set) var awaitedSweep: UInt64? = Sweeper.first
    /// Each with the sweep that it waits for.
    private var heldCookies: [(number: UInt64, sweep: UInt64)] = []
    private var lastCommit = MonotonicTime.now()
    private var wantsDurableCatalogue = false
    /// Found to be gone while the first sweep lists what is there: it may have seen them before.
    var goneMeanwhile: Set<StorePath> = []
    /// The first sweep has reported; and its rows are about to be committed durably.
    private(set) var isGrounded = false
    private var isGrounding = false
    private var pace = CapturePace()
    private var hasShipped = false
    /// What was read of some, and did not fit to the rest.
    var hasPutOff = false
    private var isCommitted = true
    /// Users whose lock cannot be opened, and where that is told.
    var lockAlarms: [[UInt8]: StorePath] = [:]
    /// Events do not come, which was told.
    private var isSilent = false
    /// Our own, until they have come.
    private var ownCookies: Set<UInt64> = []
    /// Users who wrote while they were read: the next time events are waited for at once.
    var writers: Set<OwnerFinder.Owner> = []
    var userIndexes = UserIndexes()
    /// For who was put back several times.
    var nextOverdueWait = MonotonicTime.distantPast
    var nextLookAtIndexes = MonotonicTime.now()
    /// Since events were lost, or not told yet.
    var hasLookedAtIndexes = false

    private static let ownerCountMax = 10_000
    /// How long a name waits for its writer to let go of the lock: events come one by one while somebody writes, and
    /// the lock would be tried in vain.
    private static let gatherInterval = Duration.milliseconds(10)
    /// Each delivery writes deliver.db, and the replica's may be behind.
    private static let deliveriesInterval = Duration.seconds(1)
    private static let commitInterval = Duration.seconds(1)
    /// Of messages; more are shipped, as they need not wait for the others.
    static let captureBytesMax = 8 << 20
    static let openCountMax = 256

    init(_ parts: Parts, epoch: Epoch, state: String) throws(SystemError) {
        self.parts = parts
        let shadows = try ShadowStore(state + "/shadow")
        let spare = try OwnFiles(state + "/spare")
        let alarm = Self.alarm(parts)
        let status = parts.status
        let isAlarmed = { (path: StorePath) in status.current.alarms[path] != nil }
        reader = UnitReader(
            roots: parts.roots, catalogue: parts.catalogue, shadows: shadows, spare: spare, alarm: alarm,
            isAlarmed: isAlarmed)
        shipper = RoundShipper(parts, epoch: epoch, shadows: shadows, alarm: alarm)
        self.alarm = alarm
        finder = OwnerFinder(roots: parts.roots)
        mailboxList = parts.roots.layout.path(of: .mailboxes)
        annotations = parts.roots.layout.path(of: .annotations)
        deliveries = parts.roots.layout.path(of: .duplicates)
        audit = CaptureAudit(
            roots: parts.roots, catalogue: parts.catalogue, now: parts.now, isAlarmed: isAlarmed)
    }

    private static func alarm(_ parts: Parts) -> (StorePath, AlarmCause) -> Void {
        let (status, log, now) = (parts.status, parts.log, parts.now)
        return { path, cause in
            let isNew = status.update { status in
                let known = status.alarms[path]
                status.alarms[path] = CaptureStatus.Alarm(
                    why: "\(cause)", since: known?.since ?? now(), isShortage: cause.isShortage)
                return known == nil
            }
            if isNew { log.error("\(path): \(cause)") }
        }
    }

    // MARK: - loop

    /// Until told to stop.
    func run() throws {
        while true {
            let inbox = nextInbox()
            try absorb(inbox)
            let (start, work) = (MonotonicTime.now(), ProcessorTime.ofThisThread())
            (hasShipped, hasPutOff) = (false, false)
            try round()
            if hasShipped { noteShipped() }
            if hasShipped || hasPutOff {
                pace.ended(.now(), began: start, work: ProcessorTime.ofThisThread() - work)
                parts.pausing(pace.nextRound)
            }
            try commitIfDue()
            if inbox.isStopping { break }
        }
        try parts.catalogue.commit(at: parts.journal.flushed.position)
    }

    /// Waits until there is something to do; what has come by then.
    private func nextInbox() -> CaptureInbox {
        let pause = pace.nextRound - .now()
        if pause > .zero, let pressing = take(from: .now, timeout: pause, { $0.takeAll(from: .now) }) {
            return pressing
        }
        // With nothing to do any hint counts, so that what is dirty gets its time.
        let isAtRest = dirty.nextTake.map { $0 - .now() > Self.gatherInterval } ?? true
        let urgency = isAtRest ? Urgency.whenDue : .soon
        let woken = take(from: urgency, timeout: waitingTime()) { $0.isEmpty ? nil : $0.takeAll(from: urgency) }
        return woken ?? parts.inbox.withLock { $0.takeAll() }
    }

    /// Waits for what the inbox gives, woken by hints of this urgency.
    private func take<Result>(
        from urgency: Urgency, timeout: Duration?, _ attempt: (inout CaptureInbox) -> Result?
    ) -> Result? {
        parts.inbox.withLock { $0.awaited = urgency }
        defer { parts.inbox.withLock { $0.awaited = nil } }
        return parts.inbox.take(timeout: timeout, attempt)
    }

    private func waitingTime() -> Duration? {
        let now = MonotonicTime.now()
        let commit = isCommitted ? nil : max(.zero, Self.commitInterval - (now - lastCommit))
        let next = [dirty.nextTake, audit.nextDeadline].compactMap { $0 }.min()
        let retry = next.map { $0 <= now ? .zero : $0 - now }
        switch (commit, retry) {
        case (let commit?, let retry?): return min(commit, retry)
        case (let one?, nil), (nil, let one?): return one
        case (nil, nil): return nil
        }
    }

    private func absorb(_ inbox: CaptureInbox) throws {
        for (path, status) in inbox.baseline where try parts.catalogue.entry(path) == nil && !isGoneMeanwhile(path) {
            try parts.catalogue.set(path, CatalogueEntry(status, digest: nil))
            isCommitted = false
        }
        // The sweep compared them with rows that may be a second old.
        for path in inbox.suspects where try differsFromRow(path) { dirty.suspect(path) }
        for path in inbox.resends {
            // What is gone is told to be gone.
            audit.note(.name(path))
            try forgetShippedOrAlarm(path)
        }
        // After those: a cookie among them may be about them.
        absorb(inbox.hints)
        if inbox.wantsDurableCatalogue { (wantsDurableCatalogue, isCommitted) = (true, false) }
        if inbox.sweptThrough > 0 { endSweeps(through: inbox.sweptThrough) }
        for request in inbox.seedRequests { try absorb(request) }
        for request in inbox.checkRequests { audit.begin(request, &dirty) }
        if !inbox.repairs.isEmpty { try absorb(inbox.repairs) }
    }

    private func isGoneMeanwhile(_ path: StorePath) -> Bool {
        guard !goneMeanwhile.isEmpty else { return false }
        var place = path
        while !place.isRoot, !goneMeanwhile.contains(place) { place = place.parent }
        return !place.isRoot
    }

    private func absorb(_ hints: [Hint]) {
        let due = MonotonicTime.now() + Self.gatherInterval
        for hint in hints { absorb(hint, due: due) }
    }

    /// What they found is dirty: the cookies of before are due after that, also if another is out since.
    private func endSweeps(through swept: UInt64) {
        for cookie in heldCookies where cookie.sweep <= swept { dirty.note(cookie: cookie.number) }
        heldCookies.removeAll { $0.sweep <= swept }
        guard let awaited = awaitedSweep, awaited <= swept else { return }
        awaitedSweep = nil
        guard !isGrounded else { return }
        (isGrounded, goneMeanwhile) = (true, [])
        if parts.isCatalogueDurable { return parts.grounded() }
        (isGrounding, wantsDurableCatalogue, isCommitted) = (true, true, false)
    }

    private func absorb(_ hint: Hint, due: MonotonicTime) {
        audit.note(hint)
        switch hint {
        case .name(let path): dirty.mark(path, notBefore: path == deliveries ? due + Self.deliveriesInterval : due)
        case .directory(let directory): dirty.markAll(directory)
        case .released(let user):
            let owner: OwnerFinder.Owner = user.isEmpty ? .shared : .user(user)
            // What is not known to be somebody else's may well be theirs.
            dirty.hurry { owners[$0] ?? owner == owner }
        case .cookie(let number) where ownCookies.remove(number) != nil: break
        case .cookie(let number):
            if let awaitedSweep {
                heldCookies.append((number, awaitedSweep))
            } else {
                dirty.note(cookie: number)
            }
            dirty.hurry { _ in true }
        case .overflow:
            parts.log.warning("inotify's queue overflowed: looking everywhere")
            awaitedSweep = parts.sweepWanted()
            (hasLookedAtIndexes, nextLookAtIndexes) = (false, .now())
        }
    }

    func differsFromRow(_ path: StorePath) throws -> Bool {
        let entry = try parts.catalogue.entry(path)
        guard let status = try parts.roots.status(of: path) else { return entry != nil }
        return entry.map { !$0.stillDescribes(status, asMessage: isMessage(path)) } ?? true
    }

    private func commitIfDue() throws {
        guard !isCommitted, isGrounding || MonotonicTime.now() - lastCommit >= Self.commitInterval else { return }
        let position = parts.journal.flushed.position
        try parts.catalogue.commit(at: position, durably: wantsDurableCatalogue)
        lastCommit = .now()
        // Where a reader was in the way it is tried again at once; who trims asks again.
        guard !isGrounding || parts.catalogue.durablePosition == position else { return }
        if isGrounding { parts.grounded() }
        isGrounding = false
        isCommitted = true
        wantsDurableCatalogue = false
    }

    // MARK: - a round

    private func round() throws {
        audit.roundBegins()
        let taken = dirty.take(now: .now())
        if !taken.isEmpty {
            roundNumber += 1
            var round = CaptureRound()
            round.tellsOfUnknown = parts.isSeeding()
            reader.tellsOfUnknown = round.tellsOfUnknown || !isGrounded
            try sort(taken, into: &round)
            try readAll(&round)
            try settleMailboxList(&round)
            try finish(&round)
        }
        try closeChecks()
        for cookie in dirty.takeDueCookies() { parts.cookieDue(cookie, parts.journal.flushed.position) }
        let patiences = [mailboxListPatience, makersPatience, deliveriesPatience, lossPatience, sharedPatience]
        parts.status.update { status in
            status.dirtyCount = dirty.count
            status.unsettledCount = patiences.reduce(0) { $0 + $1.endCount }
        }
    }

    func readAll(_ round: inout CaptureRound) throws {
        if !round.globals.isEmpty { try readGlobals(&round) }
        try readUsers(&round)
        try waitForMakers(&round)
    }

    func sort(_ taken: [DirtySet.Dirt], into round: inout CaptureRound) throws {
        if taken.contains(where: Self.mayChangeOwner) || owners.count > Self.ownerCountMax { owners = [:] }
        for dirt in taken {
            var byOwner: [OwnerFinder.Owner: [[UInt8]]] = [:]
            do {
                let (names, tooLongCount) = try reader.names(of: dirt)
                if tooLongCount > 0 {
                    alarm(dirt.directory, .tooLong(tooLongCount))
                } else if case .all = dirt.names {
                    parts.status.update { _ = $0.alarms.removeValue(forKey: dirt.directory) }
                }
                for name in names {
                    let path = dirt.directory.appending(name)
                    if dirt.isSuspicion { round.suspicions.insert(path) }
                    byOwner[try owner(of: path, in: dirt.directory), default: []].append(name)
                }
            } catch let error as SystemError {
                alarm(dirt.directory, .system(error))
                if error.isShortage { dirty.putBack(dirt, now: .now()) }
            }
            for (owner, names) in byOwner {
                let job = CaptureJob(dirt, names: names)
                if owner == .none, try isBeingMade(dirt) {
                    round.note(busy: [job], of: owner)
                } else {
                    round.add(job, of: owner)
                }
            }
        }
    }

    /// In a mailbox's directory all names have one owner; elsewhere each is asked.
    func owner(of path: StorePath, in directory: StorePath) throws(SystemError) -> OwnerFinder.Owner {
        let place = DirtySet.place(of: path)
        if let known = owners[place] { return known }
        let isDirectory = try parts.roots.status(of: path)?.kind == .directory
        let owner = try finder.owner(of: path, isDirectory: isDirectory)
        // One that is being made has no owner yet, and will have.
        if owner != .none || place.root == .configuration, !isDirectory { owners[place] = owner }
        return owner
    }

    static func mayChangeOwner(_ dirt: DirtySet.Dirt) -> Bool {
        switch dirt.names {
        case .all: true
        case .some(let names): names.contains(headerName)
        }
    }

    static let headerName = Array("cyrus.header".utf8)

    /// A mailbox that has an index and no header yet is just being made: whose it is shows in a moment.
    private func isBeingMade(_ dirt: DirtySet.Dirt) throws(SystemError) -> Bool {
        guard RootKind(dirt.directory.root).holdsMailboxes, dirt.backoff < DirtySet.backoffMax else { return false }
        return try parts.roots.status(of: dirt.directory.appending("cyrus.index")) != nil
    }

    /// Whether there is an event of all that changes. No sweep is out, and no directory without a watch.
    var areChangesTold: Bool { awaitedSweep == nil && parts.isAllWatched() }

    /// Whether what was shipped has a row: of a new catalogue the first sweep has to report before.
    var knowsShipped: Bool { isGrounded || parts.isCatalogueDurable }

    /// Waits until all events of before this call have come; returns whether they have.
    func fetchEvents() throws -> Bool {
        let haveCome = try fetchEvents(within: .seconds(5))
        if !haveCome {
            let why = "no events for 5 s: what users have changed waits for them"
            if !isSilent { parts.log.error("paused: \(why)") }
            parts.status.update {
                ($0.lastError, $0.isPaused) = (CaptureStatus.Alarm(why: why, since: parts.now()), true)
            }
        } else if isSilent {
            parts.status.update { $0.isPaused = false }
        }
        isSilent = !haveCome
        return haveCome
    }

    func fetchEvents(within timeout: Duration) throws -> Bool {
        let cookie = try parts.makeCookie()
        ownCookies.insert(cookie)
        guard let hints = take(from: .now, timeout: timeout, { $0.takeHints(with: cookie) }) else { return false }
        absorb(hints)
        return !ownCookies.contains(cookie)
    }

    /// Ships the rest, mailboxes.db last; puts back what could not be read.
    private func finish(_ round: inout CaptureRound) throws {
        if !round.busyUsers.isEmpty { putOffDeliveries(&round) }
        // Those were read first.
        round.captured = round.capturedGlobals + round.captured
        round.capturedGlobals = []
        try ship(&round)
        let now = MonotonicTime.now()
        let unread = Array(round.users.values.joined()) + round.busy.values.joined()
        for job in unread { dirty.putBack(job.dirt, now: now) }
        for path in round.unshipped { dirty.putBack(CaptureJob(path, since: 0).dirt, now: now) }
        deliver(round.seeded)
        let waiting = waitingSeeds
        waitingSeeds = []
        for request in waiting { try absorb(request) }
    }

    func isMessage(_ path: StorePath) -> Bool {
        parts.roots.layout.isMessage(path)
    }

    private func noteShipped() {
        hasShipped = true
        parts.status.update { $0.lastShipped = .now() }
    }

    func ship(_ round: inout CaptureRound) throws {
        try readAnnotations(&round)
        try shipCaptured(&round)
        for job in round.takeLogged() { audit.looked(at: job.directory, job.names) }
    }

    func shipCaptured(_ round: inout CaptureRound) throws {
        isCommitted = false
        if !round.captured.isEmpty { noteShipped() }
        round.forgetOlderGlobals()
        try shipper.ship(&round)
    }
}

import Digests
import Formats
import Linux

/// One directory's names that have one owner, to be read together.
struct CaptureJob {
    let directory: StorePath
    var names: Set<[UInt8]>
    /// As of the dirt it came from.
    private var since: UInt64
    private var backoff: Duration
    private var isSuspicion: Bool

    init(_ dirt: DirtySet.Dirt, names: [[UInt8]]) {
        directory = dirt.directory
        self.names = Set(names)
        since = dirt.since
        backoff = dirt.backoff
        isSuspicion = dirt.isSuspicion
    }

    /// The same work, on some of its names.
    func only(_ some: Set<[UInt8]>) -> CaptureJob {
        var job = self
        job.names = some
        return job
    }

    /// For what is put off.
    init(_ path: StorePath, since: UInt64) {
        directory = path.parent
        names = [Array(path.name)]
        self.since = since
        backoff = DirtySet.backoffFirst
        isSuspicion = false
    }

    mutating func merge(_ other: CaptureJob) {
        names.formUnion(other.names)
        since = min(since, other.since)
        backoff = max(backoff, other.backoff)
        isSuspicion = isSuspicion && other.isSuspicion
    }

    /// It was tried several times.
    var isOverdue: Bool { backoff >= DirtySet.backoffMax }

    var paths: [StorePath] { names.map { directory.appending($0) } }

    /// For another round.
    var dirt: DirtySet.Dirt {
        DirtySet.Dirt(
            directory: directory, names: .some(names), since: since, newest: since, backoff: backoff,
            isSuspicion: isSuspicion)
    }
}

/// What one round of capture has in hand.
struct CaptureRound {
    /// Of nobody, each with a lock of its own or none.
    private(set) var globals: [CaptureJob] = []
    /// Of a user, to be read under one lock; gone when it was.
    var users: [OwnerFinder.Owner: [CaptureJob]] = [:]
    /// In the order they came, so that nobody waits for ever.
    private(set) var order: [OwnerFinder.Owner] = []
    private(set) var busy: [OwnerFinder.Owner: [CaptureJob]] = [:]
    /// Read, and not in the log yet.
    private var readJobs: [OwnerFinder.Owner: [CaptureJob]] = [:]
    /// All that was dirty of its users by this mark was taken.
    var takenThrough: UInt64 = 0
    /// Users of whom there may be more to be read, which belongs to that.
    var unsettled: Set<OwnerFinder.Owner> = []
    /// Users of whom a mailbox that is not in the log yet has messages no more, which may have been moved to others.
    private(set) var losers: Set<OwnerFinder.Owner> = []
    /// Something was read that may lack what others have: such a mailbox, or deliver.db.
    var lacksOthers = false
    /// All indexes were looked at, as events do not tell of all.
    var hasLookedAround = false
    /// Events do not come: nobody's files can be known to be a whole.
    var isBlind = false
    /// They did not come in time under a lock: they are not waited for under another.
    var isLate = false
    var captured: [Captured] = []
    private(set) var capturedBytes = 0
    /// Of messages among these.
    private(set) var messageBytes = 0
    /// Files that these hold open.
    private(set) var openCount = 0
    /// Shipped last: nothing may refer to what is not there yet.
    var capturedGlobals: [Captured] = []
    /// It names a mailbox that is being made, and comes in another round.
    var isMailboxListHeld = false
    var shippedMessages: Set<StorePath> = []
    var linkTargets: LinkTargets = [:]
    /// Missed events, if these turn out to differ.
    var suspicions: Set<StorePath> = []
    /// What was read and could not be encoded, for want of room or descriptors.
    var unshipped: [StorePath] = []
    /// That a name is gone is told even if there is no row of it: a seed may have read it before it went.
    var tellsOfUnknown = false
    /// Asked for by seeds; nothing where there is no file.
    var seeded: [StorePath: FileVersion?] = [:]

    /// A directory's names are read once in a round, however often they came.
    mutating func add(_ job: CaptureJob, of owner: OwnerFinder.Owner) {
        guard owner != .none else {
            return Self.merge(job, into: &globals)
        }
        if users[owner] == nil, !order.contains(owner) { order.append(owner) }
        Self.merge(job, into: &users[owner, default: []])
    }

    /// Those of nobody, to be read now; `last` stays, if it is among them.
    mutating func takeGlobals(leaving last: StorePath? = nil) -> [CaptureJob] {
        var (now, later): ([CaptureJob], [CaptureJob]) = ([], [])
        for job in globals {
            let stays = job.names.filter { job.directory.appending($0) == last }
            if !stays.isEmpty { later.append(job.only(stays)) }
            if stays.count < job.names.count { now.append(job.only(job.names.subtracting(stays))) }
        }
        globals = later
        return now
    }

    mutating func note(busy jobs: [CaptureJob], of owner: OwnerFinder.Owner) {
        users[owner] = nil
        for job in jobs { Self.merge(job, into: &busy[owner, default: []]) }
    }

    private static func merge(_ job: CaptureJob, into jobs: inout [CaptureJob]) {
        if let index = jobs.firstIndex(where: { $0.directory == job.directory }) {
            jobs[index].merge(job)
        } else {
            jobs.append(job)
        }
    }

    mutating func add(_ found: [Captured]) {
        captured.append(contentsOf: found)
        capturedBytes += found.reduce(0) { $0 + $1.heldBytes }
        messageBytes += found.reduce(0) { $0 + ($1.isMessage ? $1.heldBytes : 0) }
        openCount += found.reduce(0) { $0 + ($1.isOpen ? 1 : 0) }
    }

    /// What was read of `owner`, as all there is of `jobs`, if these were read before.
    mutating func add(_ found: [Captured], of owner: OwnerFinder.Owner, insteadOf jobs: [CaptureJob]) {
        if !jobs.isEmpty, !captured.isEmpty {
            let paths = Set(jobs.flatMap(\.paths))
            let others = takeCaptured().filter { !paths.contains($0.path) }
            add(others)
        }
        add(found)
        guard found.contains(where: \.losesMessages), !Simulation.isMutated(.othersLater) else { return }
        losers.insert(owner)
        lacksOthers = true
    }

    /// Where mailboxes were that are gone, and nobody's: their messages may have been moved to others before.
    var removedPlaces: Set<[UInt8]> {
        Set(capturedGlobals.filter(\.losesMessages).map { Array($0.path.parent.path) })
    }

    mutating func forgetCaptured() {
        captured = []
        (capturedBytes, messageBytes, openCount) = (0, 0, 0)
    }

    mutating func takeCaptured() -> [Captured] {
        defer { forgetCaptured() }
        return captured
    }

    /// What the kernel said of files that were read.
    var capturedStatus: [StorePath: FileStatus] {
        var known: [StorePath: FileStatus] = [:]
        for item in captured { if case .file(let version, _) = item.found { known[item.path] = version.status } }
        return known
    }

    /// Whether something of theirs was read that is not in the log yet.
    func isRead(_ owner: OwnerFinder.Owner) -> Bool { readJobs[owner]?.isEmpty == false }

    /// Those somebody is busy with.
    var busyUsers: [OwnerFinder.Owner] { busy.keys.filter { $0 != .none } }

    /// Messages of these that are in the log already changed since: they have rows by now.
    mutating func forgetShipped(_ taken: [DirtySet.Dirt]) {
        guard !shippedMessages.isEmpty else { return }
        for dirt in taken {
            switch dirt.names {
            case .some(let names): for name in names { shippedMessages.remove(dirt.directory.appending(name)) }
            case .all: shippedMessages = shippedMessages.filter { $0.parent != dirt.directory }
            }
        }
    }

    /// They are to be read once more in this round.
    mutating func takeBusy(_ owner: OwnerFinder.Owner) {
        for job in busy.removeValue(forKey: owner) ?? [] { add(job, of: owner) }
    }

    /// What is about to be shipped was read after those.
    mutating func forgetOlderGlobals() {
        guard !capturedGlobals.isEmpty else { return }
        let newer = Set(captured.map(\.path))
        capturedGlobals.removeAll { newer.contains($0.path) }
    }

    /// What was read of a user.
    enum Standing {
        /// All there was at one moment.
        case whole
        /// There may be more, of which no event has told yet.
        case provisional
    }

    mutating func note(read jobs: [CaptureJob], of owner: OwnerFinder.Owner, _ standing: Standing = .whole) {
        switch standing {
        case .whole: unsettled.remove(owner)
        case .provisional: unsettled.insert(owner)
        }
        for job in jobs { Self.merge(job, into: &readJobs[owner, default: []]) }
    }

    /// What was read and is in the log now; that of nobody only when none of it is still to be shipped.
    mutating func takeLogged() -> [CaptureJob] {
        let waiting = capturedGlobals.isEmpty ? nil : readJobs.removeValue(forKey: .none)
        let logged = Array(readJobs.values.joined())
        readJobs = [:]
        readJobs[.none] = waiting
        losers = []
        return logged
    }

    /// All that was taken and is not in the log yet, as if it had never been read; what somebody was busy with, too.
    mutating func takeBack() -> [DirtySet.Dirt] {
        let jobs = Array(readJobs.values.joined()) + busy.values.joined()
        (readJobs, busy, unsettled, losers, lacksOthers) = ([:], [:], [], [], false)
        forgetCaptured()
        capturedGlobals = []
        // They have rows by now, and may have changed since.
        shippedMessages = []
        forgetSeeded(jobs)
        return jobs.map(\.dirt).sorted { $0.since < $1.since }
    }

    private mutating func forgetSeeded(_ jobs: [CaptureJob]) {
        for path in jobs.flatMap(\.paths) { seeded[path] = nil }
    }

    /// All of theirs that is not in the log yet, as if somebody had been busy with it.
    mutating func putOff(_ owner: OwnerFinder.Owner) {
        losers.remove(owner)
        guard let read = readJobs.removeValue(forKey: owner) else { return }
        let jobs = read + (users[owner] ?? [])
        forgetCaptured(of: jobs)
        forgetSeeded(jobs)
        note(busy: jobs, of: owner)
    }

    /// The mailboxes at these places, in whichever root, and `path`, as if they had never been read: as if somebody had been
    /// busy with them. With a mailbox goes all that was read under the same user's lock.
    mutating func putOff(mailboxesAt places: Set<[UInt8]>, and path: StorePath) {
        func isMeant(_ path: StorePath) -> Bool {
            RootKind(path.root).holdsMailboxes && places.contains(path.path)
        }
        var off: [CaptureJob] = []
        for (owner, jobs) in readJobs {
            let isAll = owner != .none && jobs.contains { isMeant($0.directory) || $0.paths.contains(where: isMeant) }
            readJobs[owner] = []
            for job in jobs {
                // A removed mailbox is a name in the directory above, too.
                let names = job.names.filter {
                    let its = job.directory.appending($0)
                    return isAll || isMeant(job.directory) || isMeant(its) || its == path
                }
                if !names.isEmpty { off.append(job.only(names)) }
                if names.count < job.names.count { readJobs[owner]?.append(job.only(job.names.subtracting(names))) }
            }
        }
        forgetCaptured(of: off)
        forgetSeeded(off)
        for job in off { note(busy: [job], of: .none) }
    }

    /// What these jobs gave, and what came along with them in their mailboxes and belongs to no other job.
    private mutating func forgetCaptured(of jobs: [CaptureJob]) {
        let (gone, others) = (Set(jobs.flatMap(\.paths)), Set(readJobs.values.joined().flatMap(\.paths)))
        let mailboxes = Set(jobs.map(\.directory).filter { RootKind($0.root).holdsMailboxes }.map(\.path))
        func stays(_ item: Captured) -> Bool {
            let place = item.path.parent
            let isAlong = RootKind(place.root).holdsMailboxes && mailboxes.contains(place.path)
            return !gone.contains(item.path) && (!isAlong || others.contains(item.path))
        }
        let staying = takeCaptured().filter(stays)
        add(staying)
        capturedGlobals = capturedGlobals.filter(stays)
    }
}

extension Captured {
    var isMessage: Bool { if case .message = found { true } else { false } }

    /// Bytes in memory, about.
    var heldBytes: Int {
        switch found {
        case .file(let version, _):
            switch version.content {
            case .whole(let bytes): bytes.count
            case .changedPages(let pages): pages.count * PageTable.pageBytes
            case .copied: 0
            }
        case .message(let message): min(Int(message.status.byteCount), FileVersion.wholeBytesMax)
        case .directory, .symlink, .nothing: 100
        }
    }
}

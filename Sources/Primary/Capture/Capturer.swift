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
///   3. wait for the events of before that, so that what those databases refer to is dirty too
///   4. for each user: lock, read all that is dirty of theirs, unlock (`UnitReader`)
///   5. encode in the order of dependence (`ApplyRank`), seal, append, flush once
///   6. note in catalogue and shadows; tell the shippers
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
        /// The log has grown.
        let journaled: @Sendable (Position) -> Void
        /// All that was written before the cookie was made is in the log up to here.
        let cookieDue: @Sendable (UInt64, Position) -> Void
        /// An event queue overflowed: everything is to be looked at.
        let sweepWanted: @Sendable () -> Void
        let now: @Sendable () -> Timestamp
        let log: Logger
    }

    private let parts: Parts
    private let epoch: Epoch
    private let shadows: ShadowStore
    private let reader: UnitReader
    private let encoder: RecordEncoder
    private let finder: OwnerFinder
    private var dirty = DirtySet()
    private var seedRequests: [StorePath: SeedRequest] = [:]
    private var lastCommit = MonotonicTime.now()
    private var isCommitted = true
    /// Our own, while `fetchEvents` waits for it.
    private var awaitedCookie: UInt64?

    private static let commitInterval = Duration.seconds(1)
    private static let captureBytesMax = 8 << 20
    private static let batchBytes = 4 << 20
    /// How long mailboxes.db waits for users who are writing, and how often it is read again.
    private static let busyWait = Duration.milliseconds(30)
    private static let roundsMax = 3

    init(_ parts: Parts, epoch: Epoch, state: String) throws(SystemError) {
        self.parts = parts
        self.epoch = epoch
        shadows = try ShadowStore(state + "/shadow")
        let spare = try OwnFiles(state + "/spare")
        let alarm = Self.alarm(parts)
        reader = UnitReader(
            roots: parts.roots, catalogue: parts.catalogue, shadows: shadows, spare: spare, alarm: alarm)
        encoder = RecordEncoder(roots: parts.roots, catalogue: parts.catalogue, shadows: shadows, alarm: alarm)
        finder = OwnerFinder(roots: parts.roots)
    }

    private static func alarm(_ parts: Parts) -> (StorePath, String) -> Void {
        let (status, log, now) = (parts.status, parts.log, parts.now)
        return { path, why in
            let isNew = status.update { status in
                let known = status.alarms[path]
                status.alarms[path] = CaptureStatus.Alarm(why: why, since: known?.since ?? now())
                return known == nil
            }
            if isNew { log.error("\(path): \(why)") }
        }
    }

    // MARK: - loop

    /// Until told to stop.
    func run() throws {
        while true {
            let timeout = waitingTime()
            let inbox = parts.inbox.take(timeout: timeout) { inbox -> CaptureInbox? in
                guard !inbox.isEmpty else { return nil }
                defer { inbox = CaptureInbox() }
                return inbox
            }
            if let inbox { try absorb(inbox) }
            try round()
            try commitIfDue()
            if inbox?.isStopping == true { break }
        }
        try parts.catalogue.commit(at: parts.journal.flushed.position)
    }

    private func waitingTime() -> Duration? {
        let now = MonotonicTime.now()
        let commit = isCommitted ? nil : max(.zero, Self.commitInterval - (now - lastCommit))
        let retry = dirty.nextTake.map { $0 <= now ? .zero : $0 - now }
        switch (commit, retry) {
        case (let commit?, let retry?): return min(commit, retry)
        case (let one?, nil), (nil, let one?): return one
        case (nil, nil): return nil
        }
    }

    private func absorb(_ inbox: CaptureInbox) throws {
        for (path, status) in inbox.baseline where try parts.catalogue.entry(path) == nil {
            try parts.catalogue.set(path, CatalogueEntry(status, digest: nil))
            isCommitted = false
        }
        for hint in inbox.hints { absorb(hint) }
        for path in inbox.suspects where try isStillSuspect(path) { dirty.suspect(path) }
        for path in inbox.resends {
            try parts.catalogue.remove(path)
            dirty.mark(path)
        }
        for request in inbox.seedRequests { try absorb(request) }
    }

    /// Only what Cyrus changes is read for a seed; the messages it reads itself.
    private func absorb(_ request: SeedRequest) throws {
        let entries = try parts.roots.entries(of: request.directory) ?? []
        let paths = entries.filter { StorePath.isName($0.name) && $0.kind != .directory }
            .map { request.directory.appending($0.name) }
            .filter { parts.roots.isShipped($0) && !isMessage($0) }
        guard !paths.isEmpty else {
            return request.deliver(SeedDelivery(asOf: parts.journal.flushed.position, files: []))
        }
        seedRequests[request.directory] = request
        for path in paths { dirty.mark(path) }
    }

    private func isMessage(_ path: StorePath) -> Bool {
        if case .message = parts.roots.layout.role(of: path) { true } else { false }
    }

    private func absorb(_ hint: Hint) {
        switch hint {
        case .name(let path): dirty.mark(path)
        case .directory(let directory): dirty.markAll(directory)
        case .cookie(let number) where number == awaitedCookie: awaitedCookie = nil
        case .cookie(let number): dirty.note(cookie: number)
        case .overflow:
            parts.log.warning("inotify's queue overflowed: looking everywhere")
            parts.sweepWanted()
        }
    }

    /// The sweep compared with rows that may be a second old: once more, with today's.
    private func isStillSuspect(_ path: StorePath) throws -> Bool {
        let entry = try parts.catalogue.entry(path)
        guard let status = try parts.roots.status(of: path) else { return entry != nil }
        return entry.map { !$0.stillDescribes(status, asMessage: isMessage(path)) } ?? true
    }

    private func commitIfDue() throws {
        guard !isCommitted, MonotonicTime.now() - lastCommit >= Self.commitInterval else { return }
        try parts.catalogue.commit(at: parts.journal.flushed.position)
        isCommitted = true
        lastCommit = .now()
    }

    // MARK: - a round

    /// One directory's names that have one owner.
    private struct Job {
        var dirt: DirtySet.Dirt
        var names: [[UInt8]]

        var directory: StorePath { dirt.directory }
    }

    private func round() throws {
        let taken = dirty.take(now: .now())
        if !taken.isEmpty {
            var work = Work()
            try sort(taken, into: &work)
            if !work.globals.isEmpty { try readGlobals(&work) }
            try readUsers(&work)
            try finish(&work)
        }
        for cookie in dirty.takeDueCookies() { parts.cookieDue(cookie, parts.journal.flushed.position) }
        parts.status.update { $0.dirtyCount = dirty.count }
    }

    /// What a round has in hand.
    private struct Work {
        var globals: [Job] = []
        var users: [OwnerFinder.Owner: [Job]] = [:]
        /// In the order they came, so that nobody waits for ever.
        var order: [OwnerFinder.Owner] = []
        var captured: [Captured] = []
        var capturedBytes = 0
        /// Shipped last: nothing may refer to what is not there yet.
        var capturedGlobals: [Captured] = []
        var busy: [Job] = []
        var shippedMessages: Set<StorePath> = []
        var linkTargets: [UInt64: (path: StorePath, digest: Digest)] = [:]
        /// Missed events, if these turn out to differ.
        var suspicions: Set<StorePath> = []
        var seeded: [StorePath: [(path: StorePath, version: FileVersion)]] = [:]

        /// A directory's names are read once in a round, however often they came.
        mutating func add(_ job: Job, of owner: OwnerFinder.Owner) {
            guard owner != .none else { return globals.append(job) }
            guard var jobs = users[owner] else {
                order.append(owner)
                users[owner] = [job]
                return
            }
            if let index = jobs.firstIndex(where: { $0.directory == job.directory }) {
                let known = Set(jobs[index].names)
                jobs[index].names += job.names.filter { !known.contains($0) }
                jobs[index].dirt.names = .all
            } else {
                jobs.append(job)
            }
            users[owner] = jobs
        }
    }

    private func sort(_ taken: [DirtySet.Dirt], into work: inout Work) throws {
        for dirt in taken {
            var byOwner: [OwnerFinder.Owner: [[UInt8]]] = [:]
            for name in try reader.names(of: dirt) {
                let path = dirt.directory.appending(name)
                if dirt.isSuspicion { work.suspicions.insert(path) }
                let owner = try owner(of: path, in: dirt.directory)
                byOwner[owner, default: []].append(name)
            }
            for (owner, names) in byOwner {
                work.add(Job(dirt: dirt, names: names), of: owner)
            }
            if byOwner.isEmpty, let request = seedRequests.removeValue(forKey: dirt.directory) {
                request.deliver(SeedDelivery(asOf: parts.journal.flushed.position, files: []))
            }
        }
    }

    /// In a mailbox's directory all names have one owner; elsewhere each is asked.
    private func owner(of path: StorePath, in directory: StorePath) throws(SystemError) -> OwnerFinder.Owner {
        if RootKind(directory.root).holdsMailboxes, let known = ownerOfDirectory, known.directory == directory {
            return known.owner
        }
        let isDirectory = try parts.roots.status(of: path)?.kind == .directory
        let owner = try finder.owner(of: path, isDirectory: isDirectory)
        if RootKind(directory.root).holdsMailboxes, !isDirectory { ownerOfDirectory = (directory, owner) }
        return owner
    }
    private var ownerOfDirectory: (directory: StorePath, owner: OwnerFinder.Owner)?

    private func readGlobals(_ work: inout Work) throws {
        for job in work.globals { try readGlobal(job, into: &work) }
        work.globals = []
        // What mailboxes.db tells of was made before it, so its events are in the queue already: fetch them.
        guard work.capturedGlobals.contains(where: isMailboxesDatabase) else { return }
        try fetchEvents()
        try sort(dirty.take(now: .now()), into: &work)
        // What was read already stays as it was then, and is read again in the next round.
        let known = Set(work.capturedGlobals.map(\.path))
        for var job in work.globals {
            let again = job.names.filter { known.contains(job.directory.appending($0)) }
            for name in again { dirty.mark(job.directory.appending(name)) }
            job.names.removeAll { again.contains($0) }
            if !job.names.isEmpty { try readGlobal(job, into: &work) }
        }
    }

    private func isMailboxesDatabase(_ captured: Captured) -> Bool {
        parts.roots.layout.applyRank(of: captured.path) == .mailboxes
    }

    /// Waits until all events of before this call have come.
    private func fetchEvents() throws {
        awaitedCookie = try parts.makeCookie()
        while awaitedCookie != nil {
            let inbox = parts.inbox.take(timeout: .seconds(5)) { inbox -> CaptureInbox? in
                guard !inbox.isEmpty else { return nil }
                defer { inbox = CaptureInbox() }
                return inbox
            }
            guard let inbox else { return parts.log.warning("the watcher is silent; going on without it") }
            if inbox.isStopping { parts.inbox.withLock { $0.isStopping = true } }
            try absorb(inbox)
            if inbox.isStopping { break }
        }
    }

    private func readUsers(_ work: inout Work) throws {
        for owner in work.order {
            try readUser(owner, &work)
            if work.capturedBytes > Self.captureBytesMax { try ship(&work) }
        }
        guard !work.busy.isEmpty, work.capturedGlobals.contains(where: isMailboxesDatabase) else { return }
        // mailboxes.db may name a mailbox that one of these is just making: give them a moment to finish.
        let deadline = MonotonicTime.now() + Self.busyWait
        while !work.busy.isEmpty, MonotonicTime.now() < deadline {
            _ = parts.inbox.wait(timeout: .microseconds(500)) { _ in false }
            let again = Set(work.busy.map(\.directory))
            work.busy.removeAll { job in work.users.values.contains { $0.contains { $0.directory == job.directory } } }
            for (owner, jobs) in work.users where jobs.contains(where: { again.contains($0.directory) }) {
                try readUser(owner, &work)
            }
            if work.busy.allSatisfy({ job in !again.contains(job.directory) }) { break }
        }
    }

    /// All that is dirty of one user, under one lock.
    private func readUser(_ owner: OwnerFinder.Owner, _ work: inout Work) throws {
        guard var jobs = work.users[owner] else { return }
        try shipManyAhead(&jobs, &work)
        let user: [UInt8]?
        switch owner {
        case .user(let name): user = name
        case .shared, .none: user = nil
        }
        // Twice at most: once more after the messages that were too many went ahead.
        for _ in 0..<2 {
            guard let lock = try parts.locks.tryUserLock(user) else { return note(busy: jobs, &work) }
            let start = MonotonicTime.now()
            var captured: [Captured] = []
            var ahead: [StorePath] = []
            var isBusy = false
            reading: for job in jobs {
                switch try read(job, work) {
                case .read(let found): captured.append(contentsOf: found)
                case .messagesFirst(let paths): ahead.append(contentsOf: paths)
                case .busy:
                    isBusy = true
                    break reading
                }
            }
            let isWhole = try parts.locks.release(lock)
            parts.status.update { $0.lockHolds.add(.now() - start) }
            guard isWhole, !isBusy else { return note(busy: jobs, &work) }
            if ahead.isEmpty {
                for job in jobs { noteSeed(job.dirt.directory, captured, &work) }
                return add(captured, to: &work)
            }
            try shipAhead(ahead, &work)
        }
        note(busy: jobs, &work)
    }

    /// Where many messages are dirty, they go first: to look at each under the lock would take too long.
    private func shipManyAhead(_ jobs: inout [Job], _ work: inout Work) throws {
        for index in jobs.indices {
            let directory = jobs[index].directory
            let messages = jobs[index].names.filter { isMessage(directory.appending($0)) }
            guard messages.count > UnitReader.openMessagesMax else { continue }
            try shipAhead(messages.map { directory.appending($0) }, &work)
            let shipped = Set(messages)
            jobs[index].names.removeAll { shipped.contains($0) }
        }
    }

    private func note(busy jobs: [Job], _ work: inout Work) {
        work.busy.append(contentsOf: jobs)
        parts.status.update { $0.busyCount += 1 }
    }

    private func read(_ job: Job, _ work: Work) throws -> UnitReader.Outcome {
        try reader.read(
            job.dirt.directory, job.names, shippedAlready: work.shippedMessages,
            wholly: seedRequests[job.dirt.directory] != nil)
    }

    private func readGlobal(_ job: Job, into work: inout Work) throws {
        switch try read(job, work) {
        case .read(let found):
            noteSeed(job.dirt.directory, found, &work)
            work.capturedGlobals.append(contentsOf: found)
        case .messagesFirst(let paths):
            try shipAhead(paths, &work)
            work.busy.append(job)
        case .busy:
            note(busy: [job], &work)
        }
    }

    private func add(_ captured: [Captured], to work: inout Work) {
        work.captured.append(contentsOf: captured)
        work.capturedBytes += captured.reduce(0) { $0 + $1.heldBytes }
    }

    /// A file of a directory that is asked for by a seed.
    private func noteSeed(_ directory: StorePath, _ captured: [Captured], _ work: inout Work) {
        guard seedRequests[directory] != nil else { return }
        for item in captured where item.path.parent == directory {
            if case .file(let version, _) = item.found { work.seeded[directory, default: []].append((item.path, version)) }
        }
        if work.seeded[directory] == nil { work.seeded[directory] = [] }
    }

    /// Messages need no lock to be read: they never change.
    private func shipAhead(_ paths: [StorePath], _ work: inout Work) throws {
        for path in paths where !work.shippedMessages.contains(path) {
            if let found = try reader.open(path, guid: nil) { add([found], to: &work) }
            work.shippedMessages.insert(path)
            if work.captured.count >= 256 || work.capturedBytes > Self.captureBytesMax { try ship(&work) }
        }
        try ship(&work)
    }

    /// Ships the rest, mailboxes.db last; puts back what could not be read.
    private func finish(_ work: inout Work) throws {
        if !work.busy.isEmpty, let index = work.capturedGlobals.firstIndex(where: isMailboxesDatabase) {
            // Somebody is still writing, maybe a mailbox that this mailboxes.db names already: it waits with them.
            dirty.mark(work.capturedGlobals.remove(at: index).path)
        }
        work.captured.append(contentsOf: work.capturedGlobals)
        work.capturedGlobals = []
        try ship(&work)
        let now = MonotonicTime.now()
        let busy = Set(work.busy.map(\.dirt.directory))
        for dirt in work.busy.map(\.dirt) { dirty.putBack(dirt, now: now) }
        let asOf = parts.journal.flushed.position
        for (directory, files) in work.seeded where !busy.contains(directory) {
            seedRequests.removeValue(forKey: directory)?.deliver(SeedDelivery(asOf: asOf, files: files))
        }
    }

    // MARK: - shipping

    /// Encodes and journals what was captured, and forgets it.
    private func ship(_ work: inout Work) throws {
        defer {
            work.captured = []
            work.capturedBytes = 0
        }
        let layout = parts.roots.layout
        func rank(_ captured: Captured) -> Int {
            if case .nothing = captured.found { return 100 }
            if case .directory = captured.found { return ApplyRank.directory.rawValue }
            return layout.applyRank(of: captured.path).rawValue
        }
        let ordered = work.captured.map { (rank($0), $0) }.sorted { ($0.0, $0.1.path) < ($1.0, $1.1.path) }
        var writer = BatchWriter(bytesMax: Self.batchBytes)
        var shipped: [Shipped] = []
        for (_, captured) in ordered {
            guard let encoded = try encode(captured, &work) else { continue }
            for record in encoded.records {
                writer.add(record)
                if writer.isFull { try append(&writer) }
            }
            if !encoded.records.isEmpty, work.suspicions.contains(captured.path) {
                parts.status.update { $0.missedCount += 1 }
            }
            shipped.append(encoded.shipped)
        }
        if !writer.isEmpty { try append(&writer) }
        if newest.position != parts.journal.flushed.position { try parts.journal.flush() }
        for item in shipped { try note(item) }
        parts.journaled(parts.journal.flushed.position)
    }

    /// One that fails is an alarm, and nobody else's concern.
    private func encode(_ captured: Captured, _ work: inout Work) throws -> RecordEncoder.Encoded? {
        do {
            let encoded = try encoder.encode(captured, linkTargets: &work.linkTargets)
            if encoded != nil { parts.status.update { _ = $0.alarms.removeValue(forKey: captured.path) } }
            return encoded
        } catch let error as SystemError {
            encoder.alarm(captured.path, "\(error)")
            return nil
        }
    }

    /// The newest batch appended, and the chain hash there.
    private var newest: (position: Position, hash: ChainHash) { parts.journal.newest }

    private func append(_ writer: inout BatchWriter) throws {
        let newest = newest
        let position = Position(epoch: epoch, sequence: newest.position.sequence.next)
        let batch = try writer.seal(at: position, after: newest.hash, time: parts.now())
        try parts.journal.append([batch])
        parts.status.update { status in
            status.batchCount += 1
            status.recordCount += UInt64(batch.header.recordCount)
            status.batchBytes += UInt64(batch.bytes.count)
        }
        writer = BatchWriter(bytesMax: Self.batchBytes)
    }

    private func note(_ item: Shipped) throws {
        isCommitted = false
        guard let entry = item.entry else {
            try parts.catalogue.remove(item.path)
            return try shadows.remove(item.path)
        }
        try parts.catalogue.set(item.path, entry)
        if let shadow = item.shadow { try shadows.update(item.path, to: shadow.version, from: shadow.old) }
    }
}

extension Captured {
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

private import Delta
private import Digests
package import Formats
package import Linux
package import Logging
package import ReplicationLog
package import Store
import Synchronization

/// The primary end: from a change in the mail store to an acknowledged batch.
///
/// Flow (each line is one thread, but for the last two, which are on the links' event loop):
///   1. watcher   kernel events  -> hints
///   2. sweeper   walks          -> suspects: what the events should have told
///   3. capturer  dirt           -> records -> sealed batch, appended and flushed
///   4. shippers  journal        -> links; acks move the slots
///   5. seeds     the store      -> a new replica (a thread each)
///
/// Reads the mail store, never writes it.
package final class Primary: Sendable {
    package struct Options: Sendable {
        /// The name of the store.
        package var store: String
        /// The state directory.
        package var state: String
        package var epoch: Epoch
        /// When this end was promoted; nothing: it never was a replica.
        package var promotedAt: Timestamp?
        package var sweepPeriod: Duration
        /// All contents are compared once in it; nothing: never by themselves.
        package var scrubPeriod: Duration?
        /// Bytes of journal kept for replicas that are away.
        package var journalBytesMax: Int
        /// Bytes of files that a replica may be sent whole through the log after its absence; for more it is seeded.
        package var jumpBytesMax: Int
        /// How long journal is kept for them.
        package var journalKeep: Duration
        /// The fingerprints of those who may connect.
        package var replicas: Set<String>
        /// How long segments of the journal are.
        package var segmentBytes: Int
        /// Of a batch before it is sealed, as far as what is in it can be parted.
        package var batchBytes = 4 << 20

        package init(
            store: String, state: String, epoch: Epoch, promotedAt: Timestamp? = nil, sweepPeriod: Duration,
            scrubPeriod: Duration?, journalBytesMax: Int, jumpBytesMax: Int? = nil, journalKeep: Duration,
            replicas: Set<String>, segmentBytes: Int = Journal.segmentBytes
        ) {
            self.store = store
            self.state = state
            self.epoch = epoch
            self.promotedAt = promotedAt
            self.sweepPeriod = sweepPeriod
            self.scrubPeriod = scrubPeriod
            self.journalBytesMax = journalBytesMax
            // Of a log that is too long half is dropped, and others go on meanwhile.
            self.jumpBytesMax = jumpBytesMax ?? journalBytesMax / 4
            self.journalKeep = journalKeep
            self.replicas = replicas
            self.segmentBytes = segmentBytes
        }
    }

    private let options: Options
    let roots: StoreRoots
    let locks: CyrusLocks
    let log: Logger
    let catalogue: Catalogue
    let journal: Journal
    let slots: Slots
    let watcher: Watcher
    let sweeper: Sweeper
    private let inbox = Condition(CaptureInbox())
    let captureStatus = SharedCaptureStatus()
    /// Checks under way.
    let desk: AuditDesk
    /// Told of audits that were asked for at a replica.
    let auditAsked = Mutex<AuditAsked?>(nil)
    /// In the order in which they came.
    private let shippers = Mutex<[Shipper]>([])
    let cookies = Condition<[UInt64: Position?]>([:])
    private let phase = Mutex(PrimaryStatus.Phase.starting)
    private let baseline: Timestamp?
    /// Whether an earlier life has left a catalogue.
    private let hadCatalogue: Bool
    /// Set when the catalogue tells of all that a replica could be given, and no power cut takes that from it. What is
    /// removed later is told only if there is a row of it.
    private let isGrounded = Condition(false)
    /// The newer primary that this one gives way to: from then on nothing is shipped, and nobody is let in.
    private let successor = Mutex<Epoch?>(nil)
    let isStopped = Atomic(false)
    let isEnded = Atomic(false)

    /// Opens the state in `options.state`, or begins it. The journal goes on where it ended, in `options.epoch`.
    /// Throws `StrangeRoot` if a root is another directory than in an earlier life.
    package init(_ options: Options, roots: StoreRoots, locks: CyrusLocks, log: Logger) throws {
        self.options = options
        self.roots = roots
        self.locks = locks
        self.log = log
        let known = try roots.known
        try KnownRoots(in: options.state).check(roots.layout, known, of: .primary)
        try known.save(in: options.state)
        let journalPath = options.state + "/journal"
        _ = try Directory.make(journalPath)
        let start = Position(epoch: options.epoch, sequence: SequenceNumber(0))
        journal = try Journal.open(
            in: journalPath, orStartAfter: start, hash: .zero, segmentBytes: options.segmentBytes)
        slots = try Slots(in: options.state)
        slots.keep(only: options.replicas)
        try Self.forgetStrangers(slots, end: journal.flushed.position, options.state, log)
        catalogue = try Catalogue(path: options.state + "/catalogue")
        desk = AuditDesk(inbox: inbox, firstNumber: UInt64(bitPattern: Timestamp.now().nanoseconds))
        watcher = try Watcher(roots, cookies: options.state + "/cookies", lockRoot: locks.directory, log: log)
        hadCatalogue = try catalogue.position() != nil
        // While no replica ever was here, none can lack what no row tells of; those of the primary before lack what came since.
        let isNew = !hadCatalogue && slots.all.isEmpty
        baseline = isNew ? options.promotedAt ?? Timestamp(nanoseconds: .max) : nil
        sweeper = Sweeper(
            Sweeper.Parts(
                roots: roots, catalogue: catalogue, inbox: inbox, status: captureStatus, period: options.sweepPeriod,
                now: Timestamp.now, log: log))
        try replay()
    }

    /// Where the journal was lost, or a part of it, its numbers are given again, to other batches, and what was known of the
    /// replicas was about those of before.
    private static func forgetStrangers(_ slots: Slots, end: Position, _ state: String, _ log: Logger) throws {
        let lost = slots.forget(beyond: end)
        guard !lost.isEmpty else { return }
        for name in lost {
            try MissedPaths.remove(in: state, replica: name)
            log.critical(
                "journal: ends at \(end), and \(name) had more of it: a part was lost; it is compared when it comes")
        }
        try slots.save()
    }

    /// The batches that the catalogue does not know of yet: a row of each path with the digest that was shipped, and of
    /// no file that there is, so that the first sweep looks at it.
    private func replay() throws {
        guard let position = try catalogue.position(), var cursor = journal.cursor(after: position),
            try journal.skip(&cursor, to: position)
        else { return }
        while let batch = try journal.read(&cursor, byteCountMax: 1).first {
            for record in try BatchReader.records(of: batch) {
                switch record.change {
                case .remove: try catalogue.remove(record.path)
                case .part, .keep, .check: continue
                case .directory: try catalogue.set(record.path, CatalogueEntry(shipped: nil, kind: .directory))
                case .symlink: try catalogue.set(record.path, CatalogueEntry(shipped: nil, kind: .symlink))
                case .whole, .extents, .delta, .assembled, .link, .metadata:
                    try catalogue.set(record.path, CatalogueEntry(shipped: record.result, kind: .file))
                }
            }
        }
        // Durably: what a host that loses power again and again ships anew is of its last life only.
        try catalogue.commit(at: journal.flushed.position, durably: true)
    }

    // MARK: - running

    /// Runs until `stop`, or until something fails that cannot be gone on without.
    package func run() async throws {
        let capturer = CapturerParts(self)
        defer {
            catalogue.close()
            isEnded.store(true, ordering: .relaxed)
            cookies.update { _ in }
            acks.update { _ in }
            // It holds this primary, and with it the watches, which a later one needs.
            running.withLock { $0 = nil }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await Thread.run(name: "watch") { try self.watch() } }
            group.addTask {
                // The capturer's last round waits for events, too.
                defer { self.watcher.stop() }
                try await Thread.run(name: "capture") { try capturer.run() }
            }
            group.addTask {
                // What changes while the tree is being watched is found by the sweep, so that comes after.
                guard await self.isWatching() else { return }
                try await Thread.run(name: "sweep") { try self.sweep() }
            }
            if let scrub = try scrub() {
                group.addTask {
                    try await Thread.run(name: "scrub") { scrub.runContent() }
                }
                group.addTask {
                    try await Thread.run(name: "scrub-metadata") { scrub.runMetadata() }
                }
            }
            defer { stop() }
            while try await group.next() != nil { stop() }
        }
        try slots.save()
    }

    /// The continuous audit, if there is to be one.
    private func scrub() throws -> Scrub? {
        guard let period = options.scrubPeriod else { return nil }
        let scrub = try Scrub(self, period: period, directory: options.state)
        running.withLock { $0 = scrub }
        return scrub
    }

    private let running = Mutex<Scrub?>(nil)

    /// Captures once more what is dirty and need not wait, and ends `run`; the rest is found at the next start.
    package func stop() {
        isStopped.store(true, ordering: .relaxed)
        inbox.update { $0.isStopping = true }
        desk.stop()
        sweeper.stop()
        watching.resume(returning: false)
    }

    private let watching = Once<Bool>()

    private func isWatching() async -> Bool { await watching.value }

    private func watch() throws {
        defer { inbox.update { $0.isUnwatched = true } }
        try watcher.run { hints in
            self.take(hints)
        } watching: {
            watching.resume(returning: true)
        }
    }

    /// Wakes the capturer only for what it would act on: a delivery makes some dozen events, and the last counts.
    private func take(_ hints: [Hint]) {
        if inbox.withLock({ $0.add(hints) }) { inbox.update { _ in } }
    }

    private func sweep() throws {
        try sweeper.run(baseline: baseline) {
            phase.withLock { $0 = .streaming }
            log.info("watching \(watcher.watchCounts.watched) directories")
        }
    }

    /// What the capturer's thread is made of; the capturer itself lives on that thread alone.
    private struct CapturerParts: Sendable {
        let primary: Primary

        init(_ primary: Primary) { self.primary = primary }

        func run() throws {
            let primary = primary
            let parts = Capturer.Parts(
                roots: primary.roots, locks: primary.locks, catalogue: primary.catalogue, journal: primary.journal,
                inbox: primary.inbox, status: primary.captureStatus,
                makeCookie: { () throws(SystemError) in try primary.watcher.makeCookie() },
                pausing: { primary.watcher.nobodyLooks(before: $0) },
                journaled: { _ in primary.logGrew() },
                cookieDue: { number, position in primary.cookies.update { $0[number] = .some(position) } },
                sweepWanted: { primary.sweeper.sweepSoon() },
                isAllWatched: { primary.watcher.watchCounts.isComplete }, isCatalogueDurable: primary.hadCatalogue,
                grounded: { primary.isGrounded.update { $0 = true } },
                isSeeding: { primary.slots.all.values.contains(where: \.isSeeding) }, now: Timestamp.now,
                batchBytes: primary.options.batchBytes, log: primary.log)
            try Capturer(parts, epoch: primary.options.epoch, state: primary.options.state).run()
        }
    }

    private func logGrew() {
        for shipper in shippers.withLock({ $0 }) { shipper.logGrew() }
    }

    /// Nothing, unless `error`, of `init`, `run` or `trim`, is that something ran out, as the space under the state
    /// directory; else what the operator can do about it.
    package static func shortageHint(of error: any Error) -> String? {
        switch error {
        case let error as SystemError where error.isShortage: error.shortageHint
        case JournalError.system(let error) where error.isShortage: error.shortageHint
        case let error as CatalogueError: error.shortage?.shortageHint
        default: nil
        }
    }

    // MARK: - replicas

    /// For `LinkEndpoint.listen`. `deposed` is called when a newer primary makes itself known, and returns whether that is on disk;
    /// `refused` with who was not let in, and why.
    package func makeLinkUser(
        deposed: @escaping @Sendable (Epoch) -> Bool, refused: @escaping @Sendable (String) -> Void = { _ in }
    ) -> any LinkUser {
        Shipper(
            Shipper.Parts(
                journal: journal, slots: slots, store: options.store, epoch: options.epoch, naming: roots.layout.naming,
                inbox: inbox,
                seeder: Seeder(
                    roots: roots, journal: journal, slots: slots, catalogue: catalogue, inbox: inbox,
                    isGrounded: isGrounded,
                    positionNow: { (isWanted) throws(SystemError) in try self.positionNow(while: isWanted) },
                    now: Timestamp.now, log: log),
                mayStream: { self.hadCatalogue || self.isGrounded.withLock { $0 } },
                missed: { (replica) throws(SystemError) in try MissedPaths(in: self.options.state, replica: replica) },
                mayJump: { (paths) throws(SystemError) in
                    try self.byteCount(of: paths) <= self.options.jumpBytesMax
                },
                resend: { paths, done in self.resend(paths, then: done) },
                successor: { self.successor.withLock { $0 } },
                deposed: { epoch, teller in
                    // Before anything else: what `deposed` ends captures once more.
                    self.giveWay(to: epoch, teller)
                    return deposed(epoch)
                },
                refused: { why in
                    self.log.warning("refused \(why)")
                    refused(why)
                }, now: Timestamp.now, log: log, desk: desk,
                auditAsked: { request in self.auditAsked.withLock { $0 }?(request) }, acked: { self.slotsMoved() },
                opened: { shipper in self.shippers.withLock { $0.append(shipper) } },
                closed: { shipper, peer in
                    self.shippers.withLock { shippers in
                        shippers.removeAll { $0 === shipper }
                        return !shippers.contains { $0.serves(peer) }
                    }
                }))
    }

    /// Ends all links but the one over which this was told, which hears what comes of it.
    private func giveWay(to epoch: Epoch, _ teller: Shipper) {
        successor.withLock { $0 = epoch }
        for shipper in shippers.withLock({ $0 }) where shipper !== teller { shipper.giveWay() }
    }

    /// Of what is there; what cannot be looked at is told when it is captured.
    private func byteCount(of paths: Set<StorePath>) throws(SystemError) -> Int {
        var count = 0
        for path in paths {
            do throws(SystemError) {
                count += Int(try roots.status(of: path)?.byteCount ?? 0)
            } catch {
                if error.isShortage { throw error }
            }
        }
        return count
    }

    let acks = Condition(())

    private func slotsMoved() {
        acks.update { _ in }
    }

    /// Has `paths` captured as if nobody had them; `done` is told the position at which they are in the log.
    private func resend(_ paths: Set<StorePath>, then done: @escaping @Sendable (Position) -> Void) {
        do {
            inbox.update { $0.resends.append(contentsOf: paths) }
            _ = try Thread.start(name: "resend") { self.awaitResent(done) }
        } catch {
            log.error("\(error)")
        }
    }

    /// The replica waits as long as its link lives.
    private func awaitResent(_ done: @Sendable (Position) -> Void) {
        do throws(SystemError) {
            if let position = try positionNow(while: { true }) { done(position) }
        } catch {
            log.error("\(error)")
        }
    }

    /// Drops the log that every replica has, by whole segments; and what is more than may be kept, noting for those
    /// who lack it what it was about.
    package func trim() throws {
        try slots.save()
        let isEarly = Simulation.isMutated(.trimEarly)
        var goal = isEarly ? journal.flushed.position : neededAfter
        if let cap = try cap(), cap > goal {
            try noteMissed(through: cap)
            goal = cap
        }
        guard goal > journal.oldest, journal.holds(before: goal) else { return }
        // The batches that the catalogue does not know of are needed when the daemon starts again.
        let durable = catalogue.durablePosition ?? journal.oldest
        if durable < goal { inbox.update { $0.wantsDurableCatalogue = true } }
        try journal.trim(through: min(goal, durable))
    }

    /// What is in the log up to here no replica will ask for. After a promotion those of the primary before may still come.
    private var neededAfter: Position {
        let known = slots.all
        let isAwaited = options.promotedAt != nil && options.replicas.contains { known[$0] == nil }
        return isAwaited ? journal.oldest : slots.slowest ?? journal.flushed.position
    }

    /// The end of what is too old to be kept, or too much; nothing if all may stay.
    private func cap() throws -> Position? {
        let tooOld = try journal.position(before: Timestamp.now() - options.journalKeep)
        guard journal.byteCount > options.journalBytesMax else { return tooOld }
        let tooMuch = journal.position(leaving: options.journalBytesMax / 2)
        return [tooOld, tooMuch].compactMap(\.self).max()
    }

    private func noteMissed(through cap: Position) throws {
        // Who has another log lacks what nobody knows.
        for (name, slot) in slots.all where slot.flushed < cap && !slot.isUnknown {
            var missed = try MissedPaths(in: options.state, replica: name) ?? MissedPaths(since: slot.flushed)
            if slot.flushed > missed.through { missed = MissedPaths(since: slot.flushed) }
            // What is between went without being noted, as nobody was to need it: only a seed helps.
            guard missed.reaches(journal.oldest) else {
                try MissedPaths.remove(in: options.state, replica: name)
                continue
            }
            guard var cursor = journal.cursor(after: missed.through) else { continue }
            _ = try journal.skip(&cursor, to: missed.through)
            while let batch = try journal.read(&cursor, byteCountMax: 1).first, batch.position <= cap {
                missed.add(try BatchReader.records(of: batch), at: batch.position)
            }
            try missed.save(in: options.state, replica: name)
            log.warning(
                "\(name) is away, and the journal is full: its log is dropped up to \(cap), \(missed.paths.count) files will be sent whole"
            )
        }
    }

    // MARK: - status

    package var status: PrimaryStatus {
        let shipped = shippers.withLock { $0.map { ($0.name, $0.sent) } }
        let sent = Dictionary(shipped, uniquingKeysWith: max)
        return PrimaryStatus(
            epoch: options.epoch, phase: phase.withLock { $0 }, journaled: journal.flushed.position,
            oldest: journal.oldest, journalBytes: journal.byteCount,
            replicas: slots.all.reduce(into: [:]) { replicas, slot in
                replicas[slot.key] = PrimaryStatus.Replica(
                    slot: slot.value, shipped: sent[slot.key] ?? slot.value.flushed,
                    lagBytes: journal.byteCount(after: slot.value.flushed))
            },
            capture: captureStatus.current, watch: watcher.watchCounts, scrub: running.withLock { $0?.current })
    }
}

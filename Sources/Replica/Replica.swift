import Digests
import Formats
import Linux
package import Logging
package import ReplicationLog
package import Store
import Synchronization

/// The replica end: from a link to the store.
///
/// Flow (each line is one thread, but for the first, which is on the link's event loop):
///   6. link     batches -> checked, in order          (`StreamUser`)
///   7. intake   -> the replica's journal, flushed -> ack flushed
///   8. applier  journal -> the store -> ack applied
///
/// A replica without a store, or whose log is no longer kept, is seeded first (`SeedUser`). The link is dialled again,
/// with back-off, whenever it ends; what is flushed is applied meanwhile.
package final class Replica: Sendable {
    package struct Options: Sendable {
        package var store: String
        package var state: String
        /// The other ends, to be tried in turn: one of them is the primary.
        package var peers: [Address]
        /// Seed over a target that is no earlier copy.
        package var mayOverwrite: Bool
        /// How long what is removed is kept.
        package var quarantineKeep: Duration
        /// What may be removed in an hour; nothing: no limit.
        package var removalLimit: RemovalLimit?
        /// How long segments of the journal are.
        package var segmentBytes: Int

        package init(
            store: String, state: String, peers: [Address], mayOverwrite: Bool, quarantineKeep: Duration,
            removalLimit: RemovalLimit?, segmentBytes: Int = Journal.segmentBytes
        ) {
            self.store = store
            self.state = state
            self.peers = peers
            self.mayOverwrite = mayOverwrite
            self.quarantineKeep = quarantineKeep
            self.removalLimit = removalLimit
            self.segmentBytes = segmentBytes
        }
    }

    private let options: Options
    private let layout: StoreLayout
    private let dialer: any LinkDialer
    private let writer: StoreWriter
    private let quarantine: Quarantine
    private let log: Logger
    let shared = SharedReplica(now: Timestamp.now)
    private let isStopping = Mutex(false)

    private static let backoffFirst = Duration.milliseconds(100)
    private static let backoffMax = Duration.seconds(15)
    private static let catchUpInterval = Duration.milliseconds(100)

    /// For an operator at the primary.
    private var place: Place {
        var roots: [RootName: [UInt8]] = [:]
        for root in layout.roots { roots[root.name] = Array(root.path.utf8) }
        return Place(host: CurrentProcess.hostName, roots: roots)
    }

    package init(_ options: Options, layout: StoreLayout, dialer: any LinkDialer, log: Logger) throws {
        self.options = options
        self.layout = layout
        self.dialer = dialer
        self.log = log
        let record = try ReplicaRecord(in: options.state)
        // Before anything is made in a directory that may be somebody else's.
        if !options.mayOverwrite { try Self.checkRoots(in: options.state, layout) }
        quarantine = try Quarantine(options.state + "/quarantine")
        writer = try StoreWriter(layout, quarantine: quarantine)
        if record.phase == .seeded, !options.mayOverwrite { noteRoots() }
        shared.update { status in
            (status.applied, status.flushed, status.received) = (record.applied, record.applied, record.applied)
            status.epochSeen = record.epochSeen
            status.consistentAfter = record.consistentAfter
            if record.phase != .seeded { status.phase = .unseeded }
            // Of its last checkpoint, until it hears of more.
            if record.isCopy, record.exactAt != 0 { status.exactAt = Timestamp(nanoseconds: record.exactAt) }
        }
    }

    /// One that came since the seed is known from here on.
    private func noteRoots() {
        do throws(SystemError) {
            try writer.known.save(in: options.state)
        } catch {
            log.warning("\(error)")
        }
    }

    /// For the operator, until there is another one.
    package func note(error why: String) { shared.failed(why) }

    /// Throws `MovedRoot` if the store's roots are not where they were.
    package func checkPlaces() throws { try writer.checkPlaces() }

    /// Makes the roots that are missing; only their last component.
    package static func makeRoots(of layout: StoreLayout) throws {
        for root in layout.roots { _ = try Directory.make(root.path) }
    }

    package var status: ReplicaStatus { shared.status }

    /// Why the removal brake holds a part of the log; nothing if it does not.
    package func heldReason() throws -> String? { try HeldRemovals.reason(in: options.state) }

    /// The operator has looked: what the brake stopped goes on. False, and nothing is done, if it does not stand at that: a word
    /// that is said before would be about nothing.
    package func releaseBrake() -> Bool { shared.releaseBrake() }

    /// Ends `run` once all that is flushed is applied.
    package func stop() {
        isStopping.withLock { $0 = true }
        shared.stop()
    }

    /// Until something was flushed or applied, or `timeout`.
    func waitForProgress(timeout: Duration) {
        let before = shared.status
        _ = shared.work.wait(timeout: timeout) { _ in
            let now = shared.status
            return now.applied != before.applied || now.flushed != before.flushed
        }
    }

    // MARK: - running

    /// Until `stop`; seeds first if there is nothing yet. Throws what cannot be gone on with.
    package func run() async throws {
        defer { leave() }
        while !isStopping.withLock({ $0 }) {
            let record = try ReplicaRecord(in: options.state)
            guard record.phase == .seeded else {
                try await seed(.untilSeeded)
                continue
            }
            switch try await follow(record) {
            case .stopped:
                continue
            case .jump(let welcome):
                log.notice(
                    "the log between was trimmed: going on after \(welcome.start), whole files come until \(welcome.consistentAfter)"
                )
                try jump(welcome)
            case .needsSeed:
                // What was not applied by then may be held since.
                guard try HeldRemovals.reason(in: options.state) == nil else { continue }
                // Whole, with all its log, and so one to be promoted, until the first file is touched.
                try await seed(.untilSeeded)
            }
        }
    }

    /// It has a copy, and `seedUntilConsistent` has nothing to do.
    package var isSeeded: Bool {
        get throws { try !options.mayOverwrite && ReplicaRecord(in: options.state).isCopy }
    }

    /// Seeds, and follows the log until the copy is consistent, or until `stop`. Throws `SeedNotBegun` if no peer will have it.
    package func seedUntilConsistent() async throws {
        let record = try ReplicaRecord(in: options.state)
        if record.phase != .seeded || options.mayOverwrite { try await seed(.onceEachPeer) }
        let seeded = try ReplicaRecord(in: options.state)
        guard seeded.phase == .seeded, !isStopping.withLock({ $0 }) else { return }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.run() }
            group.addTask {
                try await Thread.run(name: "consistent") {
                    while !self.isStopping.withLock({ $0 }), self.shared.status.applied < seeded.consistentAfter {
                        self.waitForProgress(timeout: .milliseconds(50))
                    }
                }
                self.stop()
            }
            try await group.waitForAll()
        }
    }

    /// Nothing of ours stays in the store.
    private func leave() {
        do throws(SystemError) {
            try writer.leave()
        } catch {
            log.warning("\(error)")
        }
    }

    private enum FollowEnd: Sendable {
        case stopped, needsSeed
        case jump(Welcome)
    }

    /// The three stations of the log, until `stop` or until only a seed helps.
    private func follow(_ record: ReplicaRecord) async throws -> FollowEnd {
        let journal = try JournalStart.openJournal(
            in: options.state, applied: record.applied, segmentBytes: options.segmentBytes)
        shared.journal.withLock { $0 = journal }
        defer { shared.journal.withLock { $0 = nil } }
        shared.work.update { $0 = SharedReplica.Work() }
        if isStopping.withLock({ $0 }) { shared.stop() }
        shared.moved(received: journal.flushed.position, flushed: journal.flushed.position)
        shared.follow(awaiting: try AwaitedPaths(in: options.state, applied: record.applied))
        let seeded = try SeededVersions(in: options.state)
        let (writer, quarantine, layout, state, shared, log) = (writer, quarantine, layout, options.state, shared, log)
        let (keep, limit) = (options.quarantineKeep, options.removalLimit)
        let audit = AuditEvaluator(roots: try StoreRoots(layout), shared: shared, log: log)
        return try await withThrowingTaskGroup(of: FollowEnd.self) { group in
            group.addTask {
                try await Thread.run(name: "intake") { try Intake(journal: journal, shared: shared, log: log).run() }
                return .stopped
            }
            group.addTask {
                try await Thread.run(name: "apply") {
                    let parts = Applier.Parts(
                        journal: journal, writer: writer, tidyUp: { quarantine.expireNow(olderThan: keep, log) },
                        layout: layout, removalLimit: limit, state: state, shared: shared, log: log,
                        audit: audit)
                    try Applier(parts, record: record, seeded: seeded).run()
                }
                return .stopped
            }
            group.addTask {
                try await Thread.run(name: "audit") { audit.run() }
                return .stopped
            }
            group.addTask { try await self.dialStream(journal, record) }
            var end = FollowEnd.stopped
            do {
                while let one = try await group.next() {
                    if case .stopped = one {} else { end = one }
                    shared.stop()
                    audit.stop()
                }
            } catch {
                shared.stop()
                audit.stop()
                throw error
            }
            return end
        }
    }

    // MARK: - dialling

    /// Dials again and again; returns when stopped, or when the primary says that only a seed helps.
    private func dialStream(_ journal: Journal, _ record: ReplicaRecord) async throws -> FollowEnd {
        var backoff = Backoff(first: Self.backoffFirst, max: Self.backoffMax)
        var turn = 0
        while !shared.work.withLock({ $0.isStopping }) {
            let flushed = journal.flushed
            let status = shared.status
            let hello = Hello(
                store: options.store, purpose: .stream, flushed: flushed.position, hash: flushed.hash,
                applied: min(status.applied, shared.awaited.exact, flushed.position),
                consistentAfter: record.consistentAfter,
                epochSeen: max(record.epochSeen, flushed.position.epoch), naming: layout.naming)
            let end = await dial(turn) { ended in
                StreamUser(
                    hello: hello, place: self.place, shared: self.shared, log: self.log, ended: ended)
            }
            turn += 1
            // What came on the old link is in the journal before the new one says where to go on.
            try await drain()
            switch end {
            case .refused(.trimmed, let why), .refused(.diverged, let why):
                if let held = try HeldRemovals.reason(in: options.state) {
                    // Who compares removes what is not there.
                    shared.failed("\(why); and nothing is compared with the primary while the brake holds: \(held)")
                    log.error("\(why): not comparing with the primary, as the brake holds: \(held)")
                    break
                }
                shared.enter(.diverged)
                log.warning("\(why): comparing with the primary instead")
                return .needsSeed
            case .jump(let welcome):
                try await catchUp(journal)
                if !shared.work.withLock({ $0.isStopping }) { return .jump(welcome) }
            case .refused(let refusal, let why):
                shared.failed("\(refusal): \(why)")
                log.error("refused: \(why)")
            case .closed(let why):
                guard !shared.work.withLock({ $0.isStopping }) else { continue }
                shared.failed(why)
                log.info("no link: \(why)")
            }
            if journal.flushed.position != flushed.position { backoff.reset() }
            shared.enter(.disconnected)
            await pause(backoff.next())
        }
        return .stopped
    }

    private func drain() async throws {
        let shared = shared
        try await Thread.run(name: "drain") { _ = shared.work.wait { $0.arrived.isEmpty || $0.isStopping } }
    }

    /// Waits until all that is flushed is applied: a jump goes on behind it, and brings nothing of it. The brake may hold it up.
    private func catchUp(_ journal: Journal) async throws {
        let shared = shared
        try await Thread.run(name: "catch-up") {
            while shared.status.applied < journal.flushed.position, !shared.work.withLock({ $0.isStopping }) {
                _ = shared.work.wait(timeout: Self.catchUpInterval) { $0.isStopping }
            }
        }
    }

    /// Waits, but not longer than until `stop`.
    private func pause(_ duration: Duration) async {
        let shared = shared
        // Only a pause: without a thread for it, there is none.
        _ = try? await Thread.run(name: "back-off") { shared.work.wait(timeout: duration) { $0.isStopping } }
    }

    /// One link to the next peer, from dialling to its end, which may be asked for by `stop`.
    private func dial(
        _ turn: Int, _ user: (@escaping @Sendable (StreamUser.End) -> Void) -> StreamUser
    ) async -> StreamUser.End {
        let peer = options.peers[turn % options.peers.count]
        let ending = Ending<StreamUser.End>()
        let link = user { ending.tell($0) }
        do {
            try await dialer.dial(peer, user: ClosingUser(link, when: shared))
        } catch {
            return .closed("\(error)")
        }
        return await ending.value
    }

    // MARK: - seeding

    /// Seeds, and comes back with the state saying so; tries again after an interruption. Throws `SeedNotBegun`.
    private func seed(_ tries: SeedTries) async throws {
        var record = try ReplicaRecord(in: options.state)
        let roots = try StoreRoots(layout)
        let isEmpty = try !roots.names.contains { try roots.hasFiles(in: $0) }
        guard isEmpty || record.phase != .unseeded || options.mayOverwrite else {
            throw SeedRefusal(layout: layout)
        }
        // A copy that diverged is one still, until the first file is touched.
        let isCopy = record.phase == .seeded
        record.phase = .seeding
        let before = quarantine.takenCount
        var backoff = Backoff(first: Self.backoffFirst, max: Self.backoffMax)
        var turn = 0
        var isFirst = true
        var refusals = SeedRefusals(peerCount: options.peers.count, tries)
        shared.beginSeed()
        let isStopping = isStopping.withLock { $0 }
        shared.work.update {
            $0 = SharedReplica.Work()
            $0.isStopping = isStopping
        }
        while !self.isStopping.withLock({ $0 }) {
            if !isCopy { shared.enter(.seeding) }
            let hello = Hello(
                store: options.store, purpose: isEmpty && isFirst ? .seedEmpty : .seedOver, flushed: .zero, hash: .zero,
                applied: .zero, epochSeen: record.epochSeen, naming: layout.naming)
            let peer = options.peers[turn % options.peers.count]
            turn += 1
            let ending = Ending<SeedUser.End>()
            // From the first file on this is an earlier copy, and not before.
            let user = SeedUser(
                hello: hello, writer: writer, layout: layout, shared: shared, log: log,
                unflushed: try UnflushedSeed(in: options.state),
                willWrite: { [record, writer, shared, state = options.state] () throws(SystemError) in
                    shared.beginOverwriting()
                    try record.save(in: state)
                    try writer.known.save(in: state)
                },
                ended: { ending.tell($0) })
            do {
                try await dialer.dial(peer, user: ClosingUser(user, when: shared))
                isFirst = false
                let end = await ending.value
                if user.isWelcome || self.isStopping.withLock({ $0 }) { refusals.excuse() }
                switch end {
                case .seeded(let seeded):
                    return try finish(seeded, record, movedCount: quarantine.takenCount - before)
                case .refused(let refusal, let why):
                    shared.failed("\(refusal): \(why)")
                    log.error("refused: \(peer): \(why)")
                    try refusals.note("\(peer): \(why)", refusal)
                case .closed(let why):
                    shared.failed(why)
                    log.warning("seed interrupted: \(why)")
                    try refusals.note("\(peer): \(why)")
                case .lacksRoot(let missing):
                    throw missing
                }
            } catch let error as LinkFailure {
                shared.failed("\(error)")
                log.info("no link: \(error)")
                if self.isStopping.withLock({ $0 }) { refusals.excuse() }
                try refusals.note("\(error)")
            } catch let error as SystemError where error.isShortage {
                // All has come, and there is no room to say so.
                shared.failed("\(error)")
                log.error("paused: \(error): \(error.shortageHint), it goes on by itself")
            }
            await pause(backoff.next())
        }
    }

    /// `movedCount`: what this run has moved aside, a directory counting once.
    private func finish(_ seeded: SeedUser.Seeded, _ record: ReplicaRecord, movedCount: Int) throws {
        try beginLog(after: seeded, record)
        shared.update { $0.seed?.ended = .now() }
        if movedCount > 0 {
            log.notice(
                "\(movedCount) names that the primary has otherwise, or not at all, were moved aside: \"mailsync quarantine list\" shows them"
            )
        }
        log.info("seeded; the log begins after \(seeded.start), the copy is consistent at \(seeded.consistentAfter)")
    }

    /// The journal begins anew after a seed; all of the store is on disk.
    private func beginLog(after seeded: SeedUser.Seeded, _ record: ReplicaRecord) throws {
        // All files are compared, or come whole.
        try AwaitedPaths.remove(in: options.state)
        try HeldRemovals.remove(in: options.state)
        try JournalStart.dropJournal(in: options.state)
        try JournalStart(position: seeded.start, hash: seeded.hash).save(in: options.state)
        try seeded.versions.save(in: options.state)
        var record = record
        record.phase = .seeded
        try writer.checkPlaces()
        try begin(after: seeded.start, consistentAfter: seeded.consistentAfter, record)
    }

    /// The journal begins anew behind what was trimmed; all that came before is applied. What was awaited still is: it was asked
    /// for before. A crash leaves the old log, or, from the record on, the new one (`JournalStart.openJournal`).
    private func jump(_ welcome: Welcome) throws {
        // Of no effect while there are segments.
        try JournalStart(position: welcome.start, hash: welcome.hash).save(in: options.state)
        let record = try ReplicaRecord(in: options.state)
        try begin(after: welcome.start, consistentAfter: welcome.consistentAfter, record)
        try JournalStart.dropJournal(in: options.state)
        // Of positions that are behind now.
        try SeededVersions.remove(in: options.state)
    }

    private func begin(after start: Position, consistentAfter: Position, _ record: ReplicaRecord) throws {
        var record = record
        record.applied = start
        record.consistentAfter = consistentAfter
        record.epochSeen = max(record.epochSeen, start.epoch)
        try record.save(in: options.state)
        shared.update {
            ($0.applied, $0.flushed, $0.received, $0.consistentAfter) = (start, start, start, consistentAfter)
            // Of the log of before nothing counts.
            $0.journaled = start
        }
    }
}

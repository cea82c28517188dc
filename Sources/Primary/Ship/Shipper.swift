import Delta
import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Synchronization

/// One replica's link, on the primary: answers its hello, sends it the log as fast as it takes it, notes its acks.
///
/// Life: made when a replica's TLS is done; all calls but `logGrew`, and what a jump reads, come on the link's event loop; ended with the link.
/// What the replica has not acked stays in the journal, so nothing is kept here but the place in the log.
final class Shipper: LinkUser {
    struct Parts: Sendable {
        let journal: Journal
        let slots: Slots
        let store: String
        let epoch: Epoch
        let naming: NamingRules
        let inbox: Condition<CaptureInbox>
        let seeder: Seeder
        /// Whether what is removed from now on would be told.
        let mayStream: @Sendable () -> Bool
        /// What a replica lacks of the log that was trimmed; nothing known, and it is seeded.
        let missed: @Sendable (_ replica: String) throws(SystemError) -> MissedPaths?
        /// Whether so much can be in the log that it is still there when it has been read.
        let mayJump: @Sendable (_ paths: Set<StorePath>) throws(SystemError) -> Bool
        /// Captures these whole; calls back with the position at which they are in the log.
        let resend: @Sendable (Set<StorePath>, @escaping @Sendable (Position) -> Void) -> Void
        /// The newer primary that was heard of: then nothing is sent any more.
        let successor: @Sendable () -> Epoch?
        /// Told by this link that there is one; whether it will be known in another life, too.
        let deposed: @Sendable (Epoch, Shipper) -> Bool
        /// Told who was not let in, and why.
        let refused: @Sendable (String) -> Void
        let now: @Sendable () -> Timestamp
        let log: Logger
        let desk: AuditDesk
        let auditAsked: AuditAsked
        /// This replica's acks moved.
        let acked: @Sendable () -> Void
        /// This link has opened or closed.
        let opened: @Sendable (Shipper) -> Void
        /// True if nobody else serves that replica.
        let closed: @Sendable (Shipper, Fingerprint) -> Bool
    }

    private struct State {
        var link: Link?
        var name = ""
        var cursor: Journal.Cursor?
        var sent = Position.zero
        var seed: SeedSession?
        /// Audits that were asked for over this link, and whether they are to end.
        var audits: [UInt32: AuditRequest] = [:]
        var wasGreeted = false
    }

    private let parts: Parts
    private let state = Mutex(State())

    private static let readBytes = 1 << 20

    private static let auditCountMax = 8

    init(_ parts: Parts) { self.parts = parts }

    var sent: Position { state.withLock { $0.sent } }
    /// The replica's fingerprint.
    var name: String { state.withLock { $0.name } }

    func linkOpened(_ link: Link) {
        state.withLock { state in
            state.link = link
            state.name = link.peer.description
        }
        parts.opened(self)
    }

    func link(_ link: Link, received message: Message) {
        let name = link.peer.description
        switch message {
        case .hello(let hello):
            let isAgain = state.withLock { state in
                defer { state.wasGreeted = true }
                return state.wasGreeted
            }
            if isAgain { link.refuse(.failed, "a replica says hello once") } else { answer(hello, on: link) }
        case .ack(let ack):
            parts.slots.advance(name, ack, now: parts.now())
            parts.desk.applied(ack.applied, by: name)
            parts.acked()
        case .heartbeat:
            parts.slots.heard(name, now: parts.now())
        case .resend(let paths):
            parts.log.info("\(name) has no basis for \(paths.count) files; they are sent whole")
            parts.inbox.update { $0.resends.append(contentsOf: paths) }
        case .seedWant(let want):
            state.withLock { $0.seed }?.wanted(want)
        case .refuse(_, let text):
            parts.log.warning("\(name) refused: \(text)")
        case .verdict(let verdict):
            parts.desk.answered(name, verdict)
        case .place(let place):
            parts.desk.note(place, of: name)
        case .paused(let why):
            parts.slots.paused(name, because: why)
        case .auditRequest(let number, let text):
            audit(number, text, on: link)
        case .welcome, .batch, .seedListing, .seedPlan, .seedEnd, .auditReport:
            link.refuse(.failed, "a replica does not say that")
        }
    }

    func linkBecameWritable(_ link: Link) {
        state.withLock { $0.seed }?.becameWritable()
        pump()
    }

    func linkHeartbeat(_ link: Link) {
        link.send(.heartbeat(timeNanoseconds: parts.now().nanoseconds, journaled: parts.journal.flushed.position))
    }

    func linkClosed(_ link: Link, reason: String) {
        // A host that lost its power is back on a new link before the old one is given up.
        if parts.closed(self, link.peer) {
            parts.slots.disconnect(link.peer.description)
            parts.desk.left(link.peer.description)
        }
        let (seed, audits) = state.withLock { state -> (SeedSession?, [AuditRequest]) in
            defer { state = State() }
            return (state.seed, Array(state.audits.values))
        }
        seed?.stop()
        for audit in audits { audit.cancel() }
        parts.log.info("\(link.peer): link closed: \(reason)")
    }

    func serves(_ peer: Fingerprint) -> Bool { state.withLock { $0.link }?.peer == peer }

    /// This primary was replaced; any thread.
    func giveWay() {
        guard let link = state.withLock({ $0.link }), let epoch = parts.successor() else { return }
        link.onLoop { link.refuse(.fenced, FencedUser.reason(epoch)) }
    }

    /// Any thread.
    func logGrew() { state.withLock { $0.link }?.onLoop { self.pump() } }

    /// An operator at the replica asks, or with no text wants no more of it.
    private func audit(_ number: UInt32, _ text: [UInt8], on link: Link) {
        guard !text.isEmpty else { return state.withLock { $0.audits[number] }?.cancel() ?? () }
        let request = AuditRequest(text: text) { [weak self] line in
            link.send(.auditReport(number: number, text: line))
            if line.isEmpty { self?.state.withLock { _ = $0.audits.removeValue(forKey: number) } }
        }
        // Each is a thread.
        let isTooMany = state.withLock { state in
            guard state.audits.count < Self.auditCountMax, state.audits[number] == nil else { return true }
            state.audits[number] = request
            return false
        }
        if isTooMany { link.send(.auditReport(number: number, text: [])) } else { parts.auditAsked(request) }
    }

    // MARK: - handshake

    private func answer(_ hello: Hello, on link: Link) {
        // Whoever makes it known once more hears it as the first one did.
        if let epoch = parts.successor(), hello.purpose != .fence {
            return link.refuse(.fenced, FencedUser.reason(epoch))
        }
        let (newest, oldest) = (parts.journal.flushed, parts.journal.oldest)
        var missed: MissedPaths?
        do throws(SystemError) {
            if hello.purpose == .stream, hello.flushed < oldest { missed = try parts.missed(link.peer.description) }
        } catch {
            return link.refuse(.failed, "\(error)")
        }
        // Of another absence: what was trimmed since is not in there.
        if let known = missed, !known.reaches(oldest) { missed = nil }
        let ours = Handshake.Ours(
            store: parts.store, epoch: parts.epoch, newest: newest.position, newestHash: newest.hash, oldest: oldest,
            knownSince: missed?.since, naming: parts.naming)
        var failure: SystemError?
        let answer = Handshake.answer(to: hello, ours: ours) { position in
            do throws(JournalError) {
                return try parts.journal.hash(at: position)
            } catch {
                // What is damaged there is no part of this log, and refused as that; the disk's bad moment is not.
                if case .system(let error) = error { failure = error }
                return nil
            }
        }
        if let failure { return link.refuse(.failed, "journal: \(failure)") }
        switch answer {
        case .refuse(let refusal, let text):
            parts.refused("\(link.peer): \(text)")
            link.refuse(refusal, text)
        case .stream:
            guard parts.mayStream() else {
                return link.refuse(.failed, "this primary has just begun, and looks at its store first")
            }
            stream(hello, on: link)
        case .seed(let overCopy):
            seed(overCopy: overCopy, on: link)
        case .jump:
            guard let missed else { preconditionFailure("a jump of which nothing is known") }
            do throws(SystemError) {
                // Megabytes of paths, and the log that is left.
                _ = try Thread.start(name: "jump") { self.jump(hello, missed, on: link) }
            } catch {
                link.refuse(.failed, "\(error)")
            }
        case .deposed(let epoch):
            // Whoever is told so tells it no more.
            if parts.deposed(epoch, self) {
                link.refuse(.fenced, "epoch \(parts.epoch) gives way to epoch \(epoch)")
            } else {
                link.refuse(.failed, "epoch \(parts.epoch) gives way to epoch \(epoch), and cannot write that down")
            }
        }
    }

    /// The replica was away for longer than the log is kept: what the lost log and the log that is left were about is
    /// captured whole, behind our newest position, and the replica goes on there. On a thread of its own.
    private func jump(_ hello: Hello, _ missed: MissedPaths, on link: Link) {
        do {
            // Before it is read: what comes meanwhile is on both sides of it, and that does no harm.
            let start = parts.journal.flushed
            var paths = missed.paths
            guard var cursor = parts.journal.cursor(after: missed.through),
                try parts.journal.skip(&cursor, to: missed.through)
            else { return link.refuse(.failed, "the log was trimmed just now: once more") }
            while case let batches = try parts.journal.read(&cursor, byteCountMax: Self.readBytes), !batches.isEmpty {
                guard !link.isClosed else { return }
                for batch in batches {
                    for record in try BatchReader.records(of: batch) where !record.isCheck { paths.insert(record.path) }
                }
            }
            guard try parts.mayJump(paths) else {
                return link.refuse(
                    .trimmed,
                    "the log after \(hello.flushed) is no longer kept, and what it was about is more than a log may hold"
                )
            }
            link.onLoop { [paths] in self.jump(hello, paths, to: start, on: link) }
        } catch {
            link.refuse(.failed, "\(error)")
        }
    }

    private func jump(
        _ hello: Hello, _ paths: Set<StorePath>, to start: (position: Position, hash: ChainHash), on link: Link
    ) {
        guard state.withLock({ $0.link === link }) else { return }
        parts.log.notice(
            "\(link.peer) was away for too long: \(paths.count) files are sent whole, after \(start.position)")
        // Where it is until it says that it has jumped: it may never hear of this, and then it lacks what is trimmed
        // meanwhile as well.
        parts.slots.connect(
            link.peer.description, flushed: hello.flushed, applied: hello.applied, isSeeding: true, now: parts.now())
        parts.resend(paths) { [parts] position in
            do throws(SystemError) {
                try parts.slots.settle(link.peer.description, after: position)
            } catch {
                return link.refuse(.failed, "slots: \(error)")
            }
            link.send(.welcome(Welcome(start: start.position, hash: start.hash, consistentAfter: position)))
        }
    }

    private func stream(_ hello: Hello, on link: Link) {
        do throws(JournalError) {
            guard var cursor = parts.journal.cursor(after: hello.flushed),
                try parts.journal.skip(&cursor, to: hello.flushed)
            else { return link.refuse(.diverged, "\(hello.flushed) is not a position of this log") }
            parts.slots.connect(
                link.peer.description, flushed: hello.flushed, applied: hello.applied,
                consistentAfter: hello.consistentAfter, isSeeding: false, now: parts.now())
            state.withLock { state in
                state.cursor = cursor
                state.sent = hello.flushed
            }
            parts.log.info("\(link.peer) follows the log from \(hello.flushed)")
            link.send(.welcome(Welcome(start: hello.flushed, hash: hello.hash, consistentAfter: hello.flushed)))
            parts.acked()
            parts.desk.follows(link.peer.description)
            pump()
        } catch {
            link.refuse(.failed, "\(error)")
        }
    }

    private func seed(overCopy: Bool, on link: Link) {
        let start = parts.journal.flushed
        parts.slots.connect(
            link.peer.description, flushed: start.position, applied: start.position, isSeeding: true, now: parts.now())
        do throws(SystemError) {
            try parts.slots.save()
        } catch {
            return link.refuse(.failed, "slots: \(error)")
        }
        parts.log.info("\(link.peer) is being seeded; its log begins after \(start.position)")
        link.send(.welcome(Welcome(start: start.position, hash: start.hash, consistentAfter: start.position)))
        let session = SeedSession(parts.seeder, link: link, isOverCopy: overCopy)
        state.withLock { $0.seed = session }
        session.start()
    }

    // MARK: - sending

    /// Sends while the link takes it; on the link's event loop.
    private func pump() {
        while true {
            let turn = state.withLock { state -> Result<(Link, [SealedBatch]), JournalError>? in
                guard parts.successor() == nil, let link = state.link, link.isWritable, var cursor = state.cursor else {
                    return nil
                }
                do throws(JournalError) {
                    let batches = try parts.journal.read(&cursor, byteCountMax: Self.readBytes)
                    guard let last = batches.last else { return nil }
                    state.cursor = cursor
                    state.sent = last.position
                    return .success((link, batches))
                } catch {
                    state.cursor = nil
                    return .failure(error)
                }
            }
            switch turn {
            case .success(let (link, batches)): link.send(batches)
            case .failure(let error): return state.withLock { $0.link }?.refuse(.failed, "\(error)") ?? ()
            case nil: return
            }
        }
    }
}

import Digests
import Formats
import Linux
import ReplicationLog
import Synchronization

/// What the replica's threads share: the status, the positions they tell each other, and the link that acks go to.
final class SharedReplica: Sendable {
    struct Work: Sendable {
        var isStopping = false
        /// The brake holds, and waits for the operator.
        var isBraked = false
        /// The operator has looked at what the brake stopped.
        var isBrakeReleased = false
        /// Batches that came, not yet in the journal.
        var arrived: [Arrived] = []
        var arrivedBytes = 0
    }

    struct Arrived: Sendable {
        let batch: SealedBatch
        /// The chain hash there.
        let hash: ChainHash
    }

    let work = Condition(Work())
    let audits = AuditRelay()
    /// The log that is followed; nothing in a seed.
    let journal = Mutex<Journal?>(nil)
    private let state: Mutex<State>
    private let now: @Sendable () -> Timestamp

    private struct State {
        var status = ReplicaStatus()
        var link: Link?
        var awaited = AwaitedPaths(exact: .zero)
        var askedAt = MonotonicTime.now()
        /// Where an answer to that is in the log, if there is one; nothing while it may take longer.
        var answeredBy: Position?
        /// Who stands still, and why. A link that comes or goes meanwhile changes nothing about that.
        var standing: [Station: (why: String, since: Timestamp)] = [:]
        /// What the primary was told of that.
        var toldPause: String?

        var firstStanding: (why: String, since: Timestamp)? { standing.values.min { $0.since < $1.since } }

        /// What is told: that something stands still hides the rest.
        var told: ReplicaStatus {
            var told = status
            told.isLinked = link != nil
            guard let first = firstStanding else { return told }
            (told.phase, told.since, told.lastError) = (.paused, first.since, (first.why, first.since))
            return told
        }
    }

    enum Station: Sendable { case intake, apply }

    /// What did not come is asked for again after this long.
    let askInterval: Duration

    init(now: @escaping @Sendable () -> Timestamp, askInterval: Duration = .seconds(30)) {
        self.now = now
        self.askInterval = askInterval
        state = Mutex(State())
    }

    var status: ReplicaStatus { state.withLock { $0.told } }

    func update(_ body: (inout ReplicaStatus) -> Void) { state.withLock { body(&$0.status) } }

    func enter(_ phase: ReplicaStatus.Phase) {
        state.withLock { state in
            guard state.status.phase != phase else { return }
            state.status.phase = phase
            state.status.since = now()
        }
    }

    func failed(_ why: String) { state.withLock { $0.status.lastError = (why, now()) } }

    /// Until `goesOn`.
    func pauses(_ station: Station, because why: String) {
        failed(why)
        state.withLock { $0.standing[station] = (why, $0.standing[station]?.since ?? now()) }
        tellPause()
    }

    func goesOn(_ station: Station) {
        state.withLock { $0.standing[station] = nil }
        tellPause()
    }

    /// The primary hears why nothing goes on here, or that it does again; nothing where it was told.
    private func tellPause() {
        if state.withLock({ $0.firstStanding?.why != $0.toldPause }) { repeatPause() }
    }

    /// Whatever the primary was told: on a new link it knows nothing, and what two threads send at once may change places.
    func repeatPause() {
        let (link, why) = state.withLock { state in
            state.toldPause = state.firstStanding?.why
            return (state.link, state.toldPause)
        }
        link?.send(.paused(because: why))
    }

    // MARK: - the brake

    /// Waits for the operator's word; false if it is time to end.
    func brake(because why: String) -> Bool {
        work.update { ($0.isBraked, $0.isBrakeReleased) = (true, false) }
        pauses(.apply, because: why)
        _ = work.wait { $0.isStopping || $0.isBrakeReleased }
        return work.update { work in
            (work.isBraked, work.isBrakeReleased) = (false, false)
            return !work.isStopping
        }
    }

    /// False if the brake does not wait for it.
    func releaseBrake() -> Bool {
        work.update { work in
            if work.isBraked { work.isBrakeReleased = true }
            return work.isBraked
        }
    }

    // MARK: - the end

    private let links = Mutex<[Link]>([])

    /// Whoever waits for work ends, and so do the links that are open.
    func stop() {
        work.update { $0.isStopping = true }
        for link in links.withLock({ $0 }) { close(link) }
    }

    /// Ends with `stop`, also if that was just before.
    func opened(_ link: Link) {
        links.withLock { $0.append(link) }
        if work.withLock({ $0.isStopping }) { close(link) }
    }

    func closed(_ link: Link) { links.withLock { $0.removeAll { $0 === link } } }

    private func close(_ link: Link) { link.close(because: "stopped") }

    // MARK: - the link

    // Messages are sent when the lock is gone: sending may find the link closed, and end here again.

    /// Acks and requests go to `link` from now on; what is awaited is asked for again.
    func attach(_ link: Link?) {
        let awaited = state.withLock { state in
            state.link = link
            (state.askedAt, state.answeredBy) = (.now(), nil)
            return Array(state.awaited.paths)
        }
        if let link, !awaited.isEmpty { link.send(.resend(awaited)) }
        audits.linked(link != nil)
    }

    /// Dropped while there is no link.
    func send(_ message: Message) { state.withLock { $0.link }?.send(message) }

    /// Whether a file in `directory` was asked for whole and has not come yet.
    func isAwaiting(in directory: StorePath) -> Bool {
        state.withLock { state in
            state.awaited.paths.contains { $0.parent == directory || $0 == directory }
        }
    }

    /// Those of a mailbox, whose files may be in several roots.
    func awaited(ofMailbox directory: StorePath) -> [StorePath] {
        state.withLock { state in
            state.awaited.paths.filter { $0.parent.path == directory.path || $0.path == directory.path }
        }
    }

    /// What is awaited, and up to where the store is exact.
    var awaited: AwaitedPaths { state.withLock { $0.awaited } }

    /// Who stood still in the log stands no more.
    func beginSeed() {
        state.withLock { state in
            state.standing = [:]
            state.status.seed = SeedProgress()
        }
    }

    /// From here on the store is no copy, until the seed has ended.
    func beginOverwriting() {
        enter(.seeding)
        update { $0.exactAt = nil }
    }

    /// The log is followed from here on; `awaited` is what an earlier run left.
    func follow(awaiting awaited: AwaitedPaths) {
        state.withLock { state in
            state.awaited = awaited
            state.standing = [:]
            state.status.awaitedCount = awaited.paths.count
        }
    }

    /// Asks for what is awaited, if that was long ago: an earlier answer could not be applied either, or never came. Not while one
    /// may be in the log that is not applied yet: a replica that is minutes behind would get a copy for each time it asks.
    func askAgain() {
        let (link, paths) = state.withLock { state -> (Link?, [StorePath]) in
            guard !state.awaited.paths.isEmpty, MonotonicTime.now() - state.askedAt >= askInterval else {
                return (nil, [])
            }
            let answeredBy = state.answeredBy ?? max(state.status.journaled, state.status.received)
            state.answeredBy = answeredBy
            guard state.status.applied >= answeredBy else { return (nil, []) }
            (state.askedAt, state.answeredBy) = (.now(), nil)
            return (state.link, Array(state.awaited.paths))
        }
        if let link, !paths.isEmpty { link.send(.resend(paths)) }
    }

    /// What was received or flushed moved.
    func moved(received: Position? = nil, flushed: Position? = nil) {
        state.withLock { state in
            if let received { state.status.received = max(state.status.received, received) }
            if let flushed { state.status.flushed = max(state.status.flushed, flushed) }
        }
        ack()
    }

    /// A batch is in the store; `needed` could not be applied. The primary hears of it with the next `ack`.
    func applied(
        _ position: Position, exactAt: Timestamp?, needed: [StorePath], _ standing: AwaitedPaths.Standing = .settled
    ) {
        let (link, new) = state.withLock { state in
            state.status.applied = max(state.status.applied, position)
            if standing == .settled { state.status.exactAt = exactAt }
            let new = state.awaited.applied(position, needed: needed, standing)
            state.status.awaitedCount = state.awaited.paths.count
            state.standing[.apply] = nil
            if [.catchingUp, .streaming].contains(state.status.phase), state.link != nil {
                let isBehind = state.status.applied < state.status.journaled
                let phase: ReplicaStatus.Phase = isBehind ? .catchingUp : .streaming
                if phase != state.status.phase {
                    state.status.phase = phase
                    state.status.since = now()
                }
            }
            return (state.link, new)
        }
        if !new.isEmpty { link?.send(.resend(new)) }
    }

    /// A record was applied: if its file was awaited, it is no more.
    func arrived(_ record: Record) {
        state.withLock { state in
            state.awaited.arrived(record)
            state.status.awaitedCount = state.awaited.paths.count
        }
    }

    /// Ends the link, and says why to both ends.
    func refuse(_ why: String) {
        failed(why)
        state.withLock { $0.link }?.refuse(.failed, why)
    }

    /// Tells the primary where we are. While a file is awaited, what came after is applied and not exact: not acked so.
    func ack() {
        let (link, ack) = state.withLock { state in
            // Each thread tells its own position, and the applier may be the first to speak of what the intake flushed.
            let applied = min(state.status.applied, state.awaited.exact)
            let flushed = max(state.status.flushed, state.status.applied)
            return (
                state.link, Ack(received: max(state.status.received, flushed), flushed: flushed, applied: applied)
            )
        }
        tellPause()
        link?.send(.ack(ack))
    }
}

import Formats
import Foundation
import Linux
import Logging
import Primary
import Replica
import ReplicationLog
import Store
import Synchronization

/// `mailsync run`: one process for one store on one host, in the role that the state directory says.
///
/// Flow: take the state directory, serve the control socket, be primary or replica until SIGTERM or until promoted;
/// after a promotion go on as the primary. SIGTERM drains: what is dirty is captured, what is flushed is applied.
final class Daemon: Sendable {
    let configuration: Configuration
    let state: StateDirectory
    let layout: StoreLayout
    private let log: Logger
    private let mayOverwrite: Bool
    let current = Mutex<Current>(.none)
    private let isStopping = Mutex(false)
    /// What a primary ran out of, until another one has gone on for a while.
    let lastShortage = Mutex<StatusReport.Incident?>(nil)
    /// What the log has of it already.
    private let shortageTold = Mutex<(why: String, at: MonotonicTime)?>(nil)
    private static let shortageInterval = Duration.seconds(600)
    /// Who was not let in last, and why.
    let lastRefusal = Mutex<StatusReport.Incident?>(nil)
    /// Other primaries, that do not give way to this one, by address.
    let rivals = Mutex<[String: StatusReport.Incident]>([:])
    /// Who asks for it and goes away may ask again while it is under way.
    let promotion = Errand<ReplicaEnd.HeldLog, ControlAnswer>()

    enum Current: Sendable {
        case none
        case primary(Primary)
        case replica(Replica)
        /// A primary that was replaced.
        case fenced(Epoch)
        /// A primary whose disk is full, or that lacks something else.
        case paused(why: String)

        /// Why this end cannot do what it was asked for.
        var idleReason: String {
            switch self {
            case .none: "the daemon is just starting or ending"
            case .primary: "this end is a primary"
            case .replica: WaitCommand.onReplica
            case .fenced(let epoch): StateDirectory.fencedReason(epoch)
            case .paused(let why): "paused: \(why)"
            }
        }
    }

    init(_ configuration: Configuration, mayOverwrite: Bool, log: Logger) throws {
        self.configuration = configuration
        self.mayOverwrite = mayOverwrite
        self.log = log
        state = StateDirectory(path: configuration.state)
        layout = try configuration.layout()
    }

    /// Until stopped by a signal or the control socket.
    func run() async throws {
        let hold = try takeState()
        defer { withExtendedLifetime(hold) {} }
        let control = try makeControl()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await control.run() }
            group.addTask {
                defer {
                    self.promotion.end()
                    control.stop()
                }
                try await self.serveRoles()
            }
            let signals = Linux.Thread.waitForTermination { self.stop() }
            defer { withExtendedLifetime(signals) {} }
            // A group waits for all of it, and the roles end only when they are told.
            do { while try await group.next() != nil {} } catch {
                stop()
                throw error
            }
        }
        log.info("stopped")
    }

    /// `mailsync seed`: until the copy is consistent, or stopped by a signal; nothing if it was before. `show` is called every few
    /// seconds.
    func seedOnly(_ show: @escaping @Sendable (ReplicaStatus) -> Void) async throws -> ReplicaStatus? {
        let hold = try takeState()
        defer { withExtendedLifetime(hold) {} }
        if let warning = CyrusMaster.warning(for: configuration.imapdConf) {
            throw Failure(.configuration, warning, hint: CyrusMaster.replicaHint)
        }
        let control = try makeControl()
        let endpoint = try makeEndpoint()
        let replica = try makeReplica(endpoint)
        guard try !replica.isSeeded else { return nil }
        current.withLock { $0 = .replica(replica) }
        let signals = Linux.Thread.waitForTermination {
            self.isStopping.withLock { $0 = true }
            self.stop()
        }
        defer { withExtendedLifetime(signals) {} }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await control.run() }
            group.addTask { await self.watchForCyrus(replica) }
            group.addTask {
                while !Task.isCancelled {
                    try? await Task.sleep(for: .seconds(isatty(2) == 1 ? 0.5 : 5))  // cancelled is the end of it
                    show(replica.status)
                }
            }
            defer {
                control.stop()
                group.cancelAll()
            }
            try await replica.seedUntilConsistent()
        }
        try await endpoint.stop()
        guard !isStopping.withLock({ $0 }) else { throw Failure(.tryAgain, "seed: stopped; run it again to go on") }
        return replica.status
    }

    private func takeState() throws -> StateDirectory.Hold {
        let hold = try state.hold()
        try state.claim(store: configuration.store, in: configuration.file)
        return hold
    }

    private func makeControl() throws -> ControlServer {
        try ControlServer(
            path: state.controlSocket, verify: { await self.verify($0, $1) }, answer: { await self.answer($0) })
    }

    private func serveRoles() async throws {
        while !isStopping.withLock({ $0 }) {
            let standing = try state.standing()
            switch standing.role {
            case .primary:
                if let epoch = standing.fencedBy ?? fencedBy.withLock({ $0 }) {
                    try await serveFenced(epoch, standing)
                } else {
                    try await servePrimaryUntilShort(standing)
                }
            case .replica:
                do { try await serveReplica() } catch {
                    if endPromotion(error) { continue }
                    guard isStopping.withLock({ $0 }), (error as? SystemError)?.isShortage == true else { throw error }
                    // All is in the journal, and is applied at the next start.
                    return log.error("stopped before all was applied: \(error)")
                }
            }
            promote()
        }
    }

    func stop() {
        isStopping.withLock { $0 = true }
        stopCurrent()
        notify("STOPPING=1")
    }

    private func stopCurrent() {
        switch current.withLock({ $0 }) {
        case .none, .paused: break
        case .fenced: ending.update { $0 = true }
        case .primary(let primary): primary.stop()
        case .replica(let replica): replica.stop()
        }
    }

    private func notify(_ text: String) {
        try? ServiceManager.notify(text)  // the service manager's loss is not ours
    }

    // MARK: - roles

    /// A full disk under the state directory, or another shortage, ends a primary, and it begins again when it can: its
    /// journal says what was shipped, and the sweep finds what changed meanwhile.
    private func servePrimaryUntilShort(_ standing: StateDirectory.Standing) async throws {
        do {
            try await servePrimary(standing)
        } catch {
            guard let hint = Primary.shortageHint(of: error) else { throw error }
            let why = "\(configuration.state): \(error)"
            let isTold = shortageTold.withLock { told in
                if let told, told.why == why, .now() - told.at < Self.shortageInterval { return true }
                told = (why, .now())
                return false
            }
            if !isTold { log.error("paused: \(why): \(hint), it goes on by itself") }
            current.withLock { $0 = .paused(why: why) }
            lastShortage.withLock { $0 = StatusReport.Incident(why: why, at: Timestamp.now().iso8601) }
            try? await Task.sleep(for: .seconds(2))  // cut short, the next try is only earlier
        }
    }

    private func servePrimary(_ standing: StateDirectory.Standing) async throws {
        guard let address = configuration.listen else {
            throw Failure(.configuration, "\(configuration.file): listen: is missing, and a primary needs it")
        }
        let endpoint = try makeEndpoint()
        // Not only at the end: what does not come to be is tried again, and must leave no threads and descriptors.
        defer { endpoint.stopSoon() }
        let locks = CyrusLocks(directory: configuration.lockRoot(of: layout), rules: layout.rules.paths)
        let options = Primary.Options(
            store: configuration.store, state: state.path, epoch: standing.epoch,
            promotedAt: standing.epoch.number > 1 ? try state.standingSince() : nil,
            sweepPeriod: configuration.sweepPeriod, scrubPeriod: configuration.scrubPeriod,
            journalBytesMax: configuration.journalBytesMax, journalKeep: configuration.journalKeep,
            replicas: Set(configuration.peers.compactMap { $0.fingerprint?.description }))
        let primary = try Primary(options, roots: try openRoots(), locks: locks, log: log)
        serveAudits(of: primary)
        current.withLock { $0 = .primary(primary) }
        defer { current.withLock { $0 = .none } }
        try await endpoint.listen(on: address) {
            primary.makeLinkUser(deposed: { self.deposed(by: $0, standing) }, refused: self.noteRefusal)
        }
        log.info("primary of \(configuration.store), epoch \(standing.epoch)")
        notify("READY=1")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await primary.run() }
            group.addTask {
                while true {
                    // First: where the disk is full a replica must get the log before it can be trimmed.
                    try await Task.sleep(for: .seconds(5))
                    // To note what a replica lacks may take reading gigabytes of log.
                    try await Linux.Thread.run(name: "trim") {
                        try primary.checkRoots()
                        try primary.trim()
                    }
                    self.lastShortage.withLock { $0 = nil }
                    self.shortageTold.withLock { $0 = nil }
                }
            }
            group.addTask { try await self.tellPeers(standing.epoch, endpoint) }
            group.addTask { try await self.expireQuarantine() }
            defer {
                primary.stop()
                group.cancelAll()
            }
            if isStopping.withLock({ $0 }) { primary.stop() }
            try await group.next()
        }
        try await endpoint.stop()
    }

    /// After a promotion: what it kept as a replica goes in its time.
    private func expireQuarantine() async throws {
        let (path, keep, log) = (state.path, configuration.quarantineKeep, log)
        while true {
            try await Linux.Thread.run(name: "quarantine") {
                do throws(SystemError) {
                    try QuarantineView.expire(in: path, olderThan: keep, now: .now())
                } catch {
                    log.warning("quarantine: \(error)")
                }
            }
            try await Task.sleep(for: .seconds(600))
        }
    }

    /// Of a root that is missing and was there before it is told what that may mean.
    private func openRoots() throws -> StoreRoots {
        do throws(SystemError) {
            return try StoreRoots(layout)
        } catch {
            if error.errno == .noEntry {
                try KnownRoots(in: state.path).check(layout, try KnownRoots(at: layout), of: .primary)
            }
            throw error
        }
    }

    /// After a promotion: the primary of before is told, as soon as it can be reached, that it is none any more.
    private func tellPeers(_ epoch: Epoch, _ endpoint: LinkEndpoint) async throws {
        var untold = epoch.number > 1 ? configuration.peers.compactMap(\.address) : []
        while !Task.isCancelled {
            for peer in untold {
                let answered = Condition<FenceUser.Answer?>(nil)
                let user = FenceUser(store: configuration.store, epoch: epoch) { said in answered.update { $0 = said } }
                guard (try? await endpoint.dial(peer, user: user)) != nil else { continue }  // away: again later
                switch try await Linux.Thread.run(name: "fence", { answered.take(timeout: .seconds(5)) { $0 } }) {
                case .told:
                    untold.removeAll { $0 == peer }
                    rivals.withLock { $0["\(peer)"] = nil }
                case .rival(let why): note(rival: "\(peer)", why)
                case .untold, nil: break
                }
            }
            try await Task.sleep(for: .seconds(untold.isEmpty ? 3600 : 2))
        }
    }

    /// Neither gives way by itself: each has what the other has not. Asked again and again, told once.
    private func note(rival peer: String, _ why: String) {
        let incident = StatusReport.Incident(why: "\(peer): \(why)", at: Timestamp.now().iso8601)
        let isNew = rivals.withLock { rivals in
            guard rivals[peer]?.why != incident.why else { return false }
            rivals[peer] = incident
            return true
        }
        guard isNew else { return }
        log.critical("\(incident.why)")
        log.critical("hint: stop Cyrus on one of them; there, \(StateDirectory.becomeReplicaHint)")
    }

    /// Whether that is on disk; if not, this process knows it all the same.
    private func deposed(by epoch: Epoch, _ standing: StateDirectory.Standing) -> Bool {
        log.critical("epoch \(epoch) was promoted elsewhere: this primary ships nothing any more")
        fencedBy.withLock { $0 = epoch }
        defer { stopCurrent() }
        do throws(SystemError) {
            try noteFenced(by: epoch, standing)
            return true
        } catch {
            log.error("state: \(error): that epoch \(epoch) was promoted elsewhere is not written down yet")
            return false
        }
    }

    private func noteFenced(by epoch: Epoch, _ standing: StateDirectory.Standing) throws(SystemError) {
        var fenced = standing
        fenced.fencedBy = epoch
        try state.save(fenced)
    }

    /// Answers `status`, refuses replicas, and waits for the operator.
    private func serveFenced(_ epoch: Epoch, _ standing: StateDirectory.Standing) async throws {
        log.critical("\(StateDirectory.fencedReason(epoch))")
        log.critical("hint: \(StateDirectory.fencedHint)")
        let endpoint = try makeEndpoint()
        current.withLock { $0 = .fenced(epoch) }
        defer { current.withLock { $0 = .none } }
        while standing.fencedBy == nil, !isStopping.withLock({ $0 }) {
            do throws(SystemError) {
                try noteFenced(by: epoch, standing)
                break
            } catch {
                try? await Task.sleep(for: .seconds(2))  // it was told when it failed first
            }
        }
        if let address = configuration.listen { try await endpoint.listen(on: address) { FencedUser(by: epoch) } }
        notify("READY=1")
        let ending = ending
        if isStopping.withLock({ $0 }) { ending.update { $0 = true } }
        try await Linux.Thread.run(name: "fenced") { _ = ending.wait { $0 } }
        try await endpoint.stop()
    }

    private let ending = Condition(false)
    /// The epoch of the primary that replaced this one while this process ran.
    private let fencedBy = Mutex<Epoch?>(nil)

    private func serveReplica() async throws {
        let endpoint = try makeEndpoint()
        let replica = try makeReplica(endpoint)
        current.withLock { $0 = .replica(replica) }
        defer { current.withLock { $0 = .none } }
        log.info("replica of \(configuration.store)")
        notify("READY=1")
        if isStopping.withLock({ $0 }) { replica.stop() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchForCyrus(replica) }
            group.addTask { try await replica.run() }
            group.addTask {
                while true {
                    try await Task.sleep(for: .seconds(5))
                    try replica.checkPlaces()
                }
            }
            defer {
                replica.stop()
                group.cancelAll()
            }
            try await group.next()
        }
        try await endpoint.stop()
    }

    /// It may be started at any time, as with the host. That it was stays the last error when it has gone: what it wrote is there.
    private func watchForCyrus(_ replica: Replica) async {
        var last: String?
        while !Task.isCancelled {
            let warning = CyrusMaster.warning(for: configuration.imapdConf)
            if let warning, warning != last {
                log.error("\(warning); \(CyrusMaster.replicaHint)")
                replica.note(error: "\(warning): \"mailsync verify --repair\", once it is stopped")
            }
            last = warning
            try? await Task.sleep(for: .seconds(10))  // cancelled is the end of it
        }
    }

    func makeReplica(_ endpoint: LinkEndpoint) throws -> Replica {
        let peers = configuration.peers.compactMap(\.address)
        guard !peers.isEmpty else {
            throw Failure(
                .configuration, "\(configuration.file): peer: is missing, and a replica needs its primary's address")
        }
        let options = Replica.Options(
            store: configuration.store, state: state.path, peers: peers, mayOverwrite: mayOverwrite,
            quarantineKeep: configuration.quarantineKeep,
            removalLimit: configuration.removalLimit)
        return try Replica(options, layout: layout, dialer: endpoint, log: log)
    }

    func makeEndpoint() throws -> LinkEndpoint {
        let trusted = Set(configuration.peers.compactMap(\.fingerprint))
        guard !trusted.isEmpty else {
            throw Failure(
                .configuration, "\(configuration.file): peer_fingerprint: is missing, or still the example's zeros",
                hint: "take what \"mailsync fingerprint\" prints on the other end")
        }
        return try LinkEndpoint(identity: try state.identity(), trusting: trusted, log: log, refused: noteRefusal)
    }

    @Sendable private func noteRefusal(_ why: String) {
        lastRefusal.withLock { $0 = StatusReport.Incident(why: why, at: Timestamp.now().iso8601) }
    }

    // MARK: - promotion

    /// The replica has applied all it could, if it was told to. If that is not all it had, it goes on as a replica.
    private func promote() {
        guard let held = promotion.take() else { return }
        let answer: ControlAnswer
        do {
            let report = try Promotion(state: state, held: held).run()
            log.notice("\(report)")
            log.notice(
                "this process may write the store as it did before: start it again when it suits, and it may not")
            answer = .done(report)
        } catch {
            log.error("\(error)")
            answer = .failed("\(error)")
        }
        promotion.answer(answer)
    }

    /// The replica could not even end as a promotion needs it: who asked is told. Whether it can go on as a replica.
    private func endPromotion(_ error: any Error) -> Bool {
        guard promotion.take() != nil else { return false }
        log.error("not promoted: \(error)")
        promotion.answer(.failed("this replica cannot be promoted: \(error)"))
        return (error as? SystemError)?.isShortage ?? false
    }
}

extension Linux.Thread {
    /// Calls `body` at the first SIGTERM or SIGINT, which must be blocked.
    static func waitForTermination(_ body: @escaping @Sendable () -> Void) -> Bool {
        // Without it a signal is no drain, but an end all the same.
        let thread = try? Linux.Thread.start(name: "signals") {
            _ = Signals.wait(for: [.terminate, .interrupt])
            body()
        }
        return thread != nil
    }
}

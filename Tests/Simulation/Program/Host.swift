import Formats
import Glibc
import Linux
import Logging
import Primary
import Replica
import ReplicationLog
import Seeded
import Store

/// A host with its daemon: started, killed, cut off from power, started again.
///
/// A daemon that dies is not unwound by force: from that moment every call about a file fails and nothing it sends
/// arrives, so its threads end as they end when a disk is gone. What its files are after that was decided before.
///
/// `@unchecked Sendable` holds because only the thread with the world's baton touches it.
final class Host: @unchecked Sendable {
    enum Role {
        case primary, replica
    }

    enum Death {
        /// kill -9: all that was written is there.
        case kill
        /// What was not flushed may not be there.
        case power
    }

    /// An error that calls get for a while.
    struct Fault {
        let errno: Errno
        let calls: Set<String>
        /// Paths that contain this.
        let within: String
        let oneIn: Int
        let end: Int64
    }

    let world: World
    let name: String
    let path: String
    let volume: Disk.Volume
    let layout: StoreLayout
    let network: Network
    private var madeLoop: EventLoop?
    let fingerprint: Fingerprint
    var peer: Host?
    var role: Role
    var epoch = Epoch(1)
    var fencedBy: Epoch?
    var mayOverwrite = false
    private(set) var isDead = false
    private(set) var primary: Primary?
    private(set) var replica: Replica?
    private(set) var startCount = 0
    /// It is to end for good.
    private var isEnding = false
    private(set) var isEnded = false
    /// To stay down after its next end.
    var staysDown = false
    private var isRunning = false
    private var runError: (any Error)?
    private(set) var changeCount = 0
    private var deathAt: Int?
    private var death = Death.kill
    private var diedBy: Death?
    var fault: Fault?
    /// Calls that failed; of these, about the store.
    private(set) var (faultCount, storeFaultCount) = (0, 0)
    /// Short reads and writes happen.
    var transfersSome = false
    private var catalogues: [[String: [UInt8]]] = []
    private var catalogueStamp = ""
    /// Called when it is about to start, with how it ended last.
    var willStart: (Death?) -> Void = { _ in }
    var settings = Settings()
    /// Called with what an audit finds.
    var found: (AuditFinding) -> Void = { _ in }
    /// Called with what the daemon's log says at level error.
    var alarmed: (String) -> Void = { _ in }
    private var log = Logger(label: "")

    /// As an operator would configure it.
    struct Settings {
        var scrubPeriod: Duration?
        var journalBytesMax = 1 << 30
        var journalKeep = Duration.seconds(86_400)
        var segmentBytes = Journal.segmentBytes
        var batchBytes: Int?
        var removals: RemovalLimit?

        init() {}

        init(_ scenario: Scenario) {
            scrubPeriod = scenario.scrubSeconds.map { .seconds($0) }
            removals = scenario.removals
            batchBytes = scenario.batchBytes
            guard let journal = scenario.journal else { return }
            (segmentBytes, journalBytesMax) = (journal.segmentBytes, journal.bytesMax)
            journalKeep = .seconds(journal.keepSeconds)
        }
    }

    var loop: EventLoop {
        guard let madeLoop else { preconditionFailure("\(name) has no loop yet") }
        return madeLoop
    }

    var storePath: String { path + "/store" }
    var statePath: String { path + "/state" }

    init(_ world: World, _ network: Network, _ name: String, _ role: Role, in scratch: String) throws {
        self.world = world
        self.network = network
        self.name = name
        self.role = role
        path = scratch + "/" + name
        fingerprint = Fingerprint(ofDER: Array(name.utf8))
        mkdir(path, 0o700)
        volume = world.disk.add(path)
        world.disk.addPermanent(path + "/lock", to: volume)
        if role == .primary { world.disk.addPermanent(path + "/store", to: volume) }
        let text = """
            configdirectory: \(path)/store/conf
            partition-default: \(path)/store/mail
            sievedir: \(path)/store/sieve
            mboxname_lockpath: \(path)/lock
            hashimapspool: yes

            """
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        layout = try StoreLayout(conf)
        log = Logger(label: name) { [unowned self] _ in TranscriptLog(host: self) }
        let root = try Directory(path)
        for part in ["store", "store/conf", "store/mail", "store/sieve", "state"] {
            try root.makeDirectory(Array(part.utf8))
            try root.flushDirectory(Array(part.utf8))
        }
        madeLoop = try EventLoop(world, self)
        _ = try Linux.Thread.start(name: "init") { [self] in live() }
    }

    // MARK: - life

    private func live() {
        world.current.isOutside = true
        world.current.host = self
        while !isEnding {
            willStart(diedBy)
            diedBy = nil
            startCount += 1
            start()
            while isRunning, !isDead, !isEnding { world.wait(on: ObjectIdentifier(self), until: nil) }
            stop()
            if isEnding { break }
            if let error = runError { world.note("\(name): the daemon ended: \(error)") }
            runError = nil
            if staysDown { break }
            world.sleep(.milliseconds(world.pick(10...3000)))
        }
        isEnded = true
        world.wake(ObjectIdentifier(self))
        loop.end()
    }

    private func start() {
        world.note("\(name): starts as \(role) of epoch \(epoch)")
        let thread = world.current
        thread.isOutside = false
        defer { thread.isOutside = true }
        do {
            switch role {
            case .primary: try startPrimary()
            case .replica: try startReplica()
            }
        } catch {
            runError = error
            isRunning = false
        }
    }

    private func startPrimary() throws {
        var options = Primary.Options(
            store: "main", state: statePath, epoch: epoch, sweepPeriod: .seconds(3600),
            scrubPeriod: settings.scrubPeriod, journalBytesMax: settings.journalBytesMax, jumpBytesMax: .max,
            journalKeep: settings.journalKeep, replicas: Set([peer?.fingerprint.description].compactMap(\.self)),
            segmentBytes: settings.segmentBytes)
        if let bytes = settings.batchBytes { options.batchBytes = bytes }
        let primary = try Primary(
            options, roots: try StoreRoots(layout),
            locks: CyrusLocks(directory: layout.lockRoot, rules: layout.rules.paths), log: log)
        self.primary = primary
        // Before anybody can depose it.
        isRunning = true
        network.listen(self) { [self] in
            if let fencedBy { return FencedUser(by: fencedBy) }
            return primary.makeLinkUser { [self] epoch in deposed(by: epoch) }
        }
        primary.serveAudits { [self, weak primary] asked in
            if let primary { serve(asked, primary) } else { asked.send([]) }
        }
        Task { [self] in
            do { try await primary.run() } catch { runError = error }
            ended()
        }
        _ = try Linux.Thread.start(name: "trim") { [self] in trim(primary) }
    }

    private func deposed(by epoch: Epoch) -> Bool {
        world.note("\(name): deposed by epoch \(epoch)")
        fencedBy = epoch
        isRunning = false
        staysDown = true
        world.wake(ObjectIdentifier(self))
        return true
    }

    private func trim(_ primary: Primary) {
        while isRunning, !isDead, !isEnding {
            do {
                try primary.trim()
                checkTrimmed(primary)
            } catch {
                runError = error
                isRunning = false
                return world.wake(ObjectIdentifier(self))
            }
            world.wait(on: ObjectIdentifier(self), until: MonotonicTime.now() + .seconds(5))
        }
    }

    private func startReplica() throws {
        let options = Replica.Options(
            store: "main", state: statePath, peers: [peer.flatMap { Address("\($0.name):1") }].compactMap(\.self),
            mayOverwrite: mayOverwrite,
            quarantineKeep: .seconds(86_400), removalLimit: settings.removals, segmentBytes: settings.segmentBytes)
        let replica = try Replica(options, layout: layout, dialer: network, log: log)
        self.replica = replica
        isRunning = true
        Task { [self] in
            do { try await replica.run() } catch { runError = error }
            ended()
        }
    }

    private func ended() {
        isRunning = false
        world.wake(ObjectIdentifier(self))
    }

    /// What runs is asked to end, and does.
    private func stop() {
        network.stopListening(self)
        primary?.stop()
        replica?.stop()
        if role == .primary { for link in network.links where link.host === self { link.end("stopped", isTold: true) } }
        world.wake(ObjectIdentifier(self))
        let deadline = world.nanoseconds + 600_000_000_000
        while isRunning || !world.threadNames(of: self).isEmpty {
            guard world.nanoseconds < deadline else {
                world.fail("\(name): does not end: \(isRunning ? "run, " : "")\(world.threadNames(of: self))")
                break
            }
            world.sleep(.milliseconds(10))
        }
        (primary, replica) = (nil, nil)
        guard isDead else { return }
        if diedBy == .power { world.disk.restore(volume) }
        restoreCatalogue()
        isDead = false
        world.note("\(name): is down, by \(diedBy.map { "\($0)" } ?? "?")")
    }

    /// For good; the daemon drains if it can.
    func end() {
        isEnding = true
        world.wake(ObjectIdentifier(self))
        while !isEnded { world.wait(on: ObjectIdentifier(self), until: nil) }
    }

    /// Ends, and does not come back by itself.
    func lose(_ death: Death) {
        staysDown = true
        while !isEnded {
            dieNow(death)
            world.sleep(.milliseconds(10))
        }
    }

    /// Nothing refers to anything any more.
    func letGo() {
        (willStart, found, alarmed) = ({ _ in }, { _ in }, { _ in })
        peer = nil
    }

    func awaitDown() { while !isEnded { world.wait(on: ObjectIdentifier(self), until: nil) } }

    /// Starts again after an end, as something else perhaps.
    func revive(as role: Role, _ epoch: Epoch) throws {
        (self.role, self.epoch) = (role, epoch)
        (isEnding, isEnded, staysDown) = (false, false, false)
        willStart = { _ in }
        madeLoop = try EventLoop(world, self)
        _ = try Linux.Thread.start(name: "init") { [self] in live() }
    }

    /// As `mailsync promote` without a daemon does. Returns what it came to.
    func promote() throws -> ReplicaEnd {
        try world.outside {
            try Replica.applyJournal(in: statePath, layout: layout, removalLimit: nil, log: log)
            let end = try ReplicaEnd(in: statePath)
            try end.prepareForPrimary(in: statePath)
            try ReplicaEnd.forgetReplica(in: statePath)
            return end
        }
    }

    /// As `mailsync init --role replica` on a primary that was.
    func forgetState() {
        for name in Disk.names(in: statePath) { Disk.removeAll(statePath + "/" + name) }
        fencedBy = nil
        mayOverwrite = true
    }

    // MARK: - faults

    /// At the change of a file that comes so many changes from now.
    func die(_ death: Death, afterChanges count: Int) {
        self.death = death
        deathAt = changeCount + count
    }

    func dieNow(_ death: Death) {
        guard !isDead, isRunning else { return }
        isDead = true
        deathAt = nil
        diedBy = death
        world.note("\(name): \(death == .kill ? "killed" : "loses power") at change \(changeCount)")
        saveCatalogue()
        if death == .power {
            let loss = Disk.Loss.allCases.randomElement(using: &world.chance)!
            world.note("\(name): loses \(loss), of \(volume.changes.count) names and \(volume.unflushed.count) files")
            world.disk.cut(volume, loss, &world.chance)
            chooseCatalogue(loss)
        }
        network.hostDied(self)
        world.wake(ObjectIdentifier(self))
    }

    func forgetDeath() { deathAt = nil }

    /// The position at which all is in the log that was written before; nothing if that cannot be told now.
    func positionNow(_ primary: Primary) -> Position? {
        // What fails, as the daemon ends just now, is asked again.
        world.on(self) { try? primary.positionNow(timeout: .seconds(30)) }
    }

    /// Nothing: the call is made.
    func errno(of call: String, _ path: String, isChange: Bool) -> Errno? {
        if isDead { return .inputOutput }
        if isChange {
            changeCount += 1
            if let at = deathAt, changeCount >= at {
                world.note("\(name): dies at \(call) \(path.dropFirst(self.path.count))")
                dieNow(death)
                return .inputOutput
            }
        }
        guard let fault, fault.calls.contains(call), path.contains(fault.within) else { return nil }
        guard world.nanoseconds < fault.end else {
            self.fault = nil
            return nil
        }
        guard world.isLucky(1, in: fault.oneIn) else { return nil }
        faultCount += 1
        if path.contains("/store/") {
            storeFaultCount += 1
            if call == "openat2" || call == "pread" { unreadPaths.insert(path) }
        }
        world.note("\(name): \(fault.errno) from \(call) \(path.dropFirst(self.path.count))")
        if call == "fsync" || call == "fdatasync" { world.disk.failFlush(path: path) }
        if call == "syncfs" { world.disk.failFlush(of: volume) }
        if call == "inotify_add_watch" { hasLackedWatches = true }
        return fault.errno
    }

    /// Some directory's changes are told by no event, and found by a sweep.
    private(set) var hasLackedWatches = false

    /// What could not be opened or read in the store, as absolute paths.
    private(set) var unreadPaths: Set<String> = []

    private static let readers: Set<String> = [
        "capture", "sweep", "seed", "seed-count", "verify", "scrub", "scrub-metadata",
    ]

    /// Of the readings of an audit, one in so many takes long; the more there are, the longer.
    var slownessOneIn = 40

    private static let auditors: Set<String> = ["verify", "scrub", "scrub-metadata", "audit"]

    /// Whether the thread that runs is in no hurry, and keeps nobody waiting.
    var mayBeSlow: Bool { Self.auditors.contains(world.current.name) }

    /// Whether the thread that runs reads the store under no lock of its own that others wait for.
    var mayBeInterrupted: Bool { role == .primary && Self.readers.contains(world.current.name) }

    // MARK: - the catalogue

    // SQLite writes it by itself. A power cut leaves it as it was after one of the commits since the last that was flushed,
    // or as it is.

    private static let catalogueFiles = ["catalogue", "catalogue-wal"]

    private func readCatalogue() -> [String: [UInt8]] {
        var files: [String: [UInt8]] = [:]
        for name in Self.catalogueFiles {
            files[name] = world.outside {
                // None is there before the first start.
                try? Descriptor.open(statePath + "/" + name, for: .reading).readAll(max: 1 << 28)
            }
        }
        return files
    }

    /// Called often.
    func noteCatalogue() {
        guard role == .primary, isRunning, !isDead else { return }
        var (main, wal) = (Glibc.stat(), Glibc.stat())
        guard stat(statePath + "/catalogue", &main) == 0, stat(statePath + "/catalogue-wal", &wal) == 0 else { return }
        let stamp = "\(main.st_size) \(main.st_mtim.tv_sec).\(main.st_mtim.tv_nsec)"
        // The main file is only ever written at a checkpoint, which is flushed.
        if !catalogueStamp.hasPrefix(stamp + " ") { catalogues = [] }
        let all = stamp + " \(wal.st_size) \(wal.st_mtim.tv_sec).\(wal.st_mtim.tv_nsec)"
        guard all != catalogueStamp else { return }
        catalogueStamp = all
        catalogues.append(readCatalogue())
        if catalogues.count > 6 { catalogues.removeFirst() }
    }

    private var catalogueAfterDeath: [String: [UInt8]]?

    private func saveCatalogue() { if role == .primary { catalogueAfterDeath = readCatalogue() } }

    private func chooseCatalogue(_ loss: Disk.Loss) {
        guard role == .primary, loss != .nothing, let one = catalogues.randomElement(using: &world.chance) else {
            return
        }
        catalogueAfterDeath = one
    }

    private func restoreCatalogue() {
        catalogues = []
        guard let files = catalogueAfterDeath else { return }
        catalogueAfterDeath = nil
        for name in Self.catalogueFiles + ["catalogue-shm"] { unlink(statePath + "/" + name) }
        for (name, bytes) in files { Disk.write(bytes, to: statePath + "/" + name) }
    }
}

/// What the daemons say.
struct TranscriptLog: LogHandler {
    /// Lives as long as the run.
    unowned let host: Host
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        host.world.note("\(host.name): \(event.message)")
        if event.level == .error { host.alarmed("\(event.message)") }
    }

    init(host: Host) { self.host = host }
}

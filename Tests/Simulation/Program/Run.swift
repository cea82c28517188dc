import Formats
import Glibc
import Linux
import Primary
import Replica
import ReplicationLog

/// One seed: two hosts, a Cyrus, faults; then peace, and a look at what came of it.
final class Run {
    let seed: UInt64
    private(set) var statistics = ""

    private let world: World
    private let scratch: String
    /// Of simulated time; nothing: a short one.
    private let hours: Int?

    /// After peace, both must be one within this.
    private static let patience = Duration.seconds(1200)

    init(seed: UInt64, hours: Int?, mutation: Mutation?, scratch: String) {
        self.seed = seed
        self.hours = hours
        self.scratch = scratch + "/\(seed)"
        world = World(seed: seed)
        world.mutation = mutation
        if hours != nil { world.transcriptMax = 20_000 }
        world.scratch = self.scratch + "/"
    }

    var transcript: [String] { world.transcript }

    /// Why it failed; nothing if all is well.
    func run() -> String? {
        Simulation.kernel = world
        defer { Simulation.kernel = nil }
        mkdir(scratch, 0o700)
        do {
            let pool = try TaskPool(world)
            Tasks.use(pool)
            try simulate()
            pool.end()
            while world.hasOthers { world.sleep(.milliseconds(1)) }
        } catch {
            world.fail("the simulation itself: \(error)")
        }
        Tasks.use(nil)
        Disk.removeAll(scratch)
        return world.failure
    }

    private func simulate() throws {
        let scenario = hours.map { Scenario.long(world, hours: $0) } ?? Scenario.short(world)
        let network = Network(world)
        let primary = try Host(world, network, "p", .primary, in: scratch)
        let replica = try Host(world, network, "r", .replica, in: scratch)
        (primary.peer, replica.peer) = (replica, primary)
        defer {
            // What refers to each other goes, or it would stay for ever with its descriptors.
            network.end()
            world.atSwitch = {}
            for host in [primary, replica] { host.letGo() }
        }
        for host in [primary, replica] { host.settings = Host.Settings(scenario) }
        let oracle = Oracle(world, primary: primary, replica: replica)
        oracle.looksOneIn = scenario.looksOneIn
        oracle.removalLimit = world.mutation == .noBrake ? Mutation.removalLimit : scenario.removals
        (network.tap, network.taken) = (oracle.sent, oracle.taken)
        replica.willStart = { [world] death in
            if death == .kill, !oracle.isBlind { oracle.checkAfterKill() }
            oracle.replicaWillStart()
            if world.mutation == .skipReplay { Mutation.skipReplay(replica, to: oracle.acked) }
        }
        world.mutation?.make(network, primary, replica)
        world.atSwitch = { [world] in if world.current.name == "capture" { primary.noteCatalogue() } }
        let cyrus = try CyrusModel(world, primary.layout)
        cyrus.focus = scenario.focus
        let judge = Judge(world, primary: primary, replica: replica, oracle: oracle)
        let attendant = Operator(world, primary: primary, replica: replica, judge, oracle)
        let cyrusEnd = try start(cyrus, scenario)
        try attendant.start(scenario)
        let faults = Faults(world, primary, replica, network, oracle, scenario)
        faults.run(until: cyrusEnd)
        faults.makePeace()
        if world.failure == nil, scenario.failsOver, oracle.isCopy, world.mutation == nil {
            attendant.end()
            return try failOver(primary, replica, network, oracle)
        }
        if world.failure == nil { awaitEquality(primary, replica, oracle) }
        attendant.rest()
        if world.failure == nil { awaitEquality(primary, replica, oracle) }
        if world.failure == nil { try attendant.examine(scenario) }
        attendant.end()
        replica.end()
        primary.end()
        if world.failure == nil { oracle.checkEqual() }
        if world.failure == nil { oracle.checkMailboxes() }
        if world.failure == nil { oracle.checkStore() }
        statistics =
            "\(cyrus.operationCount) operations, \(oracle.batchCount) batches, \(oracle.checkCount) looks, "
            + "\(judge.auditCount) audits, \(judge.completeCount) of them complete, \(judge.findingCount) findings, "
            + "\(oracle.jumpCount) jumps, \(primary.startCount)+\(replica.startCount) starts, "
            + "\(world.switchCount) switches, \(Int(world.nanoseconds / 1_000_000_000)) s"
        world.note(statistics)
    }

    /// The flag is set when Cyrus has ended.
    private func start(_ cyrus: CyrusModel, _ scenario: Scenario) throws -> Flag {
        let (world, work, end) = (world, Boxed(cyrus), Flag())
        let pause = scenario.pauseMax
        @Sendable func isDone() -> Bool {
            switch scenario.length {
            case .operations(let count): work.value.operationCount >= count
            case .time(let time): world.nanoseconds >= time
            }
        }
        _ = try Linux.Thread.start(name: "cyrus") {
            world.current.isOutside = true
            do {
                while !isDone(), world.failure == nil {
                    try work.value.operate()
                    world.sleep(.milliseconds(world.isLucky(1, in: 10) ? pause * 50 : world.pick(0...pause)))
                }
            } catch {
                world.fail("the model of Cyrus: \(error)")
            }
            end.isSet = true
        }
        return end
    }

    /// The primary is lost, the replica is promoted; the old primary comes back, hears of it, changes nothing, and becomes
    /// the replica of the new one, over what it has.
    private func failOver(_ primary: Host, _ replica: Host, _ network: Network, _ oracle: Oracle) throws {
        primary.lose(world.isLucky(1, in: 2) ? .kill : .power)
        if world.isLucky(1, in: 2) { replica.dieNow(.kill) }
        replica.end()
        guard world.failure == nil else { return }
        let end: ReplicaEnd
        do {
            end = try replica.promote()
        } catch is NotPromotable where oracle.isJumping {
            statistics = "no promotion in the middle of a jump"
            return world.note(statistics)
        }
        oracle.checkPromoted(end)
        let epoch = max(end.epochSeen, end.applied.epoch).next
        let promoted = try world.outside { try Oracle.tree(replica.layout) }
        network.tap = { _, _, _ in }
        network.taken = { _, _, _ in }
        world.atSwitch = {}
        try replica.revive(as: .primary, epoch)
        try primary.revive(as: .primary, Epoch(1))
        let deadline = world.nanoseconds + Self.patience.nanosecondsClamped
        while primary.fencedBy != epoch, world.failure == nil {
            guard world.nanoseconds < deadline else { return world.fail("the old primary was not fenced") }
            world.on(replica) {
                _ = Task {
                    // Nobody there yet: told again.
                    try? await network.dial(Address("p:1")!, user: FenceUser(store: "main", epoch: epoch) { _ in })
                }
            }
            world.sleep(.seconds(2))
        }
        primary.awaitDown()
        world.outside {
            if let now = try? Oracle.tree(replica.layout), now == promoted { return }
            world.fail("something changed the new primary's store")
        }
        primary.forgetState()
        try primary.revive(as: .replica, Epoch(1))
        let back = Oracle(world, primary: replica, replica: primary)
        awaitEquality(replica, primary, back)
        primary.end()
        replica.end()
        if world.failure == nil { back.checkEqual() }
        // What had not come was told at the promotion, and is missing.
        if world.failure == nil, end.awaited.isEmpty { back.checkMailboxes() }
        statistics = "failed over and back, \(Int(world.nanoseconds / 1_000_000_000)) s"
        world.note(statistics)
    }

    /// Until the replica has applied all that the primary has.
    private func awaitEquality(_ primary: Host, _ replica: Host, _ oracle: Oracle) {
        let deadline = world.nanoseconds + Self.patience.nanosecondsClamped
        var goal: Position?
        while world.failure == nil {
            guard world.nanoseconds < deadline else {
                return world.fail(
                    "not equal \(Self.patience) after peace: goal \(goal.map { "\($0)" } ?? "none"), primary "
                        + "\(primary.primary.map { "\($0.status.journaled)" } ?? "down"), replica "
                        + "\(replica.replica.map { "\($0.status)" } ?? "down")")
            }
            world.sleep(.milliseconds(20))
            guard let one = primary.primary, let other = replica.replica else {
                goal = nil
                continue
            }
            if goal == nil { goal = primary.positionNow(one) }
            // As "mailsync wait" asks: after a jump no earlier position counts. What a replica had applied before it lost power
            // it applies once more, and has told only when it is connected again.
            if let goal, one.wait(for: goal, .applied, timeout: .milliseconds(1)), other.status.applied >= goal,
                other.status.awaitedCount == 0
            {
                return
            }
        }
    }
}

/// Set by one thread and read by another, both with the baton.
final class Flag: @unchecked Sendable { var isSet = false }

/// Shared by threads, of which one has the baton.
final class Boxed<Value>: @unchecked Sendable {
    var value: Value

    init(_ value: Value) { self.value = value }
}

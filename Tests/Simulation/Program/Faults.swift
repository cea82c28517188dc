import Glibc
import Linux
import Seeded

/// Deaths, cuts and errors, one after the other while Cyrus works.
final class Faults {
    private let world: World
    private let primary: Host
    private let replica: Host
    private let network: Network
    private let oracle: Oracle
    private let scenario: Scenario

    init(
        _ world: World, _ primary: Host, _ replica: Host, _ network: Network, _ oracle: Oracle, _ scenario: Scenario
    ) {
        self.world = world
        self.primary = primary
        self.replica = replica
        self.network = network
        self.oracle = oracle
        self.scenario = scenario
    }

    func run(until end: Flag) {
        primary.transfersSome = world.isLucky(1, in: 3)
        replica.transfersSome = world.isLucky(1, in: 3)
        if world.isLucky(1, in: 3) { network.badFrameOneIn = world.pick(10...100) }
        world.note("faults: \(scenario.faults)\(network.badFrameOneIn.map { ", one bad frame in \($0)" } ?? "")")
        while !end.isSet, world.failure == nil {
            for host in [primary, replica] where world.isLucky(1, in: 3) {
                host.slownessOneIn = [4, 40, 40, 40].randomElement(using: &world.chance)!
            }
            world.sleep(.milliseconds(world.pick(1...scenario.faultPauseMax)))
            if let one = scenario.faults.randomElement(using: &world.chance) { make(one, until: end) }
        }
    }

    private func make(_ fault: Scenario.Fault, until end: Flag) {
        let either = world.isLucky(1, in: 2) ? primary : replica
        switch fault {
        case .replicaKilled: replica.die(.kill, afterChanges: world.pick(1...120))
        case .replicaLosesPower: replica.die(.power, afterChanges: world.pick(1...120))
        case .primaryKilled: primary.die(.kill, afterChanges: world.pick(1...120))
        case .primaryLosesPower: primary.die(.power, afterChanges: world.pick(1...120))
        case .linksCut:
            world.note("the network is cut")
            network.cut(network.links)
        case .noSpace: fail(either, .noSpace)
        case .inputOutput: fail(either, .inputOutput)
        case .unreadable:
            world.note("r: files of the store cannot be opened")
            replica.fault = Host.Fault(
                errno: .inputOutput, calls: ["openat2"], within: "/store/", oneIn: world.pick(1...6),
                end: soon(2000))
        case .unsynced:
            world.note("r: syncfs fails")
            replica.fault = Host.Fault(
                errno: .inputOutput, calls: ["syncfs"], within: "", oneIn: world.pick(1...3), end: soon(3000))
        case .fewWatches:
            world.note("p: watches are used up")
            primary.fault = Host.Fault(
                errno: .noSpace, calls: ["inotify_add_watch"], within: "/proc/self/fd/", oneIn: world.pick(1...3),
                end: soon(6000))
            if world.isLucky(1, in: 2) { primary.dieNow(.kill) }
        case .sudden: either.dieNow(world.isLucky(1, in: 2) ? .kill : .power)
        case .away: beAway(until: end)
        }
    }

    private func soon(_ millisecondsMax: Int) -> Int64 {
        world.nanoseconds + Int64(world.pick(1...millisecondsMax)) * 1_000_000
    }

    private func fail(_ host: Host, _ errno: Errno) {
        let changing: Set<String> = ["pwrite", "mkdirat", "openat2", "renameat2", "linkat", "symlinkat"]
        let flushing: Set<String> = ["fdatasync", "fsync"]
        let isSpace = errno == .noSpace
        let calls =
            isSpace
            ? changing : world.isLucky(1, in: 2) ? flushing : ["pwrite", "renameat2", "unlinkat", "pread", "ftruncate"]
        // What the primary's store cannot give is no fault of its daemon.
        let within =
            host.role == .primary || calls == flushing
            ? "/state/" : ["/state/", "/store/"].randomElement(using: &world.chance)!
        let oneIn = world.pick(1...30)
        world.note("\(host.name): \(errno) from one in \(oneIn) of \(calls.sorted()) in \(within)")
        if host.role == .replica, within == "/store/" { oracle.mayBeTorn = true }
        host.fault = Host.Fault(errno: errno, calls: calls, within: within, oneIn: oneIn, end: soon(3000))
    }

    /// Until the log has been trimmed, or is short. The link is lost, or the host is down.
    private func beAway(until end: Flag) {
        let time = world.nanoseconds + Int64(world.pick(10...150)) * 1_000_000_000
        world.note("r: away until \(time / 1000)")
        network.isDown = true
        network.cut(network.links)
        while !end.isSet, world.nanoseconds < time, world.failure == nil {
            if world.isLucky(1, in: 10) {
                make([.replicaKilled, .sudden].randomElement(using: &world.chance)!, until: end)
            }
            world.sleep(.milliseconds(world.pick(100...5000)))
        }
        network.isDown = false
        guard world.isLucky(1, in: 3) else { return }
        // It comes back, and is gone again before it has heard much.
        while network.links.isEmpty, !end.isSet, world.failure == nil { world.sleep(.milliseconds(5)) }
        world.sleep(.milliseconds(world.pick(0...40)))
        beAway(until: end)
    }

    func makePeace() {
        world.note("peace")
        network.badFrameOneIn = nil
        for host in [primary, replica] {
            host.fault = nil
            host.slownessOneIn = 40
            host.forgetDeath()
        }
    }
}

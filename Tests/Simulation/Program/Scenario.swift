import Replica

/// What a seed is about, chosen before anything happens: so that some runs are long without a crash, some are about files
/// that do not come, some have a log that is trimmed.
struct Scenario {
    enum Fault: CaseIterable {
        case replicaKilled, replicaLosesPower, primaryKilled, primaryLosesPower
        case linksCut, noSpace, inputOutput, unreadable
        /// The file system of the replica's store cannot be flushed.
        case unsynced
        /// The user's watches are used up for a while, where the primary starts or a directory is made.
        case fewWatches
        /// Either end, in any way, between two changes.
        case sudden
        /// The replica is not reached for long.
        case away
    }

    enum Length {
        case operations(Int)
        /// ns of simulated time.
        case time(Int64)
    }

    enum Damage {
        case none
        /// Behind the daemons' back, when all is one and Cyrus has ended: each must be told, and nothing else.
        case atRest
        /// While Cyrus works: nothing else may be told, and in the end a repair heals all.
        case underLoad
    }

    struct Journal {
        var segmentBytes: Int
        var bytesMax: Int
        var keepSeconds: Int
    }

    var faults: [Fault]
    /// ms between two faults, at most.
    var faultPauseMax: Int
    var length: Length
    /// ms between two of Cyrus's operations, usually.
    var pauseMax: Int
    /// What Cyrus does most, without a rest.
    var focus: CyrusModel.Focus?
    /// ms between two audits, at most; nothing: none before the end.
    var auditPauseMax: Int?
    var scrubSeconds: Int?
    var journal: Journal?
    var removals: RemovalLimit?
    var batchBytes: Int?
    var damage = Damage.none
    /// The primary is lost in the end.
    var failsOver: Bool
    /// Of the positions that the replica says it is at, one in so many is looked at.
    var looksOneIn = 3

    /// Operations, and faults close to each other.
    static func short(_ world: World) -> Scenario {
        let isAboutAwaited = world.isLucky(1, in: 6)
        let isAboutTrimming = !isAboutAwaited && world.isLucky(1, in: 5)
        var scenario = Scenario(
            faults: isAboutAwaited ? [.unreadable] : Fault.allCases.filter { _ in world.isLucky(1, in: 2) },
            faultPauseMax: isAboutAwaited ? 300 : 1500,
            length: .operations(world.pick(isAboutAwaited ? 30...60 : isAboutTrimming ? 60...120 : 5...40)),
            pauseMax: world.pick(isAboutAwaited ? 1...30 : 1...200), failsOver: world.isLucky(1, in: 4))
        if !isAboutTrimming { scenario.faults.removeAll { $0 == .away } }
        if !isAboutAwaited, !isAboutTrimming, world.isLucky(2, in: 7) {
            (scenario.looksOneIn, scenario.length) = (1, .operations(world.pick(60...150)))
            if world.isLucky(1, in: 2) {
                (scenario.focus, scenario.pauseMax) = (.moves, 2)
            } else {
                (scenario.focus, scenario.pauseMax) = (.mailboxes, 30)
                scenario.faults += [.primaryKilled, .fewWatches]
            }
        }
        if isAboutTrimming {
            scenario.faults += [.away, .away]
            let segmentBytes = world.pick(4...24) << 10
            scenario.journal = Journal(
                segmentBytes: segmentBytes, bytesMax: segmentBytes * world.pick(2...6),
                keepSeconds: world.isLucky(1, in: 3) ? world.pick(10...120) : 86_400)
        }
        if world.isLucky(1, in: scenario.focus == .moves ? 2 : 4) { scenario.batchBytes = world.pick(100...5000) }
        if world.isLucky(2, in: 3) { scenario.auditPauseMax = world.pick(1...1500) }
        if world.isLucky(1, in: 4) { scenario.scrubSeconds = world.pick(10...120) }
        if world.isLucky(1, in: 6) {
            var limit = RemovalLimit(shareMax: Double(world.pick(1...20)) / 100)
            limit.countMin = world.pick(2...8)
            scenario.removals = limit
        }
        if !scenario.failsOver {
            scenario.damage = world.isLucky(1, in: 3) ? .atRest : world.isLucky(1, in: 6) ? .underLoad : .none
        }
        return scenario
    }

    /// A day, say: heavy mixed load, audits back to back, and now and then a daemon or a link that ends.
    static func long(_ world: World, hours: Int) -> Scenario {
        Scenario(
            faults: Fault.allCases.filter { $0 != .away }, faultPauseMax: 240_000,
            length: .time(Int64(hours) * 3_600_000_000_000), pauseMax: 330, auditPauseMax: 2500, scrubSeconds: 900,
            failsOver: false, looksOneIn: 60)
    }
}

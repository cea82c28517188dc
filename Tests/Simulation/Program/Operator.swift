import Linux
import Primary
import Replica
import Seeded
import Store

/// Who looks after both ends: has them verified, again and again, and lets a replica go on that the brake stopped.
///
/// `@unchecked Sendable` holds because only the thread with the world's baton touches it.
final class Operator: @unchecked Sendable {
    private let world: World
    private let primary: Host
    private let replica: Host
    private let judge: Judge
    private let oracle: Oracle
    private let isAtRest = Flag()
    private let isEnding = Flag()
    private var running: [ObjectIdentifier: Int] = [:]

    private static let patience = 40

    init(_ world: World, primary: Host, replica: Host, _ judge: Judge, _ oracle: Oracle) {
        self.world = world
        self.primary = primary
        self.replica = replica
        self.judge = judge
        self.oracle = oracle
    }

    func start(_ scenario: Scenario) throws {
        if let pauseMax = scenario.auditPauseMax {
            try work("operator", until: isAtRest) { [self] in
                auditOnce()
                world.sleep(.milliseconds(world.pick(0...pauseMax)))
            }
        }
        if case .underLoad = scenario.damage {
            let saboteur = Saboteur(world, primary: primary, replica: replica)
            oracle.isBlind = true
            try work("saboteur", until: isAtRest) { [self] in
                world.sleep(.milliseconds(world.pick(100...3000)))
                harm(saboteur)
            }
        }
        if scenario.removals != nil {
            try work("resume", until: isEnding) { [self] in
                world.sleep(.milliseconds(world.pick(100...4000)))
                resume()
            }
        }
    }

    private func work(_ name: String, until end: Flag, _ body: @escaping @Sendable () -> Void) throws {
        running[ObjectIdentifier(end), default: 0] += 1
        _ = try Linux.Thread.start(name: name) { [self] in
            world.current.isOutside = true
            while !end.isSet, world.failure == nil { body() }
            running[ObjectIdentifier(end), default: 0] -= 1
        }
    }

    /// No audits and no damage from here on. An audit that is under way ends first.
    func rest() {
        end(isAtRest)
        // One that was asked for over a link which has ended since may still be about to notice.
        while world.threadNames(of: primary).contains("verify") { world.sleep(.milliseconds(10)) }
    }

    func end() {
        rest()
        end(isEnding)
    }

    private func end(_ flag: Flag) {
        flag.isSet = true
        while running[ObjectIdentifier(flag), default: 0] > 0 { world.sleep(.milliseconds(10)) }
    }

    private func auditOnce() {
        let depths: [AuditOptions.Depth] = [.metadata, .content, .content, .cyrus]
        let depth = depths.randomElement(using: &world.chance)!
        if world.isLucky(1, in: 6) {
            _ = replica.relayedAudit(depth)
        } else if let audit = primary.audit(AuditOptions(depth: depth, repair: repair())) {
            judge.note(audit)
        }
    }

    private func repair() -> AuditOptions.RepairPolicy { world.isLucky(1, in: 3) ? .repair : .reportOnly }

    /// Does what `status` says; now and then for nothing.
    private func resume() {
        guard let daemon = replica.replica else { return }
        let status = daemon.status
        let isStopped = status.phase == .paused && status.lastError?.why.contains("removal_brake") == true
        guard isStopped || world.isLucky(1, in: 20) else { return }
        world.note("r: resume\(isStopped ? "" : ", though nothing is stopped")")
        if isStopped { oracle.brakeReleased() }
        _ = daemon.releaseBrake()
    }

    /// Files only that no delta is made of, or whose deltas say of what they are.
    private func harm(_ saboteur: Saboteur) {
        guard replica.replica != nil, !replica.isDead else { return }
        do {
            let kinds: [Damage.Kind] = [.flippedBit, .truncated, .written, .removed, .extraFile]
            guard let damage = try saboteur.harm(kinds) else { return }
            judge.harmed.formUnion(damage.statements.map(\.path))
        } catch {
            world.fail("damage under load: \(error)")
        }
    }

    // MARK: - at rest

    /// Both stores are one, and nobody writes: what an audit says then is all there is to say.
    func examine(_ scenario: Scenario) throws {
        if case .underLoad = scenario.damage { try repairHarmed() }
        let depth: AuditOptions.Depth = world.isLucky(1, in: 3) ? .cyrus : .content
        complete(AuditOptions(depth: depth))
        guard case .atRest = scenario.damage, world.failure == nil else { return }
        let saboteur = Saboteur(world, primary: primary, replica: replica)
        oracle.isBlind = true
        // What was written within the last two seconds may be a change that is just under way.
        world.sleep(.seconds(world.pick(3...10)))
        for _ in 0..<world.pick(1...4) {
            if let one = try saboteur.harm(Damage.Kind.allCases) { judge.damage.append(one) }
        }
        world.sleep(.seconds(world.pick(0...10)))
        if world.isLucky(1, in: 2) { complete(AuditOptions(depth: .metadata)) }
        if world.isLucky(1, in: 2) { complete(AuditOptions(depth: .content)) }
        complete(AuditOptions(depth: .content, repair: .repair))
        guard world.failure == nil else { return }
        for one in judge.damage where !one.kind.isOfReplica { try one.mend() }
        judge.forgetDamage()
        oracle.isBlind = false
        complete(AuditOptions(depth: .content))
    }

    /// What is wrong at the end is what an independent comparison says.
    private func repairHarmed() throws {
        let different = try world.outside { try Oracle.differences(primary.layout, replica.layout) }
        world.note("damaged, and not mended by itself: \(different.sorted())")
        complete(AuditOptions(depth: .content, repair: .repair)) { [judge] in judge.check($0, of: different) }
        judge.forgetDamage()
        oracle.seesAgain()
    }

    private func complete(_ options: AuditOptions) {
        complete(options) { [judge] in judge.check($0, options) }
    }

    private func complete(_ options: AuditOptions, _ check: (Audit) -> Void) {
        for _ in 0..<Self.patience where world.failure == nil {
            if let audit = primary.audit(options) {
                judge.note(audit)
                if audit.isComplete { return check(audit) }
            }
            world.sleep(.milliseconds(world.pick(100...1000)))
        }
        if world.failure == nil { world.fail("at rest no audit came to its end") }
    }
}

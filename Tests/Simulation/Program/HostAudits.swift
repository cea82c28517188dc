import Formats
import Linux
import Primary
import Replica
import ReplicationLog

// Audits, as the daemon makes them: in a thread of the primary's each, asked for at either end. And what must be true of
// the log that is kept.

/// What came of an audit.
struct Audit {
    var findings: [AuditFinding] = []
    /// Nothing if it could not be finished.
    var end: AuditProgress?
    var error: (any Error)?

    var isComplete: Bool { end.map { $0.unfinished.isEmpty && $0.unreadable.isEmpty } ?? false }
}

extension Host {
    /// As `mailsync verify` at a primary. Nothing if it is down.
    func audit(_ options: AuditOptions) -> Audit? {
        guard let daemon = primary else { return nil }
        return inThread { [self] in run(options, of: daemon) }
    }

    /// What this comes to in a thread of the daemon's; nothing if there can be none.
    private func inThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) -> Result? {
        let (result, isDone) = (Boxed<Result?>(nil), Flag())
        do {
            try world.on(self) {
                _ = try Linux.Thread.start(name: "verify") { [self] in
                    result.value = body()
                    isDone.isSet = true
                    world.wake(ObjectIdentifier(isDone))
                }
            }
        } catch {
            return nil
        }
        while !isDone.isSet { world.wait(on: ObjectIdentifier(isDone), until: nil) }
        return result.value
    }

    private func run(
        _ options: AuditOptions, of daemon: Primary, isCancelled: @escaping @Sendable () -> Bool = { false }
    ) -> Audit {
        var audit = Audit()
        world.note("\(name): audit \(options.depth)\(options.repairs ? " with repair" : "")")
        do {
            let end = try daemon.audit(
                options, isCancelled: isCancelled,
                tell: { event in
                    guard case .finding(let finding) = event else { return }
                    audit.findings.append(finding)
                    self.found(finding)
                })
            world.note("\(name): audited \(end.directoryCount) directories, \(end.unfinished.count) unfinished")
            audit.end = end
        } catch {
            world.note("\(name): audit ended: \(error)")
            audit.error = error
        }
        return audit
    }

    /// The same, asked for at this end, which is a replica. False if there was no end of it.
    func relayedAudit(_ depth: AuditOptions.Depth) -> Bool {
        guard let daemon = replica else { return false }
        let hasEnded = inThread { [self] in
            var last: [UInt8] = []
            let end = daemon.audit(utf8(depth.rawValue), isCancelled: { isDead }, line: { last = $0 })
            return if case .finished = end { last == Self.lastLine } else { false }
        }
        return hasEnded ?? false
    }

    private static let lastLine = utf8("complete")

    /// Called on the loop, so it must not wait.
    func serve(_ asked: AuditRequest, _ daemon: Primary) {
        guard let depth = AuditOptions.Depth(rawValue: String(decoding: asked.text, as: UTF8.self)) else {
            return world.fail("\(name): asked for an audit in words that nobody said")
        }
        do {
            _ = try Linux.Thread.start(name: "verify") { [self] in
                let audit = run(AuditOptions(depth: depth), of: daemon, isCancelled: { asked.isCancelled })
                if audit.end != nil { asked.send(Self.lastLine) }
                asked.send([])
            }
        } catch {
            asked.send([])
        }
    }

    /// What was trimmed is on every replica's disk, or its paths are kept for it.
    func checkTrimmed(_ daemon: Primary) {
        let status = daemon.status
        for (name, replica) in status.replicas where replica.slot.flushed < status.oldest {
            let missed = world.outside {
                // Unread it is none.
                try? MissedPaths(in: statePath, replica: name)
            }
            guard let missed, missed.since <= replica.slot.flushed, missed.through >= status.oldest else {
                return world.fail(
                    "the log is trimmed up to \(status.oldest), and a replica is at \(replica.slot.flushed)")
            }
        }
        if world.mutation == .forgetMissed {
            for name in status.replicas.keys { world.outside { Mutation.forgetMissed(of: self, name) } }
        }
    }
}

extension AuditOptions {
    var repairs: Bool { if case .repair = repair { true } else { false } }
}

import Formats
import Linux
import Logging
import ReplicationLog
import Store

/// What the primary offers of audits to others: the program's commands, and the links.
extension Primary {
    /// Audits, and returns what was compared; `tell` hears of findings as they are made. Blocks its thread.
    ///
    /// Throws `AuditFailure` when it could not be finished, and what was found by then has been told.
    package func audit(
        _ options: AuditOptions, isCancelled: @escaping @Sendable () -> Bool, tell: @escaping (AuditEvent) -> Void
    ) throws -> AuditProgress {
        do { try checkRoots() } catch { throw AuditFailure(why: "\(error)", kind: .unavailable) }
        // A check would wait for it in vain.
        let paused = slots.all.filter { $0.value.state == .paused }.min { $0.key < $1.key }
        if let (name, slot) = paused {
            throw AuditFailure(why: "\(name) is paused: \(slot.pausedBecause ?? "")", kind: .interrupted)
        }
        var progress = try audit(options, isCancelled: isCancelled, proven: { _ in }, tell: tell)
        progress.absent = slots.all.keys.filter { !progress.replicas.contains($0) }.sorted()
        return progress
    }

    /// `proven` hears of each directory that every replica was just proven to have alike.
    func audit(
        _ options: AuditOptions, isCancelled: @escaping @Sendable () -> Bool,
        proven: @escaping @Sendable (StorePath) -> Void, tell: @escaping (AuditEvent) -> Void
    ) throws -> AuditProgress {
        guard status.phase == .streaming else {
            throw AuditFailure(why: "the store is being looked through for the first time", kind: .unavailable)
        }
        let totals = try catalogue.snapshot().totals()
        let status = captureStatus
        let parts = AuditWalk.Parts(
            roots: roots, desk: desk, locks: locks, log: log, alarms: { status.current.alarms },
            isCyrusAtWork: { MonotonicTime.now() - status.current.lastShipped < Self.workInterval },
            proven: { directory, _ in proven(directory) }, isCancelled: isCancelled, tell: tell)
        return try AuditWalk(options, parts, totals: totals).run()
    }

    /// Who changed nothing for so long is not at work.
    private static let workInterval = Duration.milliseconds(250)
}

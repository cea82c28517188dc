import Digests
package import Formats
package import Linux
package import Logging
import ReplicationLog
package import Store
import Synchronization

/// How far a replica that has stopped came: what a promotion starts from.
package struct ReplicaEnd: Sendable {
    /// What becomes of the part of the log that the removal brake holds back.
    package enum HeldLog: String, Codable, Sendable { case kept, discarded }

    package let applied: Position
    package let epochSeen: Epoch
    /// The primary's clock at the last batch applied.
    package let exactAt: Timestamp?
    /// Files that could not be applied, and that the primary did not send again.
    package let awaited: [StorePath]

    /// Throws `NotPromotable` if the store is no consistent copy.
    ///
    /// What the removal brake holds stands against it, unless it is `discarded`, with all of the log behind it.
    package init(in state: String, _ held: HeldLog = .kept) throws {
        let record = try ReplicaRecord(in: state)
        guard record.phase == .seeded else { throw NotPromotable(why: "it was never seeded to the end") }
        guard record.applied >= record.consistentAfter else {
            throw NotPromotable(
                why:
                    "its seed is consistent at \(record.consistentAfter), and it has only applied up to \(record.applied)"
            )
        }
        let flushed = try JournalStart.openJournal(in: state, applied: record.applied).flushed
        var isWhole = record.applied == flushed.position
        if !isWhole, let why = try HeldRemovals.reason(in: state) {
            guard held == .discarded else {
                throw NotPromotable(
                    why: "\(why): if that is right, \"mailsync resume\" while \"mailsync run\" runs lets it go on; "
                        + "if the primary lost them, \"mailsync promote --discard-held\" makes a primary of this copy as it is: "
                        + "without that and all that came after, and without what was removed before there was too much of it, "
                        + "which \"mailsync quarantine list\" shows")
            }
            try JournalStart.cutJournal(in: state, after: record.applied)
            isWhole = true
        }
        guard isWhole else {
            throw NotPromotable(
                why: "it has the log up to \(flushed.position), and has only applied it up to \(record.applied): "
                    + "\"mailsync status\" tells what it waits for")
        }
        awaited = try AwaitedPaths(in: state, applied: record.applied).paths.sorted()
        applied = record.applied
        epochSeen = record.epochSeen
        exactAt = record.exactAt == 0 ? nil : Timestamp(nanoseconds: record.exactAt)
    }

    /// Before it is written down that this end is the primary: nothing is there of an earlier life as one. It can still go on as a
    /// replica. On disk on return.
    package func prepareForPrimary(in state: String) throws(SystemError) {
        try Self.remove(["slots", "catalogue", "catalogue-wal", "catalogue-shm"], in: state)
    }

    /// After that: nothing is there of the replica but its journal, which goes on.
    package static func forgetReplica(in state: String) throws(SystemError) {
        try remove(["replica", "seeded", "awaited", "held", "unflushed"], in: state)
    }

    private static func remove(_ names: [String], in state: String) throws(SystemError) {
        let directory = try Directory(state)
        for name in names {
            do throws(SystemError) {
                try directory.unlink(Array(name.utf8))
            } catch {
                guard error.errno == .noEntry else { throw error }
            }
        }
        try directory.flushDirectory()
    }
}

package struct NotPromotable: Error, CustomStringConvertible {
    let why: String

    package var description: String { "this replica cannot be promoted: \(why)" }
}

extension Replica {
    /// Throws `NotPromotable` if a promotion now would end with a store that is no consistent copy.
    package func checkPromotable() throws {
        let status = status
        if [.unseeded, .seeding].contains(status.phase) { throw NotPromotable(why: "it was never seeded to the end") }
        try checkPlaces()
    }

    /// Throws `StrangeRoot` if a seed has begun here, and a root is another directory than the one that it wrote to.
    package static func checkRoots(in state: String, _ layout: StoreLayout) throws {
        guard try ReplicaRecord(in: state).phase != .unseeded else { return }
        try KnownRoots(in: state).check(layout, try KnownRoots(at: layout), of: .replica)
    }

    /// Applies all that is in the journal, with no link and no other thread: for a promotion when no daemon runs. What the
    /// removal brake holds back stays so.
    package static func applyJournal(
        in state: String, layout: StoreLayout, removalLimit: RemovalLimit?, log: Logger
    ) throws {
        let record = try ReplicaRecord(in: state)
        guard record.phase == .seeded else { throw NotPromotable(why: "it was never seeded to the end") }
        try checkRoots(in: state, layout)
        let journal = try JournalStart.openJournal(in: state, applied: record.applied)
        let shared = SharedReplica(now: Timestamp.now)
        shared.stop()
        shared.follow(awaiting: try AwaitedPaths(in: state, applied: record.applied))
        let writer = try StoreWriter(layout, quarantine: try Quarantine(state + "/quarantine"))
        let parts = Applier.Parts(
            journal: journal, writer: writer, tidyUp: {}, layout: layout, removalLimit: removalLimit, state: state,
            shared: shared, log: log)
        try Applier(parts, record: record, seeded: try SeededVersions(in: state)).run()
        try writer.leave()
    }

    /// Whether `position` was reached before `timeout`. Blocks its thread.
    package func wait(for position: Position, isApplied: Bool, timeout: Duration) -> Bool {
        let deadline = MonotonicTime.now() + timeout
        while true {
            let status = status
            let reached = status.reached(isApplied ? min(status.applied, shared.awaited.exact) : status.flushed)
            if reached >= position { return leads(through: position) }
            let now = MonotonicTime.now()
            guard now < deadline else { return false }
            waitForProgress(timeout: min(.milliseconds(100), deadline - now))
        }
    }

    /// False for what a primary of an earlier epoch wrote behind the fork.
    private func leads(through position: Position) -> Bool {
        guard let journal = shared.journal.withLock({ $0 }) else { return false }
        do throws(JournalError) {
            return try journal.leads(through: position)
        } catch {
            shared.failed("\(error)")
            return false
        }
    }
}

import Formats
import Linux
import Replica

/// Makes a primary of a replica that has applied all it had: a new epoch, and the role in the state directory.
struct Promotion {
    let state: StateDirectory
    var held = ReplicaEnd.HeldLog.kept

    /// A primary that is connected lives.
    static func warning(before status: ReplicaStatus) -> String? {
        guard status.isLinked else { return nil }
        return "the old primary was connected until now: stop Cyrus there, if it still runs; "
            + "what it takes in from now on is in its own store only"
    }

    /// Returns what the operator must know. The state directory is held, and no replica runs.
    func run() throws -> String {
        let end = try ReplicaEnd(in: state.path, held)
        let epoch = max(end.epochSeen, end.applied.epoch).next
        try end.prepareForPrimary(in: state.path)
        try state.save(StateDirectory.Standing(role: .primary, epoch: epoch, fencedBy: nil))
        try ReplicaEnd.forgetReplica(in: state.path)
        let time = end.exactAt.map(\.iso8601) ?? "the end of its seed (no batch came since)"
        let lacking = end.awaited.map {
            "\nnot as on the old primary, which was asked for it and did not answer: \($0)"
        }
        let rest = held == .discarded ? "were never received, or were discarded" : "were never received"
        let before =
            held == .discarded
            ? "\nwhat the old primary removed before there was too much of it is removed here as well: \"mailsync quarantine list\" shows it"
            : ""
        return "promoted: this end is the primary of epoch \(epoch) now; complete up to \(time); "
            + "batches after \(end.applied), if any, \(rest)" + before + lacking.joined()
    }
}

/// A promotion without a daemon: what is in the journal is applied here.
struct OfflinePromotion {
    let configuration: Configuration
    let state: StateDirectory
    let held: ReplicaEnd.HeldLog

    func run() throws -> String {
        let hold = try state.hold()
        defer {
            try? state.giveToOwner()  // `check` tells of what is root's
            withExtendedLifetime(hold) {}
        }
        try Replica.applyJournal(
            in: state.path, layout: try configuration.layout(), removalLimit: configuration.removalLimit,
            log: Output.makeLogger())
        return try Promotion(state: state, held: held).run()
    }
}

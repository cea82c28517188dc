import Formats
import Linux
import Replica
import ReplicationLog

/// Faults made on purpose, one at a time: each must be found within 200 seeds.
enum Mutation: String, CaseIterable {
    /// The replica's journal is never really flushed.
    case dropFlush = "drop-flush"
    /// The replica's store is never really flushed, though the journal is trimmed as if it were.
    case dropCheckpoint = "drop-checkpoint"
    /// The primary's journal is never really flushed.
    case dropPrimaryFlush = "drop-primary-flush"
    /// The replica acks as flushed what it has only received.
    case ackEarly = "ack-early"
    /// An index is put in place before the messages that it names.
    case indexFirst = "index-first"
    /// A change is made of a file that is not what it starts from.
    case skipBasis = "skip-basis"
    /// After a crash nothing is applied again from the journal.
    case skipReplay = "skip-replay"
    /// Whatever the replica finds, it says that it is as the check claims.
    case alwaysEqual = "always-equal"
    /// A check claims what was not held against the disk.
    case claimUnproven = "claim-unproven"
    /// A change that an event told of, and that is not captured yet, counts as missed.
    case ignoreTold = "ignore-told"
    /// A replica judges directories of which files are still to come.
    case ignoreAwaited = "ignore-awaited"
    /// The log is trimmed without asking who has it.
    case trimEarly = "trim-early"
    /// Of a log that was trimmed, half of the paths are forgotten.
    case forgetMissed = "forget-missed"
    /// annotations.db is read before the indexes that keep sums of it.
    case annotationsFirst = "annotations-first"
    /// mailboxes.db is not read again, whatever changed while the users' mailboxes were read.
    case mailboxesOnce = "mailboxes-once"
    /// mailboxes.db goes into the log ahead of mailboxes that no event told of.
    case untoldMailboxes = "untold-mailboxes"
    /// What changed of a user while no event had told of it is not read with the rest.
    case usersOnce = "users-once"
    /// A mailbox that has messages no more does not wait for those of others, where they may be.
    case othersLater = "others-later"
    /// A batch ends between two indexes, too.
    case partAnywhere = "part-anywhere"
    /// Nothing stops a replica that is to remove much.
    case noBrake = "no-brake"
}

extension Mutation {
    /// What the operator of a replica that has no brake has configured.
    static var removalLimit: RemovalLimit {
        var limit = RemovalLimit(shareMax: 0.1)
        limit.countMin = 5
        return limit
    }
}

/// Those that are made from outside; the others are where the product asks for them by name.
extension Mutation {
    func make(_ network: Network, _ primary: Host, _ replica: Host) {
        switch self {
        case .dropFlush: replica.volume.unflushable = "/state/journal/"
        case .dropCheckpoint: replica.volume.isNeverWholly = true
        case .dropPrimaryFlush: primary.volume.unflushable = "/state/journal/"
        case .ackEarly: Self.ackEarly(network)
        case .alwaysEqual: Self.alwaysEqual(network)
        case .noBrake: replica.settings.removals = nil
        case .indexFirst, .skipBasis, .skipReplay, .claimUnproven, .ignoreTold, .ignoreAwaited, .trimEarly,
            .forgetMissed, .annotationsFirst, .mailboxesOnce, .untoldMailboxes, .usersOnce, .othersLater,
            .partAnywhere:
            break
        }
    }

    /// The same, where the product does it itself.
    var inside: Simulation.Mutation? {
        switch self {
        case .indexFirst: .indexFirst
        case .skipBasis: .skipBasis
        case .claimUnproven: .claimUnproven
        case .ignoreTold: .ignoreTold
        case .ignoreAwaited: .ignoreAwaited
        case .trimEarly: .trimEarly
        case .annotationsFirst: .annotationsFirst
        case .mailboxesOnce: .mailboxesOnce
        case .untoldMailboxes: .untoldMailboxes
        case .usersOnce: .usersOnce
        case .othersLater: .othersLater
        case .partAnywhere: .partAnywhere
        case .dropFlush, .dropCheckpoint, .dropPrimaryFlush, .ackEarly, .skipReplay, .alwaysEqual, .forgetMissed,
            .noBrake:
            nil
        }
    }

    /// The replica acks as flushed what it has received, as soon as it has.
    private static func ackEarly(_ network: Network) {
        let applied = Boxed(Position.zero)
        network.rewrite = { _, frame in
            // Whatever else it is stays as it was.
            guard case .ack(var ack)? = try? Message(decoding: frame[4...]) else { return frame }
            applied.value = ack.applied
            ack.flushed = ack.received
            return Message.ack(ack).encoded()
        }
        network.received = { host, message, link in
            // A damaged one is not acked.
            guard host.role == .replica, case .batch(let bytes) = message,
                let batch = try? SealedBatch(checking: bytes), batch.header.kind == .log,
                let received = host.replica?.status.received, received == batch.position
            else { return }
            link.send(.ack(Ack(received: received, flushed: received, applied: applied.value)))
        }
    }

    private static func alwaysEqual(_ network: Network) {
        network.rewrite = { _, frame in
            // Whatever else it is stays as it was.
            guard case .verdict(let verdict)? = try? Message(decoding: frame[4...]) else { return frame }
            return Message.verdict(AuditVerdict(number: verdict.number, outcome: .equal)).encoded()
        }
    }

    /// The replica takes all that it acked for applied.
    static func skipReplay(_ replica: Host, to position: Position) {
        // A state directory without the file is a new one.
        guard let bytes = try? Descriptor.open(replica.statePath + "/replica", for: .reading).readAll(max: 4096),
            String(decoding: bytes, as: UTF8.self).contains("phase seeded")
        else { return }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
            line.hasPrefix("applied ") ? "applied \(position)" : String(line)
        }
        let text = Array((lines.joined(separator: "\n") + "\n").utf8)
        // Where it fails the mutation is not made, and not found.
        try? AtomicFile.replace(directory: replica.statePath, name: "replica", bytes: text)
    }

    /// After a trim.
    static func forgetMissed(of primary: Host, _ replica: String) {
        // The same.
        guard let missed = try? MissedPaths(in: primary.statePath, replica: replica), missed.paths.count > 1 else {
            return
        }
        let kept = missed.paths.sorted().prefix(missed.paths.count / 2)
        var less = MissedPaths(since: missed.since)
        less.add(kept.map { Record($0, .remove) }, at: missed.through)
        try? less.save(in: primary.statePath, replica: replica)
    }
}

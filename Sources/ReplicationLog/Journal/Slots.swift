package import Formats
package import Linux
internal import Synchronization

/// How far a replica is, as it said last. Invariant: applied <= flushed. Within an epoch `flushed` only grows; `applied` falls
/// back when a replica that lost power connects: it applies what its store had not on disk once more.
package struct Slot: Equatable, Sendable {
    package var flushed: Position
    package var applied: Position
    /// After a jump or a seed the replica is consistent from here on: no earlier position counts as reached.
    package var consistentAfter = Position.zero
    package var isConnected = false
    /// Nothing: not since the daemon started.
    package var lastHeard: Timestamp?
    /// Between being told to begin a seed, or a jump, and coming to follow the log behind it: it has nothing until then.
    package var isSeeding = false
    /// Why the replica applied nothing, or took nothing in, when it was heard last; in its words.
    package var pausedBecause: String?

    /// Of a replica that has to be seeded: all of the log is kept for it, and nothing counts as reached.
    static let unknown = Slot(flushed: .zero, applied: .zero, isSeeding: true)

    package var isUnknown: Bool { flushed == .zero }

    package enum State: String, Sendable { case disconnected, seeding, paused, connected }

    package var state: State {
        guard isConnected else { return .disconnected }
        return isSeeding ? .seeding : pausedBecause == nil ? .connected : .paused
    }
}

/// The slots of a primary, one for each replica, named by its fingerprint; kept on disk, so that the log which an
/// absent replica needs is not trimmed, and that nobody takes one for a copy that was only half seeded when we ended.
///
/// `slots` in the state directory, replaced whole, one a line: name, flushed, applied, consistent after, and `seeding` if it is.
package final class Slots: Sendable {
    private let directory: String
    private let slots: Mutex<[String: Slot]>

    private static let fileName = "slots"
    private static let seeding = "seeding"

    /// Reads the slots of an earlier run, if there are any.
    package init(in directory: String) throws(SystemError) {
        self.directory = directory
        var slots: [String: Slot] = [:]
        let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 1 << 20) ?? []
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard (4...5).contains(words.count), let flushed = Position(words[1]), let applied = Position(words[2]),
                let consistentAfter = Position(words[3])
            else { continue }
            slots[String(words[0])] = Slot(
                flushed: flushed, applied: applied, consistentAfter: consistentAfter,
                isSeeding: words.count == 5 && words[4] == Self.seeding)
        }
        self.slots = Mutex(slots)
    }

    /// Forgets the replicas that are not among `names`: they may not connect any more, so nobody waits for them.
    package func keep(only names: Set<String>) {
        slots.withLock { slots in slots = slots.filter { names.contains($0.key) } }
    }

    /// Who has followed more than our log, which ends at `end`, has followed another one, of which ours is at most a part: nothing is
    /// known of these replicas until they are seeded over what they have. Returns their names. Not on disk yet.
    package func forget(beyond end: Position) -> [String] {
        slots.withLock { slots in
            let lost = slots.filter { max($0.value.flushed, $0.value.consistentAfter) > end }.keys.sorted()
            for name in lost { slots[name] = .unknown }
            return lost
        }
    }

    package var all: [String: Slot] { slots.withLock { $0 } }

    /// What every replica has on its disk; nothing while there is no replica.
    package var slowest: Position? { slots.withLock { $0.values.map(\.flushed).min() } }

    /// A replica connected, at `flushed`. To be saved before it is sent anything: a primary that forgets it would take what
    /// it lacks for known.
    ///
    /// `consistentAfter`: where it says that its copy is; nothing: as it was before, until a seed or a jump is sent.
    package func connect(
        _ name: String, flushed: Position, applied: Position, consistentAfter: Position? = nil, isSeeding: Bool,
        now: Timestamp
    ) {
        slots.withLock {
            $0[name] = Slot(
                flushed: flushed, applied: applied,
                consistentAfter: consistentAfter ?? $0[name]?.consistentAfter ?? .zero,
                isConnected: true, lastHeard: now, isSeeding: isSeeding, pausedBecause: $0[name]?.pausedBecause)
        }
    }

    /// A jump or a seed was sent, and makes the replica consistent from `position` on. On disk on return, so to be called before
    /// the replica is told: it may go on with that when we have been killed.
    package func settle(_ name: String, after position: Position) throws(SystemError) {
        slots.withLock { $0[name]?.consistentAfter = position }
        try save()
    }

    /// Positions only grow; what is behind is an old ack, and dropped.
    package func advance(_ name: String, _ ack: Ack, now: Timestamp) {
        slots.withLock { slots in
            guard var slot = slots[name] else { return }
            slot.flushed = max(slot.flushed, ack.flushed)
            slot.applied = max(slot.applied, ack.applied)
            slot.lastHeard = now
            slots[name] = slot
        }
    }

    package func heard(_ name: String, now: Timestamp) { slots.withLock { $0[name]?.lastHeard = now } }

    package func paused(_ name: String, because why: String?) { slots.withLock { $0[name]?.pausedBecause = why } }

    package func disconnect(_ name: String) { slots.withLock { $0[name]?.isConnected = false } }

    /// On disk on return. Several threads may save: what is there last is the newest.
    package func save() throws(SystemError) {
        try saving.withLock { (_) throws(SystemError) in
            let lines = all.sorted { $0.key < $1.key }.map {
                "\($0.key) \($0.value.flushed) \($0.value.applied) \($0.value.consistentAfter)"
                    + ($0.value.isSeeding ? " \(Self.seeding)\n" : "\n")
            }
            try AtomicFile.replace(
                directory: directory, name: Self.fileName, bytes: Array(lines.joined().utf8), mode: 0o600)
        }
    }

    private let saving = Mutex(())
}

package import Formats
package import Linux

/// What a replica tells of itself; a moment's picture.
package struct ReplicaStatus: Sendable {
    package var phase: Phase = .starting
    package var since = Timestamp.now()
    package var received = Position.zero
    package var flushed = Position.zero
    package var applied = Position.zero
    /// What the primary said it has.
    package var journaled = Position.zero
    package var epochSeen = Epoch(0)
    /// From here on the copy is consistent.
    package var consistentAfter = Position.zero
    /// Of the last batch applied, by the primary's clock; nothing while the copy is not consistent yet.
    package var exactAt: Timestamp?
    /// Whether a primary is connected.
    package var isLinked = false
    /// When the primary was heard of last.
    package var lastHeard: Timestamp?
    /// Files that were asked for whole and have not come yet.
    package var awaitedCount = 0
    package var lastError: (why: String, at: Timestamp)?
    package var seed: SeedProgress?
    package var journalBytes = 0
    /// Of the journal that is not applied yet; about.
    package var lagBytes = 0

    /// How far `position`, of what is flushed or applied, counts for who waits: not at all while there is no copy, or one that is
    /// not consistent yet.
    func reached(_ position: Position) -> Position {
        [.unseeded, .seeding, .diverged].contains(phase) || position < consistentAfter ? .zero : position
    }

    /// The store has all that a primary that was just heard of has told of.
    package var isInStep: Bool {
        phase == .streaming && applied >= max(journaled, consistentAfter) && awaitedCount == 0
    }

    /// The store is as the primary's was then; nothing while it is not consistent yet.
    package var exactAsOf: Timestamp? { isInStep ? [exactAt, lastHeard].compactMap(\.self).max() : exactAt }

    package enum Phase: String, Sendable {
        case starting, unseeded, seeding
        case catchingUp = "catching up"
        case streaming, disconnected, paused, promoting
        /// Cannot go on without a seed.
        case diverged
    }
}

package struct SeedProgress: Sendable {
    package var fileCount: UInt64 = 0
    /// Of all the seed; nothing until the primary has counted them.
    package var expectedFileCount: UInt64?
    package var byteCount: UInt64 = 0
    package var wireBytes: UInt64 = 0
    package var started = MonotonicTime.now()
    /// When all had come; nothing before.
    package var ended: MonotonicTime?

    /// Until all has come, if the rest goes as what came so far.
    package func remaining(now: MonotonicTime) -> Duration? {
        guard let expectedFileCount, fileCount > 0, ended == nil else { return nil }
        let left = expectedFileCount > fileCount ? Double(expectedFileCount - fileCount) : 0
        return (now - started) * (left / Double(fileCount))
    }
}

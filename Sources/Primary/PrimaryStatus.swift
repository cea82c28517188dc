package import Formats
package import ReplicationLog

/// What a primary tells of itself; a moment's picture.
package struct PrimaryStatus: Sendable {
    package var epoch: Epoch
    package var phase: Phase
    package var journaled: Position
    package var oldest: Position
    package var journalBytes: Int
    /// By the replica's fingerprint.
    package var replicas: [String: Replica]
    package var capture: CaptureStatus
    package var watch: WatchCounts
    /// What the continuous audit has proven; nothing where there is none.
    package var scrub: ScrubRecord?

    package enum Phase: String, Sendable {
        /// The tree is being watched, or compared for the first time.
        case starting
        case streaming
    }

    package struct Replica: Sendable {
        package var slot: Slot
        package var shipped: Position
        /// Of the log that it has not flushed; about.
        package var lagBytes: Int
    }
}

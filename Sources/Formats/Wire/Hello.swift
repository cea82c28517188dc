package import Digests

/// What a replica says first.
package struct Hello: Equatable, Sendable {
    package var version = Message.protocolVersion
    /// The name of the store, from the configuration.
    package var store: String
    package var purpose: Purpose
    /// What the replica has on disk, and the chain hash there.
    package var flushed: Position
    package var hash: ChainHash
    package var applied: Position
    /// From here on the replica's copy is consistent: a log that does not lead through it cannot make a copy of it.
    package var consistentAfter: Position
    /// The highest epoch this end has ever seen: a primary below it is fenced.
    package var epochSeen: Epoch
    package var naming: NamingRules

    package enum Purpose: UInt8, Sendable {
        /// Follow the log.
        case stream = 1
        /// Seed an empty target.
        case seedEmpty = 2
        /// Seed over what is there.
        case seedOver = 3
        /// Not a replica: a primary of a newer epoch, that says so.
        case fence = 4
    }

    package init(
        store: String, purpose: Purpose, flushed: Position, hash: ChainHash, applied: Position,
        consistentAfter: Position = .zero, epochSeen: Epoch, naming: NamingRules
    ) {
        self.store = store
        self.purpose = purpose
        self.flushed = flushed
        self.hash = hash
        self.applied = applied
        self.consistentAfter = consistentAfter
        self.epochSeen = epochSeen
        self.naming = naming
    }

    /// Of another version, of which nothing else is known.
    init(ofVersion version: UInt16) {
        self.init(
            store: "", purpose: .stream, flushed: .zero, hash: .zero, applied: .zero, epochSeen: Epoch(0),
            naming: NamingRules())
        self.version = version
    }
}

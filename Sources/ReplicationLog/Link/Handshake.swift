package import Digests
package import Formats

/// The primary's side of a handshake, decided: from what a replica says of itself to where its log begins.
package enum Handshake {
    /// What a primary knows of itself.
    package struct Ours: Sendable {
        package var store: String
        /// Nothing: this end is not a primary.
        package var epoch: Epoch?
        package var newest: Position
        package var newestHash: ChainHash
        /// Nothing older than what follows this position is kept.
        package var oldest: Position
        /// What the trimmed log was about is known from here on, for this replica; nothing if it lacks none of it.
        package var knownSince: Position?
        package var naming: NamingRules

        package init(
            store: String, epoch: Epoch?, newest: Position, newestHash: ChainHash, oldest: Position,
            knownSince: Position? = nil, naming: NamingRules
        ) {
            self.store = store
            self.epoch = epoch
            self.newest = newest
            self.newestHash = newestHash
            self.oldest = oldest
            self.knownSince = knownSince
            self.naming = naming
        }
    }

    package enum Answer: Equatable, Sendable {
        /// Send the log after the replica's own position.
        case stream
        /// Send a seed, and let the log begin at our newest position.
        case seed(overCopy: Bool)
        /// The log after the replica's position is not kept: jump to our newest position, and send whole what the log
        /// between was about.
        case jump
        /// A newer primary: this one is deposed.
        case deposed(by: Epoch)
        case refuse(Refusal, text: String)
    }

    /// `hashAt` gives the chain hash at a position of our journal, or nothing where there is none.
    package static func answer(
        to hello: Hello, ours: Ours, hashAt: (Position) -> ChainHash?
    ) -> Answer {
        guard hello.version == Message.protocolVersion else {
            return .refuse(
                .wrongVersion,
                text: "protocol \(hello.version) at the end that asks, \(Message.protocolVersion) at the other: "
                    + "run one version on both ends")
        }
        guard hello.store == ours.store else {
            return .refuse(
                .wrongStore, text: "the primary's store is \"\(ours.store)\", the replica's \"\(hello.store)\"")
        }
        guard let epoch = ours.epoch else {
            return .refuse(.notPrimary, text: "the end that was asked is a replica, not a primary")
        }
        if hello.purpose == .fence {
            return hello.epochSeen > epoch
                ? .deposed(by: hello.epochSeen)
                : .refuse(
                    .rival,
                    text:
                        "epoch \(epoch) was promoted here, and epoch \(hello.epochSeen) elsewhere: there are two primaries"
                )
        }
        guard hello.epochSeen <= epoch else {
            return .refuse(
                .fenced,
                text: "epoch \(hello.epochSeen) was promoted elsewhere; the primary that was asked is of epoch \(epoch)"
            )
        }
        if let difference = ours.naming.difference(from: hello.naming) {
            return .refuse(
                .otherNaming,
                text: "\(difference.option): \(difference.here) on the primary, \(difference.there) on the replica: "
                    + "Cyrus there would not find what is replicated; give the replica's imapd.conf the primary's value, "
                    + "and start mailsync there again")
        }
        switch hello.purpose {
        case .seedEmpty: return .seed(overCopy: false)
        case .seedOver: return .seed(overCopy: true)
        case .stream, .fence: return stream(hello, ours, hashAt)
        }
    }

    private static func stream(_ hello: Hello, _ ours: Ours, _ hashAt: (Position) -> ChainHash?) -> Answer {
        // What a seed or a jump has brought is as of positions up to there, and a log that forked before never tells of it.
        if hello.consistentAfter.sequence > hello.flushed.sequence, !leads(through: hello.consistentAfter, ours, hashAt)
        {
            return .refuse(
                .diverged,
                text:
                    "the replica's copy is consistent at \(hello.consistentAfter), through which this log does not lead"
            )
        }
        if hello.flushed == ours.newest, hello.hash == ours.newestHash { return .stream }
        guard hello.flushed.sequence <= ours.newest.sequence else {
            return .refuse(
                .diverged, text: "the replica is at \(hello.flushed), ahead of this log's end \(ours.newest)")
        }
        guard hello.flushed.sequence >= ours.oldest.sequence else {
            // Of the epoch that the kept log begins in, what was before cannot have forked from it.
            if let since = ours.knownSince, hello.flushed >= since, hello.flushed.epoch == ours.oldest.epoch {
                return .jump
            }
            return .refuse(
                .trimmed, text: "the log after \(hello.flushed) is no longer kept; it begins at \(ours.oldest)")
        }
        guard let hash = hashAt(hello.flushed), hash == hello.hash else {
            return .refuse(.diverged, text: "the replica's log forked from this one at or before \(hello.flushed)")
        }
        return .stream
    }

    /// Of a trimmed log it is known for the epoch in which the kept one begins.
    private static func leads(
        through position: Position, _ ours: Ours, _ hashAt: (Position) -> ChainHash?
    ) -> Bool {
        position <= ours.oldest ? position.epoch == ours.oldest.epoch : hashAt(position) != nil
    }
}

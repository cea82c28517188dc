import Formats

/// How often a seed is begun.
package enum SeedTries: Sendable {
    /// Again and again, as a daemon does.
    case untilSeeded
    /// Once with each peer, as somebody waits for it; what one has begun is gone on with.
    case onceEachPeer
}

/// No peer began the seed that somebody waits for.
package struct SeedNotBegun: Error, Equatable, CustomStringConvertible {
    /// One of each peer.
    let reasons: [String]
    /// One that answered said so, and trying again does not help.
    package let isRefused: Bool
    /// What to do; nothing where the reasons say it.
    package let hint: String?

    package var description: String { "seed: \(reasons.joined(separator: "; "))" }
}

/// The primary's store has a root that this end's has not.
package struct MissingRoot: Error, Equatable, CustomStringConvertible {
    let name: RootName

    package var description: String {
        "seed: the primary's store has \(name), and this end's imapd.conf has none of that name"
    }

    package static let hint = "both ends name the same partitions; add it to imapd.conf here, and make its directory"
}

/// Why the peers do not seed, until it is time to give up. Pure.
struct SeedRefusals {
    private let peerCount: Int
    private var areFinal: Bool
    private var reasons: [String] = []
    private var refusals: [Refusal] = []

    init(peerCount: Int, _ tries: SeedTries) {
        self.peerCount = peerCount
        areFinal = if case .onceEachPeer = tries { true } else { false }
    }

    /// A peer has agreed, so that what comes after is an interruption; or it is time to end.
    mutating func excuse() { areFinal = false }

    /// Throws `SeedNotBegun` when that was the last peer. `refusal`: what it answered, if it did.
    mutating func note(_ reason: String, _ refusal: Refusal? = nil) throws {
        reasons.append(reason)
        if let refusal { refusals.append(refusal) }
        guard areFinal, reasons.count >= peerCount else { return }
        throw SeedNotBegun(
            reasons: reasons, isRefused: refusals.contains { [.wrongStore, .wrongVersion, .otherNaming].contains($0) },
            hint: hint)
    }

    private var hint: String? {
        if refusals.contains(.wrongStore) { return "store must say the same in both ends' configuration" }
        guard refusals.isEmpty else { return nil }
        return "is \"mailsync run\" running on the primary, and is it the one that peer and peer_fingerprint name?"
    }
}

/// How the configuration calls the other ends, which know each other by the fingerprints of their certificates.
struct PeerNames: Sendable {
    private let names: [String: String]

    init(_ peers: [Configuration.Peer]) {
        let named = peers.filter { !$0.name.isEmpty }.compactMap { peer in
            peer.fingerprint.map { ("\($0)", peer.name) }
        }
        names = Dictionary(named) { first, _ in first }
    }

    /// Nothing for one that is only `peer`.
    func own(of fingerprint: String) -> String? { names[fingerprint] }

    func words(for fingerprint: String) -> String { names[fingerprint].map { "\($0) (\(fingerprint))" } ?? fingerprint }
}

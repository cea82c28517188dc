internal import NIOCore
internal import NIOSSL

/// TLS 1.3, both ends with a certificate, no authority between them: an end is who its pinned certificate says.
///
/// Names and dates in certificates are not looked at; the pin is the whole trust.
struct TLS: Sendable {
    private let context: NIOSSLContext

    init(identity: Identity) throws {
        let certificate = try NIOSSLCertificate.fromPEMBytes(Array(identity.certificate.utf8))
        let key = try NIOSSLPrivateKey(bytes: Array(identity.privateKey.utf8), format: .pem)
        var configuration = TLSConfiguration.makeServerConfigurationWithMTLS(
            certificateChain: certificate.map { .certificate($0) }, privateKey: .privateKey(key),
            trustRoots: .certificates(certificate))
        configuration.minimumTLSVersion = .tlsv13
        configuration.certificateVerification = .noHostnameVerification
        context = try NIOSSLContext(configuration: configuration)
    }

    /// `verified` is told the peer's fingerprint and says whether it is one of ours.
    func serverHandler(_ verified: @escaping @Sendable (Fingerprint) -> Bool) -> NIOSSLServerHandler {
        NIOSSLServerHandler(context: context, customVerificationCallback: Self.callback(verified))
    }

    func clientHandler(_ verified: @escaping @Sendable (Fingerprint) -> Bool) throws -> NIOSSLClientHandler {
        try NIOSSLClientHandler(
            context: context, serverHostname: nil, customVerificationCallback: Self.callback(verified))
    }

    /// What went wrong, without the library's types around it; `refused` is a certificate that `verified` did not know.
    static func words(for error: any Error, refused: Fingerprint?) -> String {
        if let refused { return "the certificate there is \(refused), which is no peer_fingerprint here" }
        // BoringSSL's names of alerts and reasons are all that tells them apart.
        let text = "\(error)"
        if text.contains("ALERT"), text.contains("CERTIFICATE") || text.contains("UNKNOWN_CA") {
            return "this end's certificate is not known there: what \"mailsync fingerprint\" prints here belongs into "
                + "peer_fingerprint there, and the daemon there is to be started again then"
        }
        return text.contains("WRONG_VERSION_NUMBER") ? "who listens there does not speak TLS" : "TLS: \(text)"
    }

    private static func callback(
        _ verified: @escaping @Sendable (Fingerprint) -> Bool
    ) -> NIOSSLCustomVerificationCallback {
        { certificates, promise in
            guard let leaf = certificates.first, let bytes = try? leaf.toDERBytes() else {  // unreadable: not ours
                return promise.succeed(.failed)
            }
            promise.succeed(verified(Fingerprint(ofDER: bytes)) ? .certificateVerified : .failed)
        }
    }
}

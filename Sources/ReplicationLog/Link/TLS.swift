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

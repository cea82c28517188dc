internal import Crypto
internal import Digests
package import Foundation
internal import NIOSSL
internal import SwiftASN1
internal import X509

/// SHA-256 of a certificate, by which the ends know each other.
package struct Fingerprint: Hashable, Sendable, CustomStringConvertible {
    private let hash: ChainHash

    /// Of a certificate in DER.
    package init(ofDER bytes: [UInt8]) { hash = ChainHash(of: bytes) }

    /// Reads `SHA256:` and 64 hexadecimal digits, colons between them allowed; nothing if `text` is anything else.
    package init?(_ text: String) {
        guard text.uppercased().hasPrefix("SHA256:") else { return nil }
        let digits = text.dropFirst("SHA256:".count).filter { $0 != ":" }
        guard digits.count == 2 * ChainHash.byteCount, digits.allSatisfy(\.isHexDigit) else { return nil }
        var bytes: [UInt8] = []
        var rest = digits[...]
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        hash = ChainHash(bytes: bytes)
    }

    package var description: String { "SHA256:\(hash)" }
}

/// This end's key and certificate: made once by `mailsync init`, pinned by the peer, valid until they are replaced.
package struct Identity: Sendable {
    /// PEM.
    package let certificate: String
    /// PEM.
    package let privateKey: String
    package let fingerprint: Fingerprint

    /// Twenty years: what counts is the pin, and a certificate that runs out at night helps nobody.
    private static let lifetime: TimeInterval = 20 * 365 * 86400

    /// A new P-256 key and a certificate for it, signed by itself.
    package static func make(commonName: String, now: Date) throws -> Identity {
        let key = P256.Signing.PrivateKey()
        let name = try DistinguishedName { CommonName(commonName) }
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key.publicKey),
            notValidBefore: now.addingTimeInterval(-86400), notValidAfter: now.addingTimeInterval(lifetime),
            issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
            },
            issuerPrivateKey: .init(key))
        return try Identity(certificate: try certificate.serializeAsPEM().pemString, privateKey: key.pemRepresentation)
    }

    /// Throws if the certificate or the key is not one, or the key is another's.
    package init(certificate: String, privateKey: String) throws {
        self.certificate = certificate
        self.privateKey = privateKey
        let document = try PEMDocument(pemString: certificate)
        fingerprint = Fingerprint(ofDER: document.derBytes)
        let key = try P256.Signing.PrivateKey(pemRepresentation: privateKey)
        guard try Certificate(pemDocument: document).publicKey == .init(key.publicKey) else { throw IdentityMismatch() }
    }
}

/// A key and a certificate that were not made together.
package struct IdentityMismatch: Error, CustomStringConvertible {
    package var description: String { "the key is not the certificate's" }
}

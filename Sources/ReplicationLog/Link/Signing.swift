internal import Crypto
package import Digests
internal import SwiftASN1
internal import X509

// A text signed with an end's key: ECDSA on P-256 over SHA-256 of the 32 bytes of the text's own SHA-256, in DER.
// With openssl, CERT being the certificate and TEXT what was signed:
//
//     openssl dgst -sha256 -binary TEXT > hash; openssl x509 -in CERT -pubkey -noout > key
//     openssl dgst -sha256 -verify key -signature SIGNATURE hash

extension Identity {
    /// The signature, in DER. Throws if the private key is none.
    package func sign(_ hash: ChainHash) throws -> [UInt8] {
        let key = try P256.Signing.PrivateKey(pemRepresentation: privateKey)
        return Array(try key.signature(for: hash.bytes).derRepresentation)
    }
}

/// A certificate that came with a signature: known by its fingerprint, believed by nobody for that.
package struct Signer: Sendable {
    package let fingerprint: Fingerprint
    private let certificate: [UInt8]

    /// `certificate`: in DER.
    package init(certificate: [UInt8]) {
        self.certificate = certificate
        fingerprint = Fingerprint(ofDER: certificate)
    }

    /// Whether `signature` is its key's of `hash`; false too for a certificate or a signature that cannot be read.
    package func signed(_ hash: ChainHash, _ signature: [UInt8]) -> Bool {
        // What cannot be read proves nothing.
        guard let certificate = try? Certificate(derEncoded: certificate),
            let key = P256.Signing.PublicKey(certificate.publicKey),
            let signature = try? P256.Signing.ECDSASignature(derRepresentation: signature)  // the same
        else { return false }
        return key.isValidSignature(signature, for: hash.bytes)
    }
}

extension Identity {
    /// In DER.
    package var certificateBytes: [UInt8] {
        // It was read at `init`.
        (try? PEMDocument(pemString: certificate).derBytes) ?? []
    }
}

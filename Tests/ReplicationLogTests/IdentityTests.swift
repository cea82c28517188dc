import Foundation
import ReplicationLog
import Testing

@Suite struct FingerprintTests {
    private let text = "SHA256:" + String(repeating: "0123456789abcdef", count: 4)

    @Test func `a fingerprint is read as it is written, and as openssl writes it`() throws {
        let fingerprint = try #require(Fingerprint(text))
        #expect(fingerprint.description == text)
        let pairs = stride(from: 0, to: 64, by: 2).map { Array(text.dropFirst(7).uppercased())[$0..<$0 + 2] }
        #expect(Fingerprint("sha256:" + pairs.map { String($0) }.joined(separator: ":")) == fingerprint)
        #expect(Fingerprint(ofDER: utf8("abc")).description.hasPrefix("SHA256:ba7816bf"))
    }

    @Test func `anything else is none`() {
        for wrong in [
            "", "SHA256:", String(text.dropLast()), text + "0", String(text.dropFirst(7)), "SHA1:" + text.dropFirst(7),
            text.replacingOccurrences(of: "f", with: "g"), text.replacingOccurrences(of: "ab", with: "+b"),
            text.replacingOccurrences(of: "01", with: " 1"),
        ] {
            #expect(Fingerprint(wrong) == nil, "\(wrong)")
        }
    }
}

@Suite struct IdentityTests {
    @Test func `an identity is made anew each time, and read back with the same fingerprint`() throws {
        let one = try Identity.make(commonName: "one", now: Date(timeIntervalSince1970: 1_700_000_000))
        let other = try Identity.make(commonName: "one", now: Date(timeIntervalSince1970: 1_700_000_000))
        #expect(one.fingerprint != other.fingerprint)
        let read = try Identity(certificate: one.certificate, privateKey: one.privateKey)
        #expect(read.fingerprint == one.fingerprint)
    }

    @Test(arguments: ["", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE", "garbage"])
    func `what is no certificate, or no key, is refused`(_ text: String) throws {
        let sound = try Identity.make(commonName: "one", now: Date())
        #expect(throws: (any Error).self) { try Identity(certificate: text, privateKey: sound.privateKey) }
        #expect(throws: (any Error).self) { try Identity(certificate: sound.certificate, privateKey: text) }
    }

    @Test func `another's key is refused`() throws {
        let (one, other) = (
            try Identity.make(commonName: "a", now: Date()), try Identity.make(commonName: "a", now: Date())
        )
        #expect(throws: IdentityMismatch.self) {
            try Identity(certificate: one.certificate, privateKey: other.privateKey)
        }
    }
}

@Suite struct AddressTests {
    @Test(
        arguments: [
            ("mail.example:2007", "mail.example", 2007), ("192.0.2.1:1", "192.0.2.1", 1), ("[::1]:65535", "::1", 65535),
            ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
        ])
    func `a host and a port`(_ text: String, _ host: String, _ port: Int) throws {
        let address = try #require(Address(text))
        #expect(address.host == host)
        #expect(address.port == port)
        #expect(address.description == text)
    }

    @Test(
        arguments: [
            "", "host", "host:", ":25", "host:x", "host:65536", "host:-1", "::1:25", "::1", "[]:25", "host: 25",
            "host:+25", "[::1:25",
        ])
    func `anything else is no address`(_ text: String) {
        #expect(Address(text) == nil)
    }
}

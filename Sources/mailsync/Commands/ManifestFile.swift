import Digests
import Formats
import Foundation
import Linux
import ReplicationLog

// A manifest: all of a store at rest, signed.
//
//     mailsync-manifest 1
//     store: mail1                    as in mailsync.conf
//     made: 2026-11-01T12:00:00Z
//     role: replica
//     applied: 1/4711                 of a replica: what its store is the state after
//     root: configdirectory           one line each, sorted
//     signer: SHA256:…
//     (an empty line)
//     f 600 1042 1795373732000000000 - - 9f86… partition-default/uuid/…      one line for each name (`ManifestLine`), sorted
//     …
//     (an empty line)
//     entries: 4711
//     certificate: BASE64             of whoever signed, in DER
//     signature: BASE64               of all before this line (`Identity.sign`)

/// Writes one, line by line.
final class ManifestWriter {
    private let file: Descriptor
    private let path: String
    private let temporary: String
    private var sum = ChainHashSum()
    private var buffer: [UInt8] = []
    private var count = 0

    private static let bufferBytes = 1 << 20

    init(_ path: String) throws {
        self.path = path
        temporary = path + ".new"
        // Of a run that was interrupted; if it stays, creating says so.
        try? FileManager.default.removeItem(atPath: temporary)
        file = try Descriptor.open(temporary, for: .creatingNew, mode: 0o600)
    }

    func write(line: String) throws {
        buffer += Array(line.utf8)
        buffer.append(UInt8(ascii: "\n"))
        if buffer.count >= Self.bufferBytes { try flush() }
    }

    func write(_ line: ManifestLine) throws {
        try write(line: line.text)
        count += 1
    }

    private func flush() throws {
        sum.append(buffer)
        try file.append(buffer)
        buffer.removeAll(keepingCapacity: true)
    }

    /// Signs it and gives it its name; on disk on return. Returns the number of entries.
    func finish(_ identity: Identity) throws -> Int {
        try write(line: "")
        try write(line: "entries: \(count)")
        try write(line: "certificate: \(Data(identity.certificateBytes).base64EncodedString())")
        try flush()
        let signature = try identity.sign(sum.finish())
        try file.append(Array("signature: \(Data(signature).base64EncodedString())\n".utf8))
        try file.flush()
        try FileManager.default.removeItemIfThere(atPath: path)
        try FileManager.default.moveItem(atPath: temporary, toPath: path)
        return count
    }

    func abandon() { try? FileManager.default.removeItem(atPath: temporary) }  // tidiness only
}

extension FileManager {
    fileprivate func removeItemIfThere(atPath path: String) throws {
        if fileExists(atPath: path) { try removeItem(atPath: path) }
    }
}

/// Reads one: first all of it for the signature, then line by line.
final class ManifestReader {
    let fields: [(key: String, value: String)]
    let signer: Fingerprint
    private let lines: LineReader
    private var entryCount = 0

    /// Throws if the signature is not that of the certificate in it, or if something stands behind it.
    init(_ path: String) throws {
        signer = try Self.checkedSigner(path)
        lines = try LineReader(path)
        guard try lines.next() == "mailsync-manifest 1" else { throw Self.damaged(path, "not a manifest of version 1") }
        var fields: [(String, String)] = []
        while let line = try lines.next(), !line.isEmpty {
            guard let field = Self.field(line) else { throw Self.damaged(path, "no field: \(line)") }
            fields.append(field)
        }
        self.fields = fields
    }

    var roots: [String] { fields.filter { $0.key == "root" }.map(\.value) }

    func value(_ key: String) -> String? { fields.first { $0.key == key }?.value }

    /// Nothing after the last.
    func next() throws -> ManifestLine? {
        guard let line = try lines.next(), !line.isEmpty else { return nil }
        return try ManifestLine(line)
    }

    private static func checkedSigner(_ path: String) throws -> Fingerprint {
        let lines = try LineReader(path)
        var sum = ChainHashSum()
        var certificate: [UInt8]?
        while let line = try lines.next() {
            guard line.hasPrefix("signature: ") else {
                if let field = field(line), field.key == "certificate" {
                    certificate = Data(base64Encoded: field.value).map { [UInt8]($0) }
                }
                sum.append(Array((line + "\n").utf8))
                continue
            }
            guard let certificate, let signature = Data(base64Encoded: String(line.dropFirst("signature: ".count)))
            else {
                throw damaged(path, "no certificate, or no signature")
            }
            let signer = Signer(certificate: certificate)
            guard signer.signed(sum.finish(), [UInt8](signature)) else {
                throw damaged(path, "the signature is not of this text: it was changed or cut since it was signed")
            }
            guard try lines.next() == nil else { throw damaged(path, "something stands behind the signature") }
            return signer.fingerprint
        }
        throw damaged(path, "no signature: it was cut, or is no manifest")
    }

    private static func field(_ line: String) -> (key: String, value: String)? {
        guard let cut = line.firstRange(of: ": ") else { return nil }
        return (String(line[..<cut.lowerBound]), String(line[cut.upperBound...]))
    }

    private static func damaged(_ path: String, _ why: String) -> Failure { Failure(.dataError, "\(path): \(why)") }
}

/// The lines of a text, one at a time.
final class LineReader {
    private let file: Descriptor
    private var offset: Int64 = 0
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false

    init(_ path: String) throws {
        do throws(SystemError) { file = try Descriptor.open(path, for: .reading) } catch {
            throw Failure(.inputOutput, "\(error)")
        }
    }

    /// Nothing at the end; a last line without its end is none.
    func next() throws -> String? {
        while true {
            if let end = buffer[start...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { start = end + 1 }
                return String(decoding: buffer[start..<end], as: UTF8.self)
            }
            if isAtEnd { return nil }
            buffer.removeFirst(start)
            start = 0
            let piece = try file.read(at: offset, count: 256 << 10)
            isAtEnd = piece.isEmpty
            offset += Int64(piece.count)
            buffer += piece
        }
    }
}

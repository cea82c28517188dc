import Formats
import Foundation
import Linux
import ReplicationLog

/// The state directory of one end: who it is and what it is for.
///
///     role          primary or replica, and the epoch a primary is of
///     key.pem       the private key, 0600
///     certificate.pem
///     lock          held by the process that uses the directory
///     control       the daemon's socket
///     journal/ …    see `Primary`, `Replica`
struct StateDirectory: Sendable {
    let path: String

    struct Standing: Equatable, Sendable {
        var role: Role
        /// Of a primary.
        var epoch: Epoch
        /// The epoch of the primary that replaced this one; nothing while none did.
        var fencedBy: Epoch?
    }

    var controlSocket: String { path + "/control" }

    // MARK: - standing

    func standing() throws -> Standing {
        let bytes: [UInt8]?
        do throws(SystemError) {
            bytes = try AtomicFile.read(directory: path, name: "role", max: 4096)
        } catch {
            throw Failure(.systemError, "state: \(error)")
        }
        guard let bytes else {
            throw Failure(
                .configuration, "\(path): is not initialised",
                hint: "run \"mailsync init --role primary\" or \"… replica\"")
        }
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
        guard words.count >= 2, let role = ["primary": Role.primary, "replica": .replica][words[0]],
            let epoch = UInt32(words[1])
        else { throw Failure(.dataError, "\(path)/role: damaged", hint: "run \"mailsync init\" again") }
        let fencedBy = words.count >= 3 ? UInt32(words[2]).map { Epoch($0) } : nil
        return Standing(role: role, epoch: Epoch(epoch), fencedBy: fencedBy)
    }

    /// On disk on return.
    func save(_ standing: Standing) throws(SystemError) {
        let fenced = standing.fencedBy.map { " \($0)" } ?? ""
        let text = "\(standing.role == .primary ? "primary" : "replica") \(standing.epoch)\(fenced)\n"
        try AtomicFile.replace(directory: path, name: "role", bytes: Array(text.utf8))
    }

    // MARK: - identity

    func identity() throws -> Identity {
        do {
            return try Identity(certificate: try text("certificate.pem"), privateKey: try text("key.pem"))
        } catch let error as SystemError {
            throw Failure(.configuration, "\(path): no identity: \(error)", hint: "run \"mailsync init\"")
        }
    }

    private func text(_ name: String) throws(SystemError) -> String {
        String(decoding: try Descriptor.open(path + "/" + name, for: .reading).readAll(max: 1 << 20), as: UTF8.self)
    }

    func save(_ identity: Identity) throws(SystemError) {
        try AtomicFile.replace(directory: path, name: "key.pem", bytes: Array(identity.privateKey.utf8), mode: 0o600)
        try AtomicFile.replace(
            directory: path, name: "certificate.pem", bytes: Array(identity.certificate.utf8), mode: 0o644)
    }

    // MARK: - one at a time

    /// Keeps every other process out of the directory while it lives.
    final class Hold: Sendable {
        private let file: Descriptor
        init(_ file: consuming Descriptor) { self.file = file }
    }

    func hold() throws -> Hold {
        let file = try Descriptor.open(path + "/lock", for: .updatingOrCreating)
        guard try FileLock.tryExclusive(file) else {
            throw Failure(
                .tryAgain, "\(path): another mailsync is using it",
                hint: "\"mailsync status\" asks the daemon that runs")
        }
        return Hold(file)
    }
}

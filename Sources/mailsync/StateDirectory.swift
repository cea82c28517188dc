import Formats
import Foundation
import Linux
import ReplicationLog

/// The state directory of one end: who it is and what it is for.
///
///     role          primary or replica, and the epoch a primary is of
///     store         the name of the store that it was made for
///     key.pem       the private key, 0600
///     certificate.pem
///     roots         which directories the store's roots are
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
            throw failure(error)
        }
        guard let bytes else { throw notInitialised }
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
        guard words.count >= 2, let role = ["primary": Role.primary, "replica": .replica][words[0]],
            let epoch = UInt32(words[1])
        else {
            throw Failure(
                .dataError,
                "\(path)/role: damaged: it holds one line, \"primary EPOCH\", \"primary EPOCH FENCED-BY\" if epoch "
                    + "FENCED-BY was promoted elsewhere, or \"replica 0\"",
                hint: "write that line anew; EPOCH is the one in the line \"last:\" of \"mailsync inspect --chain "
                    + "\(path)\", and one more than on either end if this end was promoted since")
        }
        let fencedBy = words.count >= 3 ? UInt32(words[2]).map { Epoch($0) } : nil
        return Standing(role: role, epoch: Epoch(epoch), fencedBy: fencedBy)
    }

    /// When `standing` was saved.
    func standingSince() throws(SystemError) -> Timestamp? {
        try FileStatus.of(path + "/role").map { Timestamp(nanoseconds: $0.mtimeNanoseconds) }
    }

    /// On disk on return.
    func save(_ standing: Standing) throws(SystemError) {
        let fenced = standing.fencedBy.map { " \($0)" } ?? ""
        let text = "\(standing.role == .primary ? "primary" : "replica") \(standing.epoch)\(fenced)\n"
        try AtomicFile.replace(directory: path, name: "role", bytes: Array(text.utf8))
    }

    /// A primary that was replaced can do nothing but become the other one's replica.
    static func fencedReason(_ epoch: Epoch) -> String { FencedUser.reason(epoch) }

    static let fencedHint = "leave Cyrus stopped here; \(becomeReplicaHint)"

    static let becomeReplicaHint =
        "\"mailsync init --role replica\" and \"mailsync seed --overwrite\" make it the new primary's replica"

    private var notInitialised: Failure {
        Failure(
            .configuration, "\(path): is not initialised",
            hint: "run \"mailsync init --role primary\" or \"… replica\"")
    }

    /// Of a file in here.
    private func failure(_ error: SystemError) -> Failure {
        let isForbidden = error.errno == .accessDenied || error.errno == .notPermitted
        return Failure(.systemError, "state: \(error)", hint: isForbidden ? Self.ownerHint : nil)
    }

    static let ownerHint = "run this as the user that mailsync runs as, who owns the state directory"

    /// A daemon of root's would make files that one of the owner's cannot use.
    func checkUser() throws {
        guard geteuid() == 0, let owner = try FileStatus.of(path)?.owner, owner != 0 else { return }
        let name = getpwuid(owner).map { String(cString: $0.pointee.pw_name) } ?? "\(owner)"
        throw Failure(
            .configuration, "state: \(path): belongs to \(name), and this is root",
            hint: "run it as that user: \"runuser -u \(name) -- mailsync run …\", or User= in the unit")
    }

    /// What root has made here is for the user who owns the directory, as whom the daemon runs.
    func giveToOwner() throws(SystemError) {
        guard geteuid() == 0, let owner = try FileStatus.of(path), owner.owner != 0 else { return }
        let directory = try Directory(path)
        for stranger in try strangers() {
            try directory.setOwner(of: stranger, to: owner.owner, group: owner.group)
        }
    }

    /// What is root's in here while the directory is not; paths in here. Not the files that the quarantine keeps: those have the
    /// owners that they had in the store. And not what the file system has made for itself.
    func strangers() throws(SystemError) -> [[UInt8]] {
        guard let owner = try FileStatus.of(path), owner.owner != 0 else { return [] }
        return try Self.ofRoot(in: try Directory(path), [])
    }

    private static func ofRoot(in directory: Directory, _ path: [UInt8]) throws(SystemError) -> [[UInt8]] {
        var found: [[UInt8]] = []
        for entry in try directory.entries(of: path) {
            let below = path.isEmpty ? entry.name : path + [UInt8(ascii: "/")] + entry.name
            guard let status = try directory.status(of: below) else { continue }
            if below == Array("lost+found".utf8) { continue }
            let isKept = below.starts(with: Array("quarantine/".utf8)) && status.kind != .directory
            if status.owner == 0, !isKept { found.append(below) }
            // Only root may look into a directory of root's.
            guard status.kind == .directory, status.owner != 0 || geteuid() == 0 else { continue }
            found += try ofRoot(in: directory, below)
        }
        return found
    }

    // MARK: - store

    /// Nothing was replicated yet, in either role: whatever this is for may still change.
    var isFresh: Bool {
        get throws {
            do throws(SystemError) {
                for name in ["journal", "catalogue", "replica"] {
                    guard try FileStatus.of(path + "/" + name) == nil else { return false }
                }
                return true
            } catch {
                throw failure(error)
            }
        }
    }

    func forgetStore() throws(SystemError) { try AtomicFile.remove(directory: path, name: "store") }

    /// Writes the name down, if there is none yet, as in a directory of an earlier version. For who holds the directory.
    func claim(store: String, in file: String) throws {
        try check(store: store, in: file)
        do throws(SystemError) {
            guard try FileStatus.of(path + "/store") == nil else { return }
            try AtomicFile.replace(directory: path, name: "store", bytes: Array("\(store)\n".utf8))
        } catch {
            throw failure(error)
        }
    }

    /// Throws if this was made for another store, named in `file`: its log would go on with files that it is not about.
    func check(store: String, in file: String) throws {
        let bytes: [UInt8]?
        do throws(SystemError) { bytes = try AtomicFile.read(directory: path, name: "store", max: 4096) } catch {
            throw failure(error)
        }
        guard let bytes else { return }
        let made = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .newlines)
        guard made == store else {
            throw Failure(
                .configuration, "\(path): was made for the store \"\(made)\", and \(file) says \"\(store)\"",
                hint:
                    "correct store or state there; each store has a state directory of its own. If the name was a slip, "
                    + "and nothing was replicated yet, \"mailsync init\" takes the new one")
        }
    }

    // MARK: - identity

    private static let (certificateName, keyName) = ("certificate.pem", "key.pem")

    /// Or a part of one.
    var hasIdentity: Bool {
        get throws(SystemError) {
            for name in [Self.certificateName, Self.keyName] where try FileStatus.of(path + "/" + name) != nil {
                return true
            }
            return false
        }
    }

    func identity() throws -> Identity {
        guard try hasIdentity else {
            throw Failure(.configuration, "\(path): no identity", hint: "run \"mailsync init\"")
        }
        do {
            return try Identity(certificate: try text(Self.certificateName), privateKey: try text(Self.keyName))
        } catch let error as SystemError where error.errno != .noEntry {
            throw failure(error)
        } catch {
            throw Failure(
                .dataError, "\(path): \(Self.keyName) and \(Self.certificateName) are no identity: \(error)",
                hint:
                    "restore both, or remove both: then \"mailsync init\" makes new ones, and the other end has to be told their fingerprint"
            )
        }
    }

    private func text(_ name: String) throws(SystemError) -> String {
        String(decoding: try Descriptor.open(path + "/" + name, for: .reading).readAll(max: 1 << 20), as: UTF8.self)
    }

    func save(_ identity: Identity) throws(SystemError) {
        try AtomicFile.replace(directory: path, name: Self.keyName, bytes: Array(identity.privateKey.utf8), mode: 0o600)
        try AtomicFile.replace(
            directory: path, name: Self.certificateName, bytes: Array(identity.certificate.utf8), mode: 0o644)
    }

    // MARK: - one at a time

    /// Keeps every other process out of the directory while it lives.
    final class Hold: Sendable {
        private let file: Descriptor
        init(_ file: consuming Descriptor) { self.file = file }
    }

    func hold() throws -> Hold {
        let file: Descriptor
        do throws(SystemError) { file = try Descriptor.open(path + "/lock", for: .updatingOrCreating) } catch {
            throw error.errno == .noEntry ? notInitialised : failure(error)
        }
        guard try FileLock.tryExclusive(file) else {
            throw Failure(
                .tryAgain, "\(path): another mailsync is using it",
                hint: "\"mailsync status\" asks the daemon that runs")
        }
        return Hold(file)
    }
}

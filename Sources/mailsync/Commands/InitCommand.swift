import ArgumentParser
import Formats
import Foundation
import Linux
import ReplicationLog

struct InitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make the state directory, key and certificate of this end, or change its role.")

    enum RoleName: String, ExpressibleByArgument, CaseIterable { case primary, replica }

    @OptionGroup var common: CommonOptions
    @Option(help: "What this end is: primary (written by Cyrus) or replica.")
    var role: RoleName

    func run() throws {
        let configuration = try common.read()
        let state = StateDirectory(path: configuration.state)
        try makeDirectory(state.path, configuration)
        let hold = try state.hold()
        defer { withExtendedLifetime(hold) {} }
        if try state.isFresh { try state.forgetStore() }
        try state.claim(store: configuration.store, in: configuration.file)
        // One that cannot be read is not replaced: the other end knows it.
        let identity: Identity
        if try state.hasIdentity {
            identity = try state.identity()
        } else {
            identity = try Identity.make(commonName: "mailsync \(configuration.store)", now: Date())
            try state.save(identity)
        }
        try changeRole(state)
        try state.giveToOwner()
        Output.print(identity.fingerprint.description)
        Output.note("\(state.path): this end of \(configuration.store) is a \(role.rawValue)")
        Output.note("hint: \(nextStep(configuration))")
    }

    private func nextStep(_ configuration: Configuration) -> String {
        let next = role == .primary ? "\"mailsync run\", and \"mailsync seed\" on the replica" : "\"mailsync seed\""
        let other = role == .primary ? "replica" : "primary"
        guard configuration.peers.allSatisfy({ $0.fingerprint == nil }) else {
            return "the \(other)'s fingerprint is in \(common.config) already; see that it knows the line above, "
                + "run \"mailsync check\", then \(next)"
        }
        return "put the line above into the \(other)'s configuration as peer_fingerprint, and what \"mailsync "
            + "fingerprint\" prints there into \(common.config); run \"mailsync check\", then \(next)"
    }

    /// What root makes of it is for the user who owns the store, as whom Cyrus and mailsync run.
    private func makeDirectory(_ path: String, _ configuration: Configuration) throws {
        do throws(SystemError) {
            let isNew = try FileStatus.of(path) == nil
            let directory = try Directory.makeAll(path)
            guard isNew, geteuid() == 0, let owner = try configuration.storeOwner() else { return }
            try directory.setOwner(of: [], to: owner.owner, group: owner.group)
        } catch {
            throw Failure(
                .systemError, "state: \(path): cannot be made: \(error)",
                hint: "make it, owned by the user that runs mailsync, mode 0700")
        }
    }

    /// A primary that becomes a replica forgets its log: what it had is compared when it is seeded.
    private func changeRole(_ state: StateDirectory) throws {
        let old: StateDirectory.Standing?
        do { old = try state.standing() } catch let failure as Failure where failure.status == .configuration {
            old = nil  // none yet
        }
        let wanted: Role = role == .primary ? .primary : .replica
        if let old, old.role == wanted, old.fencedBy == nil { return }
        if let epoch = old?.fencedBy, wanted == .primary {
            throw Failure(
                .usage, StateDirectory.fencedReason(epoch),
                hint:
                    "\(StateDirectory.fencedHint); to serve from this store all the same, give it a new state directory"
            )
        }
        if old?.role == .replica, wanted == .primary {
            throw Failure(
                .usage, "this end is a replica",
                hint:
                    "\"mailsync promote\" makes a primary of it. If that was a slip, and nothing was ever seeded here, "
                    + "remove \(state.path) and begin again")
        }
        if old != nil { try forgetLog(state.path) }
        try state.save(StateDirectory.Standing(role: wanted, epoch: Epoch(wanted == .primary ? 1 : 0), fencedBy: nil))
    }

    private func forgetLog(_ path: String) throws {
        let missed = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasPrefix("missed-") }
        for name in missed + [
            "journal", "shadow", "catalogue", "catalogue-wal", "catalogue-shm", "slots", "replica", "seeded", "awaited",
            "held", "log-start", "scrub", "unflushed",
        ] {
            let item = path + "/" + name
            if FileManager.default.fileExists(atPath: item) { try FileManager.default.removeItem(atPath: item) }
        }
    }
}

struct FingerprintCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fingerprint", abstract: "Print the fingerprint of this end's certificate.")

    @OptionGroup var common: CommonOptions

    func run() throws {
        let state = StateDirectory(path: try common.read().state)
        Output.print(try state.identity().fingerprint.description)
    }
}

import ArgumentParser
import Formats
import Foundation
import Linux
import Replica
import ReplicationLog
import Store

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Say what is wrong with the configuration and this host, and the exact mend.",
        discussion:
            "Exit status 0 when nothing is wrong, 78 when something is. With --store: 1 when something is found in it, "
            + "75 when a part was written all the time.")

    @OptionGroup var common: CommonOptions
    @Flag(help: "Instead, read all of this end's store, and say what Cyrus would not have left so.") var store = false

    func run() throws {
        let configuration = try common.read()
        if store {
            var report = try StoreCheckReport(configuration)
            try report.run()
            if report.findingCount > 0 { throw ExitCode(ExitStatus.differences.rawValue) }
            if report.busyCount > 0 { throw ExitCode(ExitStatus.tryAgain.rawValue) }
            return
        }
        var check = HostCheck(configuration: configuration)
        check.checkState()
        try check.checkStore()
        check.checkCyrus()
        for line in check.facts { Output.print(line) }
        for problem in check.problems {
            Output.fail(problem.what)
            Output.note("hint: \(problem.mend)")
        }
        guard check.problems.isEmpty else { throw ExitCode(ExitStatus.configuration.rawValue) }
        Output.print("nothing is wrong")
    }
}

/// Looks at a host as `mailsync run` will find it. Changes nothing.
struct HostCheck {
    let configuration: Configuration
    private(set) var facts: [String] = []
    private(set) var problems: [(what: String, mend: String)] = []

    /// Below this a file system is as good as full.
    private static let freeBytesMin: UInt64 = 1 << 30
    private static let openFilesMin: UInt64 = 1024

    init(configuration: Configuration) { self.configuration = configuration }

    private mutating func problem(_ what: String, mend: String) { problems.append((what, mend)) }

    // MARK: - state directory

    mutating func checkState() {
        let state = StateDirectory(path: configuration.state)
        var (own, role): (Fingerprint?, Role?) = (nil, nil)
        do {
            let standing = try state.standing()
            role = standing.role
            try state.check(store: configuration.store, in: configuration.file)
            facts.append("role: \(standing.role == .primary ? "primary, epoch \(standing.epoch)" : "replica")")
            if let epoch = standing.fencedBy {
                problem(StateDirectory.fencedReason(epoch), mend: StateDirectory.fencedHint)
            }
            if standing.role == .primary, configuration.listen == nil {
                problem(
                    "\(configuration.file): listen: is missing",
                    mend: "add \"listen: 0.0.0.0:2009\", where replicas connect")
            }
            let identity = try state.identity()
            facts.append("fingerprint: \(identity.fingerprint)")
            own = identity.fingerprint
            let key = try FileStatus.of(state.path + "/key.pem")
            if let key, key.mode & 0o077 != 0 {
                problem("\(state.path)/key.pem: others may read it", mend: "chmod 600 \(state.path)/key.pem")
            }
            if let directory = try FileStatus.of(state.path, followingLinks: true), directory.mode & 0o007 != 0 {
                problem(
                    "state: \(state.path): everybody may look into it, and mail is in its journal and quarantine",
                    mend: "chmod 700 \(state.path)")
            }
        } catch let failure as Failure {
            problem(failure.why, mend: failure.hint ?? "run \"mailsync init\"")
        } catch {
            problem("\(error)", mend: "make \(state.path) readable for this user")
        }
        if access(state.path, W_OK) != 0, FileManager.default.fileExists(atPath: state.path) {
            problem("state: \(state.path): this user may not write there", mend: StateDirectory.ownerHint)
        }
        checkOwners(state)
        checkPeers(own, role)
        checkRoom(state.path, "state")
    }

    private mutating func checkOwners(_ state: StateDirectory) {
        // What cannot be looked at is told of before.
        guard let stranger = (try? state.strangers())?.first else { return }
        problem(
            "state: \(state.path)/\(String(decoding: stranger, as: UTF8.self)): belongs to root, and the directory does not: "
                + "a mailsync was run as root",
            mend: "chown -R --reference=\(state.path) \(state.path)")
    }

    private mutating func checkPeers(_ own: Fingerprint?, _ role: Role?) {
        let (file, peers) = (configuration.file, configuration.peers)
        if !peers.contains(where: { $0.fingerprint != nil }) {
            problem(
                "\(file): peer_fingerprint: is missing, or still the example's zeros",
                mend: "add what \"mailsync fingerprint\" prints on the other end")
        }
        for peer in peers where peer.address == nil {
            facts.append(
                "\(peer.key("peer_fingerprint")): is let in here; without \(peer.key("peer")) it is never called on")
        }
        for peer in peers where peer.fingerprint == nil && peers.contains(where: { $0.fingerprint != nil }) {
            facts.append("\(peer.key("peer")): no fingerprint of its own: whoever has one of the others is taken there")
        }
        if let own, let peer = peers.first(where: { $0.fingerprint == own }) {
            problem(
                "\(file): \(peer.key("peer_fingerprint")): is this end's own",
                mend: "give what \"mailsync fingerprint\" prints on the other end")
        }
        if let listen = configuration.listen, let peer = peers.first(where: { $0.address == listen }) {
            problem(
                "\(file): \(peer.key("peer")): is where this end listens",
                mend: "give the address where the other end listens")
        }
        if role == .replica, !peers.contains(where: { $0.address != nil }) {
            problem("\(file): peer: is missing", mend: "add \"peer: HOST:PORT\", where the primary listens")
        }
    }

    /// Of the master that this user may see.
    mutating func checkCyrus() {
        guard isReplica, let warning = CyrusMaster.warning(for: configuration.imapdConf) else { return }
        problem(warning, mend: CyrusMaster.replicaHint)
    }

    private var isReplica: Bool {
        // What cannot be read is told of by `checkState`.
        (try? StateDirectory(path: configuration.state).standing().role) == .replica
    }

    // MARK: - store

    mutating func checkStore() throws {
        let layout = try configuration.layout()
        for warning in layout.warnings { facts.append("warning: \(warning)") }
        var lost: Set<RootName> = []
        do {
            let found = try KnownRoots(at: layout)
            let known = try KnownRoots(in: configuration.state)
            for root in known.strangers(layout, found, of: isReplica ? .replica : .primary) {
                problem("\(root)", mend: root.hint)
                if !root.isThere { lost.insert(root.name) }
            }
        } catch {}  // told of where the state and the roots are looked at
        var directoryCount = 0
        for root in layout.roots where !lost.contains(root.name) {
            facts.append("root: \(root.name): \(root.path)")
            do throws(SystemError) {
                guard try FileStatus.of(root.path) != nil || root.origin == .configured else { continue }
                let directory = try Directory(root.path)
                let fileSystem = try directory.fileSystem()
                if fileSystem.kind.mayChangeElsewhere {
                    problem(
                        "\(root.path): is on \(fileSystem.kind): changes made by other hosts raise no events",
                        mend: "run mailsync where the store is on a local file system")
                }
                directoryCount += try Self.directories(in: directory, [])
            } catch {
                problem(
                    "\(root.name): \(error)",
                    mend: error.errno == .accessDenied
                        ? "run mailsync as the user that runs Cyrus"
                        : "correct \(root.name) in \(configuration.imapdConf)")
            }
            checkRoom(root.path, root.name.name)
        }
        checkLocks(configuration.lockRoot(of: layout))
        facts.append(Confinement.fact)
        checkLimits(directoryCount)
        checkUser(layout)
    }

    private mutating func checkLocks(_ path: String) {
        facts.append("locks: \(path)")
        guard configuration.lockPath != nil else { return }
        let why: String
        do throws(SystemError) {
            if try FileStatus.of(path, followingLinks: true)?.kind == .directory { return }
            why = "\(path): is no directory"
        } catch {
            why = "\(error)"
        }
        problem(
            "lock_path: \(why): no lock of Cyrus's is seen",
            mend: "correct it in \(configuration.file), or leave it out: imapd.conf says where they are")
    }

    private static func directories(in root: Directory, _ path: [UInt8]) throws(SystemError) -> Int {
        var count = 1
        for entry in try root.entries(of: path) {
            let below = path.isEmpty ? entry.name : path + [UInt8(ascii: "/")] + entry.name
            if try root.kind(of: entry, at: below) == .directory { count += try directories(in: root, below) }
        }
        return count
    }

    private mutating func checkLimits(_ directoryCount: Int) {
        do throws(SystemError) {
            let limits = try InotifyLimits.current()
            facts.append("directories: \(directoryCount), of \(limits.watchesMax) that may be watched")
            if directoryCount * 5 / 4 > limits.watchesMax {
                problem(
                    "fs.inotify.max_user_watches is \(limits.watchesMax), and the store has \(directoryCount) directories",
                    mend: "sysctl -w fs.inotify.max_user_watches=\(directoryCount * 2), and the same in /etc/sysctl.d")
            }
            let files = try CurrentProcess.openFilesMax()
            if files.ceiling < Self.openFilesMin {
                problem(
                    "only \(files.ceiling) files may be open", mend: "set LimitNOFILE=65536 in the unit, or ulimit -n")
            }
        } catch {
            problem("\(error)", mend: "mount /proc")
        }
    }

    private mutating func checkUser(_ layout: StoreLayout) {
        // One that cannot be looked at was told of before.
        guard let root = layout.root(.configuration), let status = try? FileStatus.of(root.path) else { return }
        let user = CurrentProcess.effectiveUser
        if user != 0, user != status.owner {
            problem(
                "the store belongs to user \(status.owner), and this is user \(user)",
                mend: "run mailsync as the user that runs Cyrus")
        }
    }

    private mutating func checkRoom(_ path: String, _ what: String) {
        guard let directory = try? Directory(path), let room = try? directory.fileSystem() else { return }  // told
        if room.availableBytes < Self.freeBytesMin {
            problem(
                "\(what): \(path): only \(room.availableBytes >> 20) MiB are free",
                mend: "free some space before it is full")
        }
    }
}

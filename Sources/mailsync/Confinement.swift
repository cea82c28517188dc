import Formats
import Linux
import Logging
import Replica
import ReplicationLog
import Store

/// What the daemon's process may still write and reach, once it has started: Landlock (landlock(7)).
///
/// A primary writes its state directory and nothing else, so not the store; a replica its state directory and the roots
/// of its store. Both listen at their own port and connect to their peers' and to a name server. What was given up does
/// not come back: a replica that was promoted may write its store until it is started again.
struct Confinement {
    let role: Role
    let rules: Landlock

    /// TCP's port for questions to a name server whose answer is long.
    private static let domainPort: UInt16 = 53

    init(_ role: Role, _ configuration: Configuration, _ layout: StoreLayout) {
        self.role = role
        let roots = role == .replica ? layout.roots.map(\.path) : []
        rules = Landlock(
            writable: [configuration.state] + roots,
            listening: configuration.listen.map { [UInt16($0.port)] } ?? [],
            connecting: configuration.peers.compactMap { $0.address.map { UInt16($0.port) } } + [Self.domainPort])
    }

    /// For the process's only thread: those that it starts afterwards inherit it.
    ///
    /// Where Landlock is not to be had the daemon goes on, and says so.
    static func begin(_ configuration: Configuration, _ log: Logger) throws {
        let layout = try configuration.layout()
        let role = try StateDirectory(path: configuration.state).standing().role
        do {
            if role == .replica { try Replica.makeRoots(of: layout) }
            let confinement = Confinement(role, configuration, layout)
            let reach = try confinement.rules.restrict()
            log.info("\(confinement.report(of: reach))")
        } catch {
            log.warning(
                "landlock: \(error): only the permissions of files and the service manager confine this process")
        }
    }

    private func report(of reach: Landlock.Reach) -> String {
        let files = "may write only \(rules.writable.joined(separator: ", "))"
        func list(_ ports: [UInt16]) -> String { Set(ports).sorted().map { "\($0)" }.joined(separator: ", ") }
        return switch reach {
        case .nothing:
            "landlock: not in this kernel: only the permissions of files and the service manager confine this process"
        case .files: "landlock: \(files)"
        case .filesAndNetwork:
            "landlock: \(files); listens at \(list(rules.listening)), connects to \(list(rules.connecting))"
        }
    }

    /// For `mailsync check`.
    static var fact: String {
        switch Landlock.reach {
        case .nothing: "landlock: not in this kernel: only permissions keep the daemon from writing elsewhere"
        case .files: "landlock: version \(Landlock.version): keeps the daemon from writing elsewhere"
        case .filesAndNetwork:
            "landlock: version \(Landlock.version): keeps the daemon from writing elsewhere, and from other TCP ports"
        }
    }
}

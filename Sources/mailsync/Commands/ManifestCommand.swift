import ArgumentParser
import Formats
import Foundation
import Linux
import Replica
import ReplicationLog
import Store

struct ManifestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "manifest", abstract: "Write down all of this end's store at rest, signed with its key.",
        discussion: """
            With no daemon here, and no Cyrus that writes; a store that changes meanwhile is refused with exit status 75. \
            "mailsync verify --offline" compares a copy with it.
            """)

    @OptionGroup var common: CommonOptions
    @Option(help: ArgumentHelp("Where to write it; what is there is replaced.", valueName: "file")) var output: String

    func run() throws {
        let configuration = try common.read()
        let state = try common.readState()
        let standing = try state.standing()
        let hold: StateDirectory.Hold
        do { hold = try state.hold() } catch let failure as Failure where failure.status == .tryAgain {
            throw Failure(
                .tryAgain, "\(configuration.state): a daemon is running, and the store is not at rest",
                hint: "stop it for as long as this takes; the log waits")
        }
        let roots = try StoreRoots(try configuration.layout())
        if let place = RealPath.place(of: output, among: roots.layout.roots.map(\.path)) {
            throw Failure(
                .usage, "--output \(output): is within \(place), of which it would be a part",
                hint: "name a file outside of the store")
        }
        let walk = ManifestWalk(roots)
        let writer: ManifestWriter
        do { writer = try ManifestWriter(output) } catch let error as SystemError {
            throw Failure(.inputOutput, "--output \(output): \(error)", hint: "name a file that this user may write")
        }
        do {
            try writeHead(writer, configuration, standing, roots, try state.identity())
            try walk.run { try writer.write($0) }
            try walk.checkAtRest()
            let count = try writer.finish(try state.identity())
            Output.note("\(output): \(count) entries")
        } catch let failure as ManifestWalk.Failure {
            writer.abandon()
            throw Failure(.tryAgain, "\(failure)", hint: "stop Cyrus, and try again")
        } catch {
            writer.abandon()
            throw error
        }
        withExtendedLifetime(hold) {}
    }

    private func writeHead(
        _ writer: ManifestWriter, _ configuration: Configuration, _ standing: StateDirectory.Standing,
        _ roots: StoreRoots, _ identity: Identity
    ) throws {
        try writer.write(line: "mailsync-manifest 1")
        try writer.write(line: "store: \(configuration.store)")
        try writer.write(line: "made: \(Timestamp.now().iso8601)")
        try writer.write(line: "role: \(standing.role == .primary ? "primary" : "replica")")
        if standing.role == .replica {
            try writer.write(line: "applied: \(try ReplicaEnd(in: configuration.state).applied)")
        }
        for root in roots.names { try writer.write(line: "root: \(root)") }
        try writer.write(line: "signer: \(identity.fingerprint)")
        try writer.write(line: "")
    }
}

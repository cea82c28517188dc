import ArgumentParser
import Foundation
import Linux
import Replica
import ReplicationLog
import Store

/// The program: a list of commands.
@main
struct Mailsync: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "mailsync", abstract: "Keeps a live replica of a Cyrus IMAP mail store.",
        discussion:
            "One process for one store and host. The manual: mailsync(8), mailsync.conf(5), mailsync-protocol(7).",
        version: version,
        subcommands: [
            InitCommand.self, FingerprintCommand.self, CheckCommand.self, SeedCommand.self, RunCommand.self,
            StatusCommand.self, WaitCommand.self, ResumeCommand.self, PromoteCommand.self,
            VerifyCommand.self, InspectCommand.self, QuarantineCommand.self, ManifestCommand.self,
        ])

    /// Not asynchronous itself: signals must be blocked before the first thread but this one is there, and the runtime
    /// starts some before an asynchronous `main`.
    static func main() {
        Signals.block([.terminate, .interrupt])
        Signals.ignore(.pipe)
        CurrentProcess.shareMemoryAmongThreads()
        do {
            try checkCommand()
            switch try parseAsRoot() {
            case let command as any RunsUntilTold:
                // Before there is a second thread, which would keep its rights.
                try Confinement.begin(try command.common.read(), Output.makeLogger())
                try wait(for: command)
            case var command:
                Signals.unblock([.terminate, .interrupt])
                try command.run()
            }
        } catch let failure as Failure {
            Output.fail("\(failure)")
            Foundation.exit(failure.status.rawValue)
        } catch let code as ExitCode {
            Foundation.exit(code.rawValue)
        } catch {
            finish(error)
        }
    }

    /// A word that is no command is told as such; the parser would find fault with the options behind it.
    private static func checkCommand() throws {
        guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-"), word != "help" else { return }
        guard !configuration.subcommands.contains(where: { $0.configuration.commandName == word }) else { return }
        throw Failure(.usage, "\(word): no such command", hint: "\"mailsync --help\" lists them")
    }

    private static func wait(for command: any RunsUntilTold) throws {
        let ending = Condition<Result<Void, any Error>?>(nil)
        Task {
            do {
                try await command.serve()
                ending.update { $0 = .success(()) }
            } catch {
                ending.update { $0 = .failure(error) }
            }
        }
        try ending.take { $0 }?.get()
    }

    /// Usage and help go the parser's way, all others ours.
    private static func finish(_ error: any Error) -> Never {
        let code = exitCode(for: error)
        let isOfParser = code == .validationFailure || code == .success || "\(type(of: error))" == "CommandError"
        guard !isOfParser else { exit(withError: error) }
        let (status, hint) = ending(of: error)
        Output.fail("\(error)")
        if let hint { Output.note("hint: \(hint)") }
        Foundation.exit(status.rawValue)
    }

    /// What is for the operator to put right ends the daemon for good; the rest is the system's.
    private static func ending(of error: any Error) -> (ExitStatus, hint: String?) {
        switch error {
        case let root as StrangeRoot: (.configuration, root.hint)
        case is MovedRoot: (.configuration, MovedRoot.hint)
        case is SeedRefusal: (.configuration, nil)
        case is MissingRoot: (.configuration, MissingRoot.hint)
        case let refusal as SeedNotBegun:
            (refusal.isRefused ? .configuration : .unavailable, refusal.hint)
        case JournalError.damaged:
            (
                .dataError,
                "\"mailsync inspect\" shows the segment; on a replica \"mailsync seed --overwrite\" makes log and copy anew. "
                    + "A replica without a primary has a copy that may be in the midst of a batch: "
                    + "\"mailsync check --store\" tells what Cyrus would not have left so, before you start it there"
            )
        case is NotPromotable: (.unavailable, nil)
        default: (.systemError, nil)
        }
    }
}

/// A command that a signal does not simply end: it is told, and finishes what it has in hand.
protocol RunsUntilTold: ParsableCommand, Sendable {
    var common: CommonOptions { get }
    func serve() async throws
}

import ArgumentParser
import Foundation
import Linux

/// The program: a list of commands.
@main
struct Mailsync: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "mailsync", abstract: "Keeps a live replica of a Cyrus IMAP mail store.",
        discussion: "One process for one store and host. The manual: mailsync(8), mailsync.conf(5), mailsync-protocol(7).",
        version: version,
        subcommands: [
            InitCommand.self, FingerprintCommand.self, CheckCommand.self, SeedCommand.self, RunCommand.self,
            StatusCommand.self, WaitCommand.self, PromoteCommand.self, InspectCommand.self,
        ])

    @concurrent static func main() async {
        // Before any other thread is there: the daemon waits for them on a thread of its own.
        Signals.block([.terminate, .interrupt])
        Signals.ignore(.pipe)
        do {
            switch try parseAsRoot() {
            case var command as any AsyncParsableCommand:
                try await command.run()
            case var command:
                (command as? any WaitsForNothing)?.letSignalsThrough()
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

    /// Usage and help go the parser's way, all others ours.
    private static func finish(_ error: any Error) -> Never {
        let code = exitCode(for: error)
        let isOfParser = code == .validationFailure || code == .success || "\(type(of: error))" == "CommandError"
        guard !isOfParser else { exit(withError: error) }
        Output.fail("\(error)")
        Foundation.exit(ExitStatus.systemError.rawValue)
    }
}

/// A command that a signal may simply end.
protocol WaitsForNothing {}

extension WaitsForNothing {
    func letSignalsThrough() { Signals.unblock([.terminate, .interrupt]) }
}

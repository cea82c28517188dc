import ArgumentParser
import Foundation
import Linux

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
        do {
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
        Output.fail("\(error)")
        Foundation.exit(ExitStatus.systemError.rawValue)
    }
}

/// A command that a signal does not simply end: it is told, and finishes what it has in hand.
protocol RunsUntilTold: ParsableCommand, Sendable {
    var common: CommonOptions { get }
    func serve() async throws
}

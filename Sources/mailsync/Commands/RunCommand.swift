import ArgumentParser
import Formats
import Linux

struct RunCommand: RunsUntilTold {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the daemon, in the role of this end; a replica without a store seeds itself first.")

    @OptionGroup var common: CommonOptions

    func serve() async throws {
        let configuration = try common.read()
        try StateDirectory(path: configuration.state).checkUser()
        _ = try? CurrentProcess.raiseOpenFilesMax(to: 65536)  // as far as it goes
        let daemon = try Daemon(configuration, mayOverwrite: false, log: Output.makeLogger())
        try await daemon.run()
    }
}

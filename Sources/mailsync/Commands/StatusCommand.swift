import ArgumentParser
import Formats
import Foundation

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how this end stands, as its daemon knows it.")

    @OptionGroup var common: CommonOptions
    @Flag(help: "As JSON.") var json = false

    func run() throws {
        let state = try common.readState()
        _ = try state.standing()  // of one that was never made no daemon is asked
        switch try ControlClient(path: state.controlSocket).ask(.status) {
        case .status(let report):
            guard json else { return Output.printRaw(report.text) }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            Output.print(String(decoding: try encoder.encode(report), as: UTF8.self))
        case .failed(let why): throw Failure(.unavailable, why)
        case .position, .reached, .notInTime, .done: throw Failure(.bug, "the daemon answered another question")
        }
    }
}

import ArgumentParser
import Formats
import Foundation

struct WaitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Wait until every replica has reached a position.",
        discussion: "Exit status 0 when it was reached, 75 when it was not in time.")

    enum Level: String, ExpressibleByArgument, CaseIterable { case flushed, applied }

    static let onReplica = "this end is a replica: only the primary knows what was written before now"

    @OptionGroup var common: CommonOptions
    @Flag(help: "All that was written to the store before this call (on the primary).")
    var now = false
    @Option(help: ArgumentHelp("A position, EPOCH/SEQUENCE.", valueName: "position"))
    var position: String?
    @Option(help: "On the replica's disk, or in its store.")
    var level = Level.flushed
    @Option(parsing: .unconditional, help: ArgumentHelp("How long to wait.", valueName: "seconds"))
    var timeout = 30.0

    func validate() throws {
        guard now != (position != nil) else { throw ValidationError("give either --now or --position") }
        guard position.map({ Position($0) != nil }) ?? true else {
            throw ValidationError("--position takes EPOCH/SEQUENCE, as \"mailsync status\" shows it")
        }
        guard timeout > 0, timeout < 1e9 else { throw ValidationError("--timeout must be more than 0") }
    }

    func run() throws {
        let state = try common.readState()
        let client = ControlClient(path: state.controlSocket)
        if now, try state.standing().role == .replica {
            throw Failure(
                .usage, Self.onReplica,
                hint: "run it there, or wait here for a --position")
        }
        let start = Date()
        let goal: String
        if let position {
            goal = position
        } else {
            switch try client.ask(.positionNow(timeoutSeconds: timeout), timeout: .seconds(timeout + 10)) {
            case .position(let position): goal = position
            case .notInTime(let why): throw Failure(.tryAgain, "not in time: \(why)")
            case .failed(let why): throw Failure(.unavailable, why)
            case .status, .reached, .done: throw Failure(.bug, "the daemon answered another question")
            }
        }
        let left = max(0.001, timeout - Date().timeIntervalSince(start))
        let request = ControlRequest.wait(position: goal, level: level.rawValue, timeoutSeconds: left)
        switch try client.ask(request, timeout: .seconds(left + 10)) {
        case .reached: Output.print(goal)
        case .notInTime(let why):
            throw Failure(.tryAgain, "not in time: \(goal) is not \(level.rawValue) everywhere: \(why)")
        case .failed(let why): throw Failure(.unavailable, why)
        case .status, .position, .done: throw Failure(.bug, "the daemon answered another question")
        }
    }
}

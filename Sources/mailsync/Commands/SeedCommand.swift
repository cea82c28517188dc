import ArgumentParser
import Formats
import Foundation
import Linux
import Replica

struct SeedCommand: RunsUntilTold {
    static let configuration = CommandConfiguration(
        commandName: "seed", abstract: "Seed this replica from the running primary, until the copy is consistent.",
        discussion: """
            Can be killed and run again: what is here is not sent again. Over an earlier copy only differences are sent.
            """)

    @OptionGroup var common: CommonOptions
    @Flag(help: "Seed over a store that is no earlier copy; what differs is moved aside.")
    var overwrite = false

    func serve() async throws {
        let configuration = try common.read()
        let state = StateDirectory(path: configuration.state)
        guard try state.standing().role == .replica else {
            throw Failure(
                .usage, "this end is a primary: there is nothing to seed", hint: "run \"mailsync seed\" on the replica")
        }
        _ = try? CurrentProcess.raiseOpenFilesMax(to: 65536)  // as far as it goes
        // Given back even if it ends early: the daemon runs as that user.
        defer { try? state.giveToOwner() }  // `check` tells of what is root's
        let log = Output.makeLogger()
        let daemon = try Daemon(configuration, mayOverwrite: overwrite, log: log)
        guard let end = try await daemon.seedOnly({ progress in Self.show(progress) }) else {
            return Output.note(
                "this replica was seeded before: nothing was fetched or compared. \"mailsync run\" follows the primary; "
                    + "\"mailsync seed --overwrite\" compares all with it and makes it the same")
        }
        if let seed = end.seed { Self.write("seeded: " + Self.amount(seed), isLast: true) }
        Output.note("\"mailsync run\" follows the primary from here")
    }

    private static func show(_ status: ReplicaStatus) {
        guard let seed = status.seed else { return }
        guard seed.ended == nil else {
            return write("all files are here; applied \(status.applied), and the log that came has \(status.flushed)")
        }
        // Counted when the seed began; mail has come since.
        let expected = seed.expectedFileCount.flatMap { $0 > seed.fileCount ? $0 : nil }
        let left =
            expected == nil ? nil : seed.remaining(now: .now()).map { ", \(max(1, $0.components.seconds)) s left" }
        let share = expected.map { ", of about \($0) files" } ?? ""
        write("\(status.phase.rawValue): \(amount(seed))\(share)\(left ?? "")")
    }

    private static func amount(_ seed: SeedProgress) -> String {
        let seconds = Double(((seed.ended ?? .now()) - seed.started).nanosecondsClamped) / 1e9
        let rate = seconds > 0 ? Double(seed.byteCount) / seconds / 1e6 : 0
        return String(
            format: "%llu files, %.1f MB, %.1f MB/s, %.0f s", seed.fileCount, Double(seed.byteCount) / 1e6, rate,
            seconds)
    }

    /// A line that is written over on a terminal, else one every few seconds.
    private static func write(_ line: String, isLast: Bool = false) {
        if isatty(2) == 1 {
            try? StandardStream.error.write("\r\u{1b}[K\(line)\(isLast ? "\n" : "")")  // only progress
        } else {
            Output.note(line)
        }
    }
}

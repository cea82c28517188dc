import ArgumentParser
import Formats
import Foundation
import Linux

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Compare the live stores of both ends, through the log, and heal what differs.",
        discussion: """
            On either end, while Cyrus and both daemons run. Exit status 0 when the stores are equal, 1 when they \
            differed (healed or not), 69 without a daemon or a link, 75 when it could not be completed.
            """)

    enum Depth: String, ExpressibleByArgument, CaseIterable { case metadata, content, cyrus }

    @OptionGroup var common: CommonOptions
    @Option(help: "How closely to look.") var depth = Depth.content
    @Option(help: ArgumentHelp("Only this mailbox.", valueName: "name")) var mailbox: String?
    @Option(help: ArgumentHelp("Only the directories that are this user's alone.", valueName: "name")) var user: String?
    @Option(help: ArgumentHelp("Only what is below this, as findings show it: ROOT/PATH.", valueName: "path"))
    var path: String?
    @Flag(help: "Send again what the replica has otherwise; what it had goes to its quarantine.") var repair = false
    @Flag(help: "One JSON object a line.") var json = false
    @Flag(help: "Again and again, until interrupted.") var follow = false
    @Option(help: ArgumentHelp("Read at most this much a second on each end, as in 20M.", valueName: "bytes"))
    var maxRate: String?
    @Option(help: ArgumentHelp("Read the contents of the n-th of t parts only, as in 1/7.", valueName: "n/t"))
    var sample: String?

    @OptionGroup var offline: OfflineOptions

    func validate() throws {
        guard [mailbox, user, path].count(where: { $0 != nil }) <= 1 else {
            throw ValidationError("give only one of --mailbox, --user and --path")
        }
        _ = try request()
    }

    private func request() throws -> VerifyRequest {
        var request = VerifyRequest(depth: depth.rawValue, mailbox: mailbox, user: user, path: path, repair: repair)
        if let maxRate {
            let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30]
            let unit = maxRate.last.flatMap { units[$0] }
            guard let count = Int(unit == nil ? maxRate[...] : maxRate.dropLast()), count > 0, count < 1 << 30 else {
                throw ValidationError("--max-rate takes a number of bytes, as in 20M")
            }
            request.maxRate = count * (unit ?? 1)
        }
        if let sample {
            let numbers = sample.split(separator: "/").compactMap { UInt64($0) }
            guard numbers.count == 2, numbers[0] >= 1, numbers[0] <= numbers[1], numbers[1] <= 1000 else {
                throw ValidationError("--sample takes a part of how many, as in 1/7")
            }
            (request.samplePart, request.sampleParts) = (numbers[0], numbers[1])
        }
        return request
    }

    func run() throws {
        if offline.isAsked {
            var comparison = OfflineVerify(try common.read(), offline)
            return try comparison.run()
        }
        let state = try common.readState()
        let client = ControlClient(path: state.controlSocket)
        var printer = VerifyPrinter(isJSON: json)
        repeat {
            let failure = try round(client, &printer)
            if let failure { throw failure }
        } while follow
        throw ExitCode(printer.status.rawValue)
    }

    /// Nothing if it came to its end.
    private func round(_ client: ControlClient, _ printer: inout VerifyPrinter) throws -> Failure? {
        var failure: Failure?
        printer.begin()
        try client.stream(.verify(try request())) { line in
            switch line {
            case .failed(let why, let status):
                printer.clear()
                failure = Failure(ExitStatus(rawValue: status) ?? .systemError, why)
                return false
            case .end:
                printer.show(line)
                return false
            case .finding, .progress:
                printer.show(line)
                return true
            }
        }
        return failure
    }
}

/// Findings to standard output, progress to standard error.
struct VerifyPrinter {
    let isJSON: Bool
    private var isDifferent = false
    private var isUnfinished = false
    private var started = MonotonicTime.now()
    private var lastShown = MonotonicTime.now()
    private let isTerminal = isatty(2) == 1

    private static let plainInterval = Duration.seconds(5)

    init(isJSON: Bool) { self.isJSON = isJSON }

    var status: ExitStatus { isDifferent ? .differences : isUnfinished ? .tryAgain : .fine }

    mutating func begin() { (started, lastShown) = (.now(), .now()) }

    func clear() {
        if isTerminal { try? StandardStream.error.write("\r\u{1b}[K") }  // only progress
    }

    mutating func show(_ line: VerifyLine) {
        switch line {
        case .finding(let finding):
            if finding.isDifference { isDifferent = true }
            clear()
            isJSON ? printJSON(finding, "finding") : Output.print(finding.text)
        case .progress(let progress):
            showProgress(progress)
        case .end(let progress):
            if !progress.isComplete { isUnfinished = true }
            clear()
            isJSON ? printJSON(progress, "end") : Output.print(summary(progress))
        case .failed:
            break
        }
    }

    private func printJSON(_ value: some Encodable, _ kind: String) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // What was read from JSON can be written as JSON.
        guard let bytes = try? encoder.encode([kind: value]) else { return }
        Output.print(String(decoding: bytes, as: UTF8.self))
    }

    private func summary(_ progress: VerifyLine.Progress) -> String {
        let seconds = Double((MonotonicTime.now() - started).nanosecondsClamped) / 1e9
        let compared = String(
            format: "%d directories, %d files, %.1f MB compared with %d replica%@ in %.1f s", progress.directories,
            progress.files, Double(progress.bytes) / 1e6, progress.replicas.count,
            progress.replicas.count == 1 ? "" : "s", seconds)
        var lines = [compared]
        if progress.findings == 0, progress.isComplete { lines.append("equal") }
        if progress.findings > 0 { lines.append("\(progress.findings) findings, \(progress.healed) of them healed") }
        for path in progress.unfinished.prefix(20) { lines.append("not compared: \(path): it never came to rest") }
        if progress.unfinished.count > 20 { lines.append("and \(progress.unfinished.count - 20) more") }
        for text in (progress.unreadable ?? []).prefix(20) { lines.append("not compared, with all below it: \(text)") }
        if let count = progress.unreadable?.count, count > 20 { lines.append("and \(count - 20) more") }
        for replica in progress.absent ?? [] { lines.append("not compared: \(replica) was not connected all the time") }
        return lines.joined(separator: "\n")
    }

    private mutating func showProgress(_ progress: VerifyLine.Progress) {
        let now = MonotonicTime.now()
        guard isTerminal || now - lastShown >= Self.plainInterval else { return }
        lastShown = now
        var text = String(format: "%d files, %.1f MB", progress.files, Double(progress.bytes) / 1e6)
        if let total = progress.filesTotal, total > 0 {
            let part = min(1, Double(progress.files) / Double(total))
            let seconds = Double((now - started).nanosecondsClamped) / 1e9
            text += String(format: ", %.0f %%", part * 100)
            if part > 0.01, part < 1 { text += String(format: ", %.0f s to go", seconds / part - seconds) }
        }
        if progress.findings > 0 { text += ", \(progress.findings) findings" }
        guard isTerminal else { return Output.note("verify: \(text)") }
        try? StandardStream.error.write("\r\u{1b}[K\(text)")  // only progress
    }
}

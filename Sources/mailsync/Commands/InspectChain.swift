import ArgumentParser
import Formats
import Linux
import ReplicationLog

/// `mailsync inspect --chain`: the hash chain over all segments kept.
struct InspectChain {
    let common: CommonOptions
    /// A state directory, a directory of segments, or segments in the order of the log; none: this end's own.
    let places: [String]
    let marks: [Position]

    func run() throws {
        var check = ChainCheck(marks: Set(marks))
        let directory = try directory()
        do throws(SystemError) {
            if let directory { try check.run(directory: directory) } else { try check.run(segments: places) }
        } catch {
            throw Failure(.inputOutput, "\(error)")
        }
        guard check.report.first != nil || check.report.broken != nil else {
            throw Failure(.unavailable, "\(directory ?? places.joined(separator: " ")): no segment of a journal")
        }
        show(check.report)
        let isKept = check.report.marks.count == Set(marks).count
        if check.report.broken != nil || !isKept { throw ExitCode(ExitStatus.differences.rawValue) }
    }

    /// Nothing if segments were named.
    private func directory() throws -> String? {
        guard places.count <= 1 else { return nil }
        if let first = places.first, try !Self.isDirectory(first) { return nil }
        let place = try places.first ?? common.read().state
        return try Self.isDirectory(place + "/journal") ? place + "/journal" : place
    }

    private static func isDirectory(_ path: String) throws(SystemError) -> Bool {
        do throws(SystemError) {
            _ = try Directory(path)
            return true
        } catch {
            guard error.errno == .notDirectory || error.errno == .noEntry else { throw error }
            return false
        }
    }

    private func show(_ report: ChainCheck.Report) {
        Output.print("segments: \(report.segmentCount), batches: \(report.batchCount), \(report.byteCount) bytes")
        if let first = report.first { Output.print("first: after \(first.position), chain hash \(first.hash)") }
        if let last = report.last { Output.print("last: \(last.position), chain hash \(last.hash)") }
        for mark in report.marks { Output.print("at: \(mark.position), chain hash \(mark.hash)") }
        for position in marks where !report.marks.contains(where: { $0.position == position }) {
            Output.print("at: \(position): not in the log that is kept")
        }
        if let why = report.unfinished { Output.print("end: a write that was not finished: \(why)") }
        if let broken = report.broken {
            Output.print("broken: \(broken.segment): offset \(broken.offset): \(broken.why)")
        } else {
            Output.print("the chain is whole")
        }
    }
}

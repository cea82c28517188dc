import Formats
import Linux
import Store

// How an audit asks: a check goes into the log, and what became of it and what each replica says of it comes back, or it is
// lost. What is lost, or busy, is asked about again; how often and how long is said here.

extension AuditWalk {
    static let attemptsMax = 40
    private static let verdictTimeout = Duration.seconds(120)
    /// However slow a replica's disk is, it reads so many in a second.
    private static let bytesPerSecondMin: Int64 = 1 << 20
    private static let replicaTimeout = Duration.seconds(60)

    /// One check, waited for; nothing if it was lost. `byteCount`: of what a replica reads for its answer.
    func ask(
        _ kind: CheckRequest.Kind, of listings: [DirectoryListing] = [], in root: RootName = .configuration,
        at depth: AuditCheck.Depth = .metadata, byteCount: Int64 = 0
    ) -> AuditDesk.Result? {
        wait(for: parts.desk.submit(kind, listings, in: root, depth, .now, of: number), byteCount: byteCount)
    }

    /// For one that was submitted before.
    func wait(for check: UInt64, byteCount: Int64) -> AuditDesk.Result? {
        // What is asked before anybody looks at `standing` need not be waited for.
        guard standing.isEmpty else { return nil }
        let reading = Duration.seconds(byteCount / Self.bytesPerSecondMin)
        let answer = parts.desk.wait(
            for: check, timeout: Self.verdictTimeout + reading, isCancelled: parts.isCancelled)
        switch answer {
        case .result(let result): return result
        case .lost: return nil
        case .standing(let replicas):
            standing = replicas
            return nil
        }
    }

    /// Asks until there is an answer; nothing if there is none for all that.
    func untilAnswered<Answer>(pausing pause: Duration, _ ask: () throws -> Answer?) throws -> Answer? {
        for attempt in 0..<Self.attemptsMax {
            if attempt > 0 { parts.desk.pause(pause) }
            try checkCancelled()
            if let answer = try ask() { return answer }
            try waitForReplica()
        }
        return nil
    }

    /// Returns at once if one follows the log.
    func waitForReplica() throws {
        guard parts.desk.following.isEmpty, !parts.desk.waitForReplica(timeout: Self.replicaTimeout) else { return }
        throw AuditFailure(why: "the replica went away and did not come back", kind: .interrupted)
    }
}

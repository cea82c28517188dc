import Formats

/// What each replica finds unsound in itself, looked at again and again; pure.
///
/// It looks between two batches, where what is everybody's may be a batch ahead of a mailbox, and a quota behind it. So a finding is what it
/// found each time, several times in a row, from when that replica was first asked.
struct SoundnessTally {
    private var standings: [String: Standing] = [:]

    private struct Standing {
        var found: Set<AuditVerdict.Unsound>
        var times: Int
    }

    private static let timesInARow = 6

    /// One round of answers, by replica; who gives none has left.
    mutating func note(_ answers: [String: Set<AuditVerdict.Unsound>]) {
        standings = answers.reduce(into: [:]) { next, answer in
            let before = standings[answer.key]
            let found = before.map { $0.found.intersection(answer.value) } ?? answer.value
            next[answer.key] = Standing(found: found, times: (before?.times ?? 0) + 1)
        }
    }

    /// Whether to ask again could change nothing more.
    var isDecided: Bool {
        !standings.isEmpty
            && standings.values.allSatisfy { $0.found.isEmpty || $0.times >= Self.timesInARow }
    }

    struct Finding: Equatable {
        let replica: String
        let what: AuditVerdict.Unsound
    }

    /// Once it is decided.
    var findings: [Finding] {
        standings.sorted { $0.key < $1.key }.flatMap { replica, standing in
            standing.found.sorted { ($0.path, $0.why) < ($1.path, $1.why) }.map { Finding(replica: replica, what: $0) }
        }
    }
}

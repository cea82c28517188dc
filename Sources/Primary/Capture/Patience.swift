import Linux

/// How long what was read waits for what it belongs to: renamed and removed mailboxes for mailboxes.db, those that lost messages for
/// others. Pure.
///
/// Who makes a mailbox, or writes mailboxes.db, for longer, as in a restore, does not keep mail from the replica: then all go that wait
/// by then, and the time begins anew with who comes after them.
struct Patience {
    private let waitMax: Duration
    private var since: MonotonicTime?
    private var answer: (round: UInt64, lasts: Bool)?
    /// How often it came to an end.
    private(set) var endCount: UInt64 = 0

    init(_ waitMax: Duration = .seconds(2)) { self.waitMax = waitMax }

    /// Whether those that changed wait on. To be asked only when there are some; once it says no, the time begins anew with the next round.
    mutating func lasts(_ now: MonotonicTime, in round: UInt64) -> Bool {
        if let answer, answer.round == round { return answer.lasts }
        let begun = since ?? now
        since = now - begun > waitMax ? nil : begun
        if since == nil { endCount += 1 }
        answer = (round, since != nil)
        return since != nil
    }

    /// Nobody waits any more.
    mutating func settled() { since = nil }
}

import Linux

/// How long what was read waits for what it belongs to: renamed and removed mailboxes for mailboxes.db, those that lost messages for
/// others. Pure.
///
/// Who makes a mailbox, or writes mailboxes.db, for longer, as in a restore, does not keep mail from the replica: then all go that wait
/// by then, and the time begins anew with who comes after them.
struct Patience {
    private let waitMax: Duration
    private var since: MonotonicTime?

    init(_ waitMax: Duration = .seconds(2)) { self.waitMax = waitMax }

    /// Whether those that changed wait on. To be asked only when there are some; once it says no, the time begins anew.
    mutating func lasts(_ now: MonotonicTime) -> Bool {
        let begun = since ?? now
        since = now - begun > waitMax ? nil : begun
        return since != nil
    }

    /// Nobody waits any more.
    mutating func settled() { since = nil }
}

import Linux

/// How long what was read waits for what it belongs to: renamed and removed mailboxes for mailboxes.db, those that lost messages for
/// others. Pure.
///
/// Who makes a mailbox, or writes mailboxes.db, for longer, as in a restore, does not keep mail from the replica: then all go that wait
/// by then, and the time begins anew with who comes after them.
struct Patience {
    private var since: MonotonicTime?

    private static let waitMax = Duration.seconds(2)

    /// Whether those that changed wait on. To be asked only when there are some; once it says no, the time begins anew.
    mutating func lasts(_ now: MonotonicTime) -> Bool {
        let begun = since ?? now
        since = now - begun > Self.waitMax ? nil : begun
        return since != nil
    }

    /// Nobody waits any more.
    mutating func settled() { since = nil }
}

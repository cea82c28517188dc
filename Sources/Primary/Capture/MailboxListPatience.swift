import Linux

/// How long renamed and removed mailboxes wait for mailboxes.db. Pure.
///
/// Who makes a mailbox, or writes mailboxes.db, for longer, as in a restore, does not keep mail from the replica: then all go that wait
/// by then, and the time begins anew with who comes after them.
struct MailboxListPatience {
    private var since: MonotonicTime?

    private static let waitMax = Duration.seconds(2)

    /// Whether those that changed wait on. To be asked only when there are some.
    mutating func lasts(_ now: MonotonicTime) -> Bool {
        let begun = since ?? now
        since = now - begun > Self.waitMax ? nil : begun
        return since != nil
    }

    /// Nobody waits any more.
    mutating func settled() { since = nil }
}

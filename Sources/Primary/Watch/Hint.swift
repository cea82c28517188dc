import Formats

/// How soon the capturer is to look.
enum Urgency: Comparable, Sendable {
    /// When something else is due, or in its own time.
    case whenDue
    /// When the capturer has had its pause.
    case soon
    case now
}

/// Where to look: never what happened. A hint may be late, doubled or about nothing.
enum Hint: Hashable, Sendable {
    /// This name in a directory.
    case name(StorePath)
    /// All names in this directory, and how they compare with what was shipped.
    case directory(StorePath)
    /// The lock of this user's mailboxes, or with an empty name that of the shared ones, was let go.
    case released(user: [UInt8])
    /// Events were lost: anything may have changed.
    case overflow
    /// Everything hinted at before this was hinted at before the cookie of this number was made.
    case cookie(UInt64)

    /// A name alone may be one of many that a transaction is just writing; a lock let go says that it is written; for
    /// all others somebody waits.
    var urgency: Urgency {
        switch self {
        case .name: .whenDue
        case .released: .soon
        case .directory, .overflow, .cookie: .now
        }
    }
}

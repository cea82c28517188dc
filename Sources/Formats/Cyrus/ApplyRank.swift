/// In what order the files of a batch are put into a store: what is referred to before what refers to it.
///
/// After a crash between any two, Cyrus finds a state that it could have left itself: at worst a file that no index
/// names yet. It follows mailbox_commit (imap/mailbox.c), where the index header is last, and mailboxes.db, whose
/// entry comes after the mailbox's directory. Removals go in the opposite direction, after all of these.
package enum ApplyRank: Int, Comparable, CaseIterable, Sendable {
    case directory
    case message
    case cache
    /// A mailbox's cyrus.annotations, and annotations.db: indexes keep sums of both.
    case annotations
    case header
    case index
    /// conversations.db, seen.db, sub.db, dav.db, sieve scripts: all that is a user's.
    case user
    /// Quotas, deliver.db, and what else is everybody's.
    case global
    case mailboxes

    package init(of path: StorePath, role: FileRole, rules: StoreRules = StoreRules()) {
        switch rules.relocated[path] {
        case .mailboxes: self = .mailboxes
        case .annotations: self = .annotations
        default: self = Self.inItsPlace(path, role)
        }
    }

    private static func inItsPlace(_ path: StorePath, _ role: FileRole) -> ApplyRank {
        switch role {
        case .message: .message
        case .cache: .cache
        case .annotations: .annotations
        case .header: .header
        case .index: .index
        case .sieve, .database, .plain, .derived, .temporary, .runtime: elsewhere(path)
        }
    }

    private static func elsewhere(_ path: StorePath) -> ApplyRank {
        switch RootKind(path.root) {
        case .partition, .metapartition, .archivePartition: .cache
        case .sieve: .user
        case .configuration: inConfiguration(path.path)
        case .other: .global
        }
    }

    private static func inConfiguration(_ path: [UInt8]) -> ApplyRank {
        if path.elementsEqual("mailboxes.db".utf8) { return .mailboxes }
        if path.elementsEqual("annotations.db".utf8) { return .annotations }
        return path.hasPrefix("user/") || path.hasPrefix("domain/") && !path.contains("/quota/") ? .user : .global
    }

    package static func < (one: ApplyRank, other: ApplyRank) -> Bool { one.rawValue < other.rawValue }
}

extension [UInt8] {
    fileprivate func contains(_ text: StaticString) -> Bool {
        text.withUTF8Buffer { wanted in
            guard count >= wanted.count else { return false }
            return (0...count - wanted.count).contains { self[$0...].prefix(wanted.count).elementsEqual(wanted) }
        }
    }
}

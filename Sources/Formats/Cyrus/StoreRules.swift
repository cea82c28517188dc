/// What a store's configuration says about the names in it: all that is needed to tell a file by its path.
///
/// Made by `StoreLayout` from imapd.conf; the defaults are Cyrus's own.
package struct StoreRules: Sendable {
    package var paths: PathRules
    package var engines: DatabaseEngines
    /// Databases whose place was given by an option, `annotation_db_path` and the like.
    package var relocated: [StorePath: CyrusDatabase]
    /// Directories and files that are not state although they are within a root: `proc_path`, `temp_path`….
    package var runtime: Set<StorePath>

    package init(
        paths: PathRules = PathRules(), engines: DatabaseEngines = DatabaseEngines(),
        relocated: [StorePath: CyrusDatabase] = [:], runtime: Set<StorePath> = []
    ) {
        self.paths = paths
        self.engines = engines
        self.relocated = relocated
        self.runtime = runtime
    }
}

/// A database of Cyrus's; the raw value is what imapd.conf calls it, with `_db` behind.
package enum CyrusDatabase: String, CaseIterable, Sendable {
    case mailboxes = "mboxlist"
    case annotations = "annotation"
    case duplicates = "duplicate"
    case quota
    case seen = "seenstate"
    case subscriptions = "subscription"
    case conversations
    case mailboxKeys = "mboxkey"
    case userDeny = "userdeny"
    case news = "newsrc"
    case backups = "backup"
    case zoneInfo = "zoneinfo"
    case tlsSessions = "tls_sessions"
    case statusCache = "statuscache"
    case pts = "ptscache"
    case syncCache = "sync_cache"
    case sortCache = "sortcache"
    case searchIndexed = "search_indexed"

    package var option: String { rawValue + "_db" }

    /// The user's files `<suffix>.db`, or `<localpart>.<suffix>`.
    static let bySuffix: [String: CyrusDatabase] = [
        "seen": .seen, "sub": .subscriptions, "conversations": .conversations, "mboxkey": .mailboxKeys,
    ]

    /// Files in the configuration directory.
    static let byName: [String: CyrusDatabase] = [
        "mailboxes.db": .mailboxes, "annotations.db": .annotations, "deliver.db": .duplicates, "quotas.db": .quota,
        "user_deny.db": .userDeny, "fetchnews.db": .news, "backups.db": .backups, "zoneinfo.db": .zoneInfo,
        "tls_sessions.db": .tlsSessions, "statuscache.db": .statusCache, "sync_cache.db": .syncCache,
        "ptclient/ptscache.db": .pts,
    ]

    /// Of one that is everybody's: its place in the configuration directory, unless an option says otherwise.
    package var fileName: String? { Self.byName.first { $0.value == self }?.key }

    /// Holds what a Cyrus makes again, or what is of no use elsewhere.
    package var isRuntime: Bool {
        switch self {
        case .tlsSessions, .statusCache, .pts, .syncCache, .sortCache: true
        default: false
        }
    }
}

/// How a file that is a database is built, hence how it must be read to get one whole state of it.
package enum DatabaseKind: String, CaseIterable, Sendable {
    /// Changed in place: read under its fcntl lock.
    case twoskip, skiplist
    /// Renamed over as a whole.
    case flat, quota, counters
    /// Changed in place under locks of its own, with a rollback journal.
    case sqlite
    /// In an engine that isn't known.
    case plain
}

/// The engine of each database: what imapd.conf says, or what Cyrus was built with.
package struct DatabaseEngines: Equatable, Sendable {
    private var changed: [CyrusDatabase: DatabaseKind] = [:]

    package init() {}

    package subscript(database: CyrusDatabase) -> DatabaseKind {
        get { changed[database] ?? Self.builtIn(database) }
        set { changed[database] = newValue }
    }

    /// As of 3.6, in Debian and elsewhere (lib/imapoptions).
    private static func builtIn(_ database: CyrusDatabase) -> DatabaseKind {
        switch database {
        case .conversations: .skiplist
        case .quota: .quota
        case .subscriptions, .userDeny: .flat
        default: .twoskip
        }
    }
}

/// What kind of root a name is: imapd.conf's word up to the partition's name.
package enum RootKind: Sendable {
    case configuration, partition, metapartition, archivePartition, sieve, other

    package init(_ root: RootName) { self = root.kind }

    static let configurationName = "configdirectory"
    static let sieveName = "sievedir"

    init(named name: String) {
        if name == Self.configurationName {
            self = .configuration
        } else if name == Self.sieveName {
            self = .sieve
        } else if name.hasPrefix("partition-") {
            self = .partition
        } else if name.hasPrefix("metapartition-") || name.hasPrefix("metadir-") {
            self = .metapartition
        } else if name.hasPrefix("archivepartition-") {
            self = .archivePartition
        } else {
            self = .other
        }
    }

    /// Whether it has mailbox directories.
    package var holdsMailboxes: Bool { self == .partition || self == .metapartition || self == .archivePartition }
    /// Whether these have messages.
    package var holdsMessages: Bool { self == .partition || self == .archivePartition }
}

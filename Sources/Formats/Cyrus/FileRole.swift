/// What a file is to Cyrus, by its path alone.
package enum FileRole: Hashable, Sendable {
    case message(uid: UInt32)
    case index
    case header
    case cache
    /// cyrus.annotations, a mailbox's messages' annotations: a twoskip database.
    case annotations
    case database(DatabaseKind)
    /// A script, its bytecode, or the link that names the active one.
    case sieve
    /// State, and of no form that matters. So is all that nobody knows.
    case plain
    /// Can be made again from the rest: search indexes.
    case derived
    /// Being written, to be renamed or removed: `*.NEW`, `stage.`, `sync.`, rollback journals.
    case temporary
    /// Of the running server: locks, sockets, process table, caches of this machine.
    case runtime

    package enum Shipping: Sendable { case always, optional, never }

    package var shipping: Shipping {
        switch self {
        case .message, .index, .header, .cache, .annotations, .database, .sieve, .plain: .always
        case .derived: .optional
        case .temporary, .runtime: .never
        }
    }

    /// How it must be read to get one whole state of it; nothing for what is no database.
    package var databaseKind: DatabaseKind? {
        switch self {
        case .annotations: .twoskip
        case .database(let kind): kind
        default: nil
        }
    }
}

extension FileRole {
    /// The role of the file at `path`. For a directory it tells whether to enter it: `runtime`, `temporary` and
    /// `derived` hold for all that is below.
    package init(of path: StorePath, rules: StoreRules = StoreRules()) {
        if let early = Self.anywhere(path, rules) {
            self = early
            return
        }
        switch RootKind(path.root) {
        case .configuration: self = Self.inConfiguration(path, rules)
        case .partition, .metapartition, .archivePartition: self = Self.inMailboxes(path, rules)
        case .sieve: self = Self.inSieve(path)
        case .other: self = .plain
        }
    }

    /// What holds in every root.
    private static func anywhere(_ path: StorePath, _ rules: StoreRules) -> FileRole? {
        let bytes = path.path
        // A handful, if any.
        if rules.runtime.contains(where: { path.isWithin($0) }) { return .runtime }
        if hasOwnComponent(bytes) { return .runtime }
        if !rules.relocated.isEmpty, let database = rules.relocated[path] { return role(of: database, rules) }
        return isNewVersion(path, rules) || isRollbackJournal(path, rules) ? .temporary : nil
    }

    /// `X.NEW`, to be renamed to `X`. In mailboxes' legacy directories no name has a dot, so none is taken for one.
    private static func isNewVersion(_ path: StorePath, _ rules: StoreRules) -> Bool {
        guard path.name.hasSuffix(".NEW") else { return false }
        switch RootKind(path.root) {
        case .configuration: return !isQuota(path, rules) && !isDomain(path)
        case .sieve: return [".bc.NEW", ".script.NEW", "defaultbc.NEW"].contains { path.name.hasSuffix($0) }
        default: return true
        }
    }

    /// `domain/<h>/<domain>`.
    private static func isDomain(_ path: StorePath) -> Bool {
        path.path.hasPrefix("domain/") && path.components.count == 3
    }

    /// Beside an SQLite database, and nowhere else: a mailbox may well be called `travel-journal`.
    private static func isRollbackJournal(_ path: StorePath, _ rules: StoreRules) -> Bool {
        let name = path.name
        let suffixes: [StaticString] = ["-journal", "-wal", "-shm"]
        guard let suffix = suffixes.first(where: { name.hasSuffix($0) }) else { return false }
        let database = name.dropLast(suffix.utf8CodeUnitCount)
        guard StorePath.isName(database) else { return false }
        return FileRole(of: path.parent.appending(database), rules: rules) == .database(.sqlite)
    }

    /// `.mailsync…`: what mailsync itself keeps within a store.
    private static func hasOwnComponent(_ path: [UInt8]) -> Bool {
        for index in path.indices where path[index] == StorePath.dot {
            guard index == 0 || path[index - 1] == StorePath.slash else { continue }
            if path[index...].hasPrefix(".mailsync") { return true }
        }
        return false
    }

    private static func role(of database: CyrusDatabase, _ rules: StoreRules) -> FileRole {
        database.isRuntime ? .runtime : .database(rules.engines[database])
    }

    // MARK: partitions

    private static func inMailboxes(_ path: StorePath, _ rules: StoreRules) -> FileRole {
        let top = path.path.prefix { $0 != StorePath.slash }
        if top.elementsEqual("stage.".utf8) || top.elementsEqual("sync.".utf8) { return .temporary }
        let name = path.name
        if name.hasPrefix("cyrus.") { return meta(name, rules) }
        if let search = search(path) { return search }
        guard let uid = messageUID(name), RootKind(path.root).holdsMessages, !path.parent.isRoot else { return .plain }
        return .message(uid: uid)
    }

    /// Search indexes; in legacy directories `squat…` and `xapian` are names that a mailbox may have.
    private static func search(_ path: StorePath) -> FileRole? {
        let name = path.name
        if path.path.hasPrefix("user/uuid/") || name.hasPrefix("xapian.") { return .derived }
        guard name.hasPrefix("squat") || name.hasPrefix("xapian") else { return nil }
        return MailboxPath.uniqueID(in: path.path) == nil ? nil : .derived
    }

    private static func meta(_ name: ArraySlice<UInt8>, _ rules: StoreRules) -> FileRole {
        switch String(decoding: name.dropFirst(6), as: UTF8.self) {
        case "index": .index
        case "header": .header
        case "cache": .cache
        case "annotations": .annotations
        case "dav": .database(.sqlite)
        case let rest where rest.hasPrefix("squat") || rest.hasPrefix("indexed.db"): .derived
        default: .plain
        }
    }

    /// `^[1-9][0-9]*\.$`, and no more than a UID can be.
    package static func messageUID(_ name: ArraySlice<UInt8>) -> UInt32? {
        guard name.count >= 2, name.count <= 11, name.last == StorePath.dot, name.first != UInt8(ascii: "0") else {
            return nil
        }
        var uid: UInt64 = 0
        for byte in name.dropLast() {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            uid = uid * 10 + UInt64(byte - UInt8(ascii: "0"))
        }
        return UInt32(exactly: uid)
    }

    // MARK: sieve

    private static func inSieve(_ path: StorePath) -> FileRole {
        let name = path.name
        return name.hasSuffix(".bc") || name.hasSuffix(".script") || name.elementsEqual("defaultbc".utf8)
            ? .sieve : .plain
    }

    // MARK: configuration directory

    private static func inConfiguration(_ path: StorePath, _ rules: StoreRules) -> FileRole {
        // At the top, but for one.
        if !path.path.contains(StorePath.slash) || path.path.hasPrefix("ptclient/"),
            let database = CyrusDatabase.byName[String(decoding: path.path, as: UTF8.self)]
        {
            return role(of: database, rules)
        }
        if isRuntimeName(path.path) { return .runtime }
        if isQuota(path, rules) { return .database(.quota) }
        if path.path.hasSuffix(".sqlite3") { return .database(.sqlite) }
        if let suffix = StoreUnit.userFileSuffix(path) { return userFile(suffix, rules) }
        return .plain
    }

    private static func userFile(_ suffix: String, _ rules: StoreRules) -> FileRole {
        switch suffix {
        case "counters": return .database(.counters)
        case "dav": return .database(.sqlite)
        case "xapianactive": return .derived
        default: break
        }
        guard let database = CyrusDatabase.bySuffix[suffix] else { return .plain }
        return .database(rules.engines[database])
    }

    /// `msg` is not among them: motd and shutdown are the operator's word, and go with the store.
    private static let runtimeDirectories: Set<String> = [
        "proc", "socket", "lock", "log", "ptclient", "backup", "sync", "db.backup1", "db.backup2", "md5", "stats",
    ]

    private static func isRuntimeName(_ path: [UInt8]) -> Bool {
        let top = path.prefix { $0 != StorePath.slash }
        if top.elementsEqual(MailboxName.user) { return false }  // most of what there is
        if runtimeDirectories.contains(String(decoding: top, as: UTF8.self)) || top.hasPrefix("db.backup") {
            return true
        }
        guard top.elementsEqual("db".utf8) else { return false }
        let name = path.dropFirst(3)
        // The recovery stamp is this machine's; the others are environments of Berkeley's, from before 2.5.
        return name.elementsEqual("skipstamp".utf8) || name.elementsEqual("skipcleanshutdown".utf8)
            || name.hasPrefix("__db.") || name.hasPrefix("log.")
    }

    /// Whether it's a quota root's file. User `NEW` has `quota/n/user.NEW`; `quota/u/user.NEW` is a new version of
    /// the root `user`: the directory tells them apart.
    private static func isQuota(_ path: StorePath, _ rules: StoreRules) -> Bool {
        guard let root = StoreUnit.quotaRoot(path, rules: rules.paths) else { return false }
        guard root.hasSuffix(".NEW") else { return true }
        let without = root.dropLast(4)
        return [StoreUnit.quotaHash(without, rules: rules.paths)] != Array(path.parent.name)
    }
}

// Every name that a store has passes here, several times: plain loops, which the compiler makes into those of the type at
// hand. A `StaticString` of more than one byte is a pointer.

extension Collection<UInt8> {
    func hasPrefix(_ text: StaticString) -> Bool {
        let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        var index = startIndex
        for byte in wanted {
            guard index != endIndex, self[index] == byte else { return false }
            formIndex(after: &index)
        }
        return true
    }
}

extension BidirectionalCollection<UInt8> {
    func hasSuffix(_ text: StaticString) -> Bool {
        let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        var index = endIndex
        for byte in wanted.reversed() {
            guard index != startIndex else { return false }
            formIndex(before: &index)
            guard self[index] == byte else { return false }
        }
        return true
    }
}

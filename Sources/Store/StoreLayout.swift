package import Formats

/// Where a store is and by what rules its files are named: what follows from imapd.conf.
///
/// Looks at no disk: directories may be missing, and links are not resolved. What mailsync can't mirror rightly is
/// refused with the reason; what an operator should know is in `warnings`.
package struct StoreLayout: Sendable {
    /// Sorted by name. No two have the same path; one may lie within another.
    package let roots: [Root]
    /// `mboxname_lockpath`: where Cyrus locks users and mailboxes. Absolute.
    package let lockRoot: String
    package private(set) var rules: StoreRules
    /// `unixhierarchysep`: how clients see the dots of mailbox names.
    package let hierarchySeparator: HierarchySeparator
    package let warnings: [LayoutFinding]
    /// Options that name the same directory as another: all that is there counts for the latter.
    package let aliases: [RootName: RootName]
    private let metapartitionFiles: Set<String>

    package struct Root: Equatable, Sendable {
        package let name: RootName
        /// Absolute, without a slash at its end.
        package let path: String
        package let origin: Origin

        package init(name: RootName, path: String, origin: Origin) {
            self.name = name
            self.path = path
            self.origin = origin
        }
    }

    /// A directory that nobody configured may be missing; then it's empty.
    package enum Origin: Sendable { case configured, builtIn }
    package enum HierarchySeparator: Sendable { case dot, slash }

    /// Throws with all that is to be refused, not only with the first.
    package init(_ conf: ImapdConf) throws(LayoutRefusal) {
        var draft = LayoutDraft(conf)
        draft.findRoots()
        draft.findLockRoot()
        draft.findEngines()
        draft.findRelocatedDatabases()
        draft.findRuntimePaths()
        let separatesBySlash = draft.flag("unixhierarchysep", otherwise: true)
        guard draft.refusals.isEmpty else { throw LayoutRefusal(findings: draft.refusals) }
        roots = draft.roots.sorted { $0.name < $1.name }
        lockRoot = draft.lockRoot
        rules = draft.rules
        hierarchySeparator = separatesBySlash ? .slash : .dot
        aliases = draft.aliases
        metapartitionFiles = draft.metapartitionFiles
        warnings = draft.warnings
    }

    /// The same store with its roots elsewhere, as a copy of it lies.
    package func relocated(_ place: (Root) -> String) -> StoreLayout {
        StoreLayout(self, roots: roots.map { Root(name: $0.name, path: place($0), origin: $0.origin) })
    }

    private init(_ other: StoreLayout, roots: [Root]) {
        self.roots = roots
        lockRoot = other.lockRoot
        rules = other.rules
        hierarchySeparator = other.hierarchySeparator
        warnings = other.warnings
        aliases = other.aliases
        metapartitionFiles = other.metapartitionFiles
    }

    /// The same, but for these absolute paths and all below them, which never travel: what is mailsync's own, should
    /// somebody have put it within a root.
    package func keepingOut(_ absolutes: [String]) -> StoreLayout {
        var layout = self
        for absolute in absolutes {
            let parts = absolute.split(separator: "/").filter { $0 != "." }
            guard let path = storePath(of: Array(("/" + parts.joined(separator: "/")).utf8)), !path.isRoot else {
                continue
            }
            layout.rules.runtime.insert(path)
        }
        return layout
    }

    package func root(_ name: RootName) -> Root? {
        let name = aliases[name] ?? name
        return roots.first { $0.name == name }
    }

    /// Nothing for a root that this store doesn't have.
    package func absolutePath(of path: StorePath) -> [UInt8]? {
        guard let root = root(path.root) else { return nil }
        return path.isRoot ? Array(root.path.utf8) : Array(root.path.utf8) + [slash] + path.path
    }

    /// The place of an absolute path in the store; in the innermost of the roots that hold it.
    package func storePath(of absolute: some Collection<UInt8>) -> StorePath? {
        var best: (root: Root, rest: [UInt8])?
        for root in roots where root.path.utf8.count > (best?.root.path.utf8.count ?? -1) {
            if let rest = remainder(of: Array(absolute), below: root.path) { best = (root, rest) }
        }
        return best.flatMap { StorePath(root: $0.root.name, path: $0.rest) }
    }

    /// Directories below `root` that are other roots: a walk of `root` passes them by.
    package func nestedRoots(in root: RootName) -> [StorePath] {
        guard let outer = self.root(root) else { return [] }
        return roots.compactMap { inner in
            guard inner.name != outer.name, let rest = remainder(of: Array(inner.path.utf8), below: outer.path) else {
                return nil
            }
            return StorePath(root: outer.name, path: rest)
        }
    }

    package func role(of path: StorePath) -> FileRole { FileRole(of: path, rules: rules) }

    /// By its name, which says that it never changes.
    package func isMessage(_ path: StorePath) -> Bool {
        if case .message = role(of: path) { true } else { false }
    }

    package func unit(of path: StorePath, _ kind: StoreUnit.EntryKind = .file) -> StoreUnit {
        StoreUnit(of: path, kind, rules: rules.paths)
    }

    package func applyRank(of path: StorePath) -> ApplyRank {
        ApplyRank(of: path, role: role(of: path), rules: rules)
    }

    /// Where a database of everybody's is.
    package func path(of database: CyrusDatabase) -> StorePath {
        if let relocated = rules.relocated.first(where: { $0.value == database }) { return relocated.key }
        guard let name = database.fileName else { preconditionFailure("\(database) is not everybody's") }
        return StorePath(.configuration, name)
    }
}

// MARK: mailboxes

extension StoreLayout {
    /// Names behind `partition-`.
    package var partitions: [String] {
        roots.map(\.name.name).filter { $0.hasPrefix("partition-") }.map { String($0.dropFirst("partition-".count)) }
    }

    /// A mailbox's file beside its messages.
    package enum MetaFile: String, CaseIterable, Sendable {
        case header, index, cache, annotations, squat, dav, expunge
        /// The cache of archived messages: cyrus.cache too, and the same file if it has no place of its own.
        case archiveCache = "archivecache"

        package var fileName: String { self == .archiveCache ? "cyrus.cache" : "cyrus.\(rawValue)" }
    }

    /// The root that has this file of the mailboxes of `partition` (imap/mboxname.c, mboxname_metapath).
    package func root(of file: MetaFile, partition: String) -> RootName? {
        // Annotations go where metadir-index points.
        let directory = file == .annotations ? "index" : file.rawValue
        var names = file == .expunge ? [] : ["metadir-\(directory)-\(partition)"]
        if metapartitionFiles.contains(file.rawValue) { names.append("metapartition-\(partition)") }
        if file == .archiveCache { names.append("archivepartition-\(partition)") }
        names.append("partition-\(partition)")
        return names.compactMap { root(RootName($0))?.name }.first
    }

    package enum MessagePlace: Sendable { case spool, archive }

    /// The root that has messages of `partition`; archived ones are in the spool if there is no archive.
    package func root(ofMessages place: MessagePlace, partition: String) -> RootName? {
        let spool = root(RootName("partition-\(partition)"))?.name
        return place == .spool ? spool : root(RootName("archivepartition-\(partition)"))?.name ?? spool
    }

    /// The partition that a root is part of: `x` of `partition-x`, `metapartition-x`, `metadir-index-x`.
    package static func partition(of root: RootName) -> String? {
        let name = root.name
        for prefix in ["partition-", "metapartition-", "archivepartition-"] where name.hasPrefix(prefix) {
            return String(name.dropFirst(prefix.count))
        }
        guard name.hasPrefix("metadir-") else { return nil }
        return name.split(separator: "-", maxSplits: 2).last.map(String.init)
    }

    /// All roots that may have a directory of the mailboxes of `partition`.
    package func mailboxRoots(partition: String) -> [RootName] {
        roots.map(\.name).filter { RootKind($0).holdsMailboxes && Self.partition(of: $0) == partition }
    }
}

// MARK: locks

extension StoreLayout {
    /// `*U*alice.lock`; of all shared mailboxes for an empty id. Absolute.
    package func userLock(_ userID: some Collection<UInt8>) -> [UInt8] {
        lock(MailboxPath.userLock(userID, rules: rules.paths))
    }

    /// The name lock of a mailbox in a uuid directory. Absolute.
    package func mailboxLock(uniqueID: some Collection<UInt8>) -> [UInt8] {
        lock(MailboxPath.mailboxLock(uniqueID: uniqueID, rules: rules.paths))
    }

    /// The name lock of a mailbox in a legacy directory. Absolute.
    package func legacyMailboxLock(of name: MailboxName) -> [UInt8] {
        lock(MailboxPath.legacyMailboxLock(of: name, rules: rules.paths))
    }

    private func lock(_ relative: [UInt8]) -> [UInt8] { Array(lockRoot.utf8) + [slash] + relative }
}

/// Something about a configuration that an operator should know.
package struct LayoutFinding: Equatable, Sendable, CustomStringConvertible {
    /// An option of imapd.conf.
    package let what: String
    /// File and line, or that it's built in.
    package let place: String
    package let why: String
    package let mend: String?

    package var description: String { "\(what): \(place): \(why)" }
}

/// Why a store can't be mirrored: everything that stands against it.
package struct LayoutRefusal: Error, Equatable, CustomStringConvertible {
    package let findings: [LayoutFinding]
    package var description: String { findings.map(\.description).joined(separator: "\n") }
}

private let slash = UInt8(ascii: "/")

/// What is left of `path` below `directory`; empty for the directory itself.
private func remainder(of path: [UInt8], below directory: String) -> [UInt8]? {
    guard path.starts(with: directory.utf8) else { return nil }
    let rest = path.dropFirst(directory.utf8.count)
    if rest.isEmpty { return [] }
    return rest.first == slash ? Array(rest.dropFirst()) : nil
}

// MARK: reading the configuration

/// A layout that is being found out, option by option.
private struct LayoutDraft {
    let conf: ImapdConf
    var roots: [StoreLayout.Root] = []
    var aliases: [RootName: RootName] = [:]
    var lockRoot = ""
    var rules = StoreRules()
    var warnings: [LayoutFinding] = []
    var refusals: [LayoutFinding] = []

    init(_ conf: ImapdConf) {
        self.conf = conf
        rules.paths.spoolHash = flag("hashimapspool", otherwise: false) ? .hashed : .none
        rules.paths.letter = flag("fulldirhash", otherwise: false) ? .ofWholeName : .first
        rules.paths.domains = hasVirtualDomains ? .virtual : .off
        if let prefix = conf["deletedprefix"] { rules.paths.deletedPrefix = Array(prefix.utf8) }
        rules.paths.defaultDomain = Array((conf["defaultdomain"] ?? "internal").utf8)
        for entry in conf.file.overridden {
            warn(
                entry.key, "\(entry.source)", "given more than once; the last one is taken, Cyrus would not start",
                "leave one")
        }
    }

    var metapartitionFiles: Set<String> {
        Set((conf["metapartition_files"] ?? "").split(separator: " ").map(String.init))
    }

    /// `off`, `userid` or `on`.
    private var hasVirtualDomains: Bool {
        guard let value = conf["virtdomains"]?.lowercased() else { return false }
        return !["off", "no", "0", "f", "false"].contains(value)
    }

    /// A value that is neither yes nor no is refused; `otherwise` goes on.
    mutating func flag(_ key: String, otherwise: Bool) -> Bool {
        do throws(ConfigurationError) { return try conf.flag(key) ?? otherwise } catch {
            refuse(key, "\(error.source)", error.why, nil)
            return otherwise
        }
    }

    // MARK: roots

    mutating func findRoots() {
        addRoot("configdirectory", mend: "give configdirectory")
        for prefix in ["partition-", "metapartition-", "metadir-", "archivepartition-"] {
            for entry in conf.file.entries(prefix: prefix) { addRoot(entry.key, mend: "") }
        }
        if !roots.contains(where: { RootKind($0.name) == .partition }) {
            refuse(
                "partition-default", "not given", "a store without a partition has no mail",
                "give partition-<name>")
        }
        guard !flag("sieveusehomedir", otherwise: false) else {
            warn(
                "sieveusehomedir", place("sieveusehomedir"),
                "sieve scripts are in the users' home directories and are not mirrored",
                "set sieveusehomedir: no and give sievedir")
            return
        }
        if conf["sievedir"] == nil {
            add(StoreLayout.Root(name: .sieve, path: "/usr/sieve", origin: .builtIn))
        } else {
            addRoot("sievedir", mend: "")
        }
    }

    private mutating func addRoot(_ option: String, mend: String) {
        guard let value = conf.path(option) else {
            refuse(option, "not given", "mailsync must know where this is", mend)
            return
        }
        guard let path = normalised(value) else {
            refuse(
                option, place(option), "not an absolute path: \(value)", "give a path that begins with / and has no ..")
            return
        }
        guard path != "/" else {
            refuse(option, place(option), "the whole file system is no store", "give a directory")
            return
        }
        add(StoreLayout.Root(name: RootName(option), path: path, origin: .configured))
    }

    private mutating func add(_ root: StoreLayout.Root) {
        guard let first = roots.first(where: { $0.path == root.path }) else {
            roots.append(root)
            return
        }
        aliases[root.name] = first.name
        warn(root.name.name, place(root.name.name), "the same directory as \(first.name)", nil)
    }

    mutating func findLockRoot() {
        let configured = conf.path("mboxname_lockpath")
        guard let path = normalised(configured ?? (conf["configdirectory"] ?? "") + "/lock") else {
            refuse("mboxname_lockpath", place("mboxname_lockpath"), "not an absolute path", nil)
            return
        }
        lockRoot = path
    }

    // MARK: databases

    mutating func findEngines() {
        for database in CyrusDatabase.allCases {
            guard let value = conf[database.option] else { continue }
            switch value {
            case "twoskip": rules.engines[database] = .twoskip
            case "skiplist": rules.engines[database] = .skiplist
            case "flat": rules.engines[database] = .flat
            case "quotalegacy": rules.engines[database] = .quota
            default: refuseEngine(value, of: database)
            }
        }
    }

    private mutating func refuseEngine(_ engine: String, of database: CyrusDatabase) {
        guard !database.isRuntime else { return }
        let why =
            switch engine {
            case "twom": "twom writes through memory maps, which the kernel's change notices don't show"
            case "sql": "the data are in an SQL database, not in the store"
            case "zeroskip": "zeroskip keeps a database in several files, which mailsync doesn't know"
            default: "an engine that mailsync doesn't know: \(engine)"
            }
        refuse(database.option, place(database.option), why, "convert it to twoskip with cvt_cyrusdb")
    }

    /// State must be within the roots; a cache may be anywhere.
    mutating func findRelocatedDatabases() {
        for database in CyrusDatabase.allCases {
            let option = database.option + "_path"
            guard let value = conf.path(option) else { continue }
            guard let path = normalised(value).flatMap(storePath) else {
                if database.isRuntime { continue }
                refuse(
                    option, place(option), "\(value) is outside every root of the store",
                    "move it below \(conf["configdirectory"] ?? "configdirectory"), or leave the option out")
                continue
            }
            // The path of quotalegacy is that of a file that isn't there; its directory has quota/.
            if database == .quota, rules.engines[.quota] == .quota { continue }
            rules.relocated[path] = database
        }
    }

    /// Options that name what is not state.
    mutating func findRuntimePaths() {
        let options = [
            "proc_path", "mboxname_lockpath", "temp_path", "backup_staging_path", "prometheus_stats_dir", "lmtpsocket",
            "idlesocket", "notifysocket", "ptloader_sock", "sync_shutdown_file", "jmap_emailsearch_db_path",
        ]
        let directories = conf.file.entries.filter {
            $0.key.contains("searchpartition-") || $0.key.hasPrefix("backuppartition-")
        }
        for value in options.compactMap(conf.path) + directories.map(\.value) {
            guard let path = normalised(value).flatMap(storePath), !path.isRoot else { continue }
            rules.runtime.insert(path)
        }
    }

    // MARK: small ones

    private func storePath(_ absolute: String) -> StorePath? {
        let inner = roots.filter { remainder(of: Array(absolute.utf8), below: $0.path) != nil }
            .max { $0.path.utf8.count < $1.path.utf8.count }
        guard let inner, let rest = remainder(of: Array(absolute.utf8), below: inner.path) else { return nil }
        return StorePath(root: inner.name, path: rest)
    }

    /// Without doubled slashes, `.`, and a slash at the end; nothing for a path that isn't absolute or has `..`.
    private func normalised(_ path: String) -> String? {
        guard path.hasPrefix("/") else { return nil }
        let parts = path.split(separator: "/").filter { $0 != "." }
        return parts.contains("..") ? nil : "/" + parts.joined(separator: "/")
    }

    private func place(_ option: String) -> String {
        conf.file.entry(option).map { "\($0.source)" } ?? "built in"
    }

    private mutating func warn(_ what: String, _ place: String, _ why: String, _ mend: String?) {
        warnings.append(LayoutFinding(what: what, place: place, why: why, mend: mend))
    }

    private mutating func refuse(_ what: String, _ place: String, _ why: String, _ mend: String?) {
        refusals.append(LayoutFinding(what: what, place: place, why: why, mend: mend))
    }
}

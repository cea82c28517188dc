/// What belongs together in a store: the files that one change of Cyrus's touches under one set of locks.
package enum StoreUnit: Hashable, Sendable {
    /// A mailbox's directory. With metadata or archive partitions a mailbox has one below each of its roots; the
    /// path is the same in all.
    case mailbox(directory: StorePath)
    case user(UserKey)
    /// A quota root, in its internal name.
    case quota(root: [UInt8])
    /// A file that is nobody's own: mailboxes.db, deliver.db.
    case global(StorePath)

    /// How a user's directory names the user.
    package enum UserKey: Hashable, Sendable {
        /// By the uniqueid of the INBOX, since 3.6.
        case inbox(uniqueID: [UInt8])
        /// By user id, `alice` or `alice@domain`.
        case name([UInt8])
    }

    /// What stands at a path. Only in legacy mailbox directories it matters.
    package enum EntryKind: Sendable { case file, directory }

    package init(of path: StorePath, _ kind: EntryKind = .file, rules: PathRules = PathRules()) {
        switch RootKind(path.root) {
        case .partition, .metapartition, .archivePartition: self = Self.inMailboxes(path, kind)
        case .sieve: self = Self.inSieve(path, rules)
        case .configuration: self = Self.inConfiguration(path, rules)
        case .other: self = .global(path)
        }
    }

    private static func inMailboxes(_ path: StorePath, _ kind: EntryKind) -> StoreUnit {
        if let directory = uuidDirectory(of: path) { return .mailbox(directory: directory) }
        let directory = kind == .file ? path.parent : path
        return directory.isRoot ? .global(path) : .mailbox(directory: directory)
    }

    /// `uuid/a/b/<id>` of what is in it.
    private static func uuidDirectory(of path: StorePath) -> StorePath? {
        guard let id = MailboxPath.uniqueID(in: path.path), let directory = MailboxPath.directory(uniqueID: id) else {
            return nil
        }
        return StorePath(root: path.root, path: directory)
    }

    // MARK: sieve

    private static func inSieve(_ path: StorePath, _ rules: PathRules) -> StoreUnit {
        if let id = MailboxPath.uniqueID(in: path.path) { return .user(.inbox(uniqueID: Array(id))) }
        var parts = path.components[...]
        let domain = takeDomain(&parts, rules)
        guard parts.count >= 2, parts.popFirst().map(Array.init) == [rules.hash(parts.first ?? [])],
            let name = parts.first, rules.domains == .virtual || domain == nil
        else { return .global(path) }
        return .user(.name(userID(localpart: Array(name), domain: domain)))
    }

    // MARK: configuration directory

    private static func inConfiguration(_ path: StorePath, _ rules: PathRules) -> StoreUnit {
        if let root = quotaRoot(path, rules: rules) { return .quota(root: root) }
        if let user = userKey(path, rules) { return .user(user) }
        return .global(path)
    }

    private static func userKey(_ path: StorePath, _ rules: PathRules) -> UserKey? {
        if let id = userUniqueID(path) { return .inbox(uniqueID: Array(id)) }
        var parts = path.components[...]
        let domain = takeDomain(&parts, rules)
        guard parts.count == 3, parts.popFirst()?.elementsEqual(MailboxName.user) == true,
            let letter = parts.popFirst(), let localpart = legacyLocalpart(parts.first ?? []),
            letter.elementsEqual([rules.hash(localpart)])
        else { return nil }
        return .name(userID(localpart: Array(localpart), domain: domain))
    }

    private static func userUniqueID(_ path: StorePath) -> ArraySlice<UInt8>? {
        let bytes = path.path
        guard bytes.hasPrefix("user/uuid/") else { return nil }
        return MailboxPath.uniqueID(in: bytes.dropFirst(5))
    }

    private static func userID(localpart: [UInt8], domain: [UInt8]?) -> [UInt8] {
        domain.map { localpart + [MailboxName.at] + $0 } ?? localpart
    }

    /// `seen` of `user/uuid/…/seen.db` and of `user/a/alice.seen`; `.NEW` and journals are not looked through.
    static func userFileSuffix(_ path: StorePath) -> String? {
        let name = path.name
        if userUniqueID(path) != nil {
            return name.hasSuffix(".db") ? String(decoding: name.dropLast(3), as: UTF8.self) : nil
        }
        guard path.path.hasPrefix("user/") || path.path.hasPrefix("domain/") || name.hasPrefix("shared."),
            let cut = name.lastIndex(of: MailboxName.dot)
        else { return nil }
        return String(decoding: name[(cut + 1)...], as: UTF8.self)
    }

    /// A localpart may have dots, a suffix has none.
    private static func legacyLocalpart(_ name: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        var name = name
        if name.hasSuffix(".NEW") { name = name.dropLast(4) }
        guard let cut = name.lastIndex(of: MailboxName.dot), cut > name.startIndex else { return nil }
        return name[..<cut]
    }

    // MARK: quota

    /// The root whose usage is kept in the file (lib/cyrusdb_quotalegacy.c, hash_quota).
    static func quotaRoot(_ path: StorePath, rules: PathRules) -> [UInt8]? {
        guard path.path.hasPrefix("quota/") || path.path.hasPrefix("domain/") else { return nil }
        var parts = path.components[...]
        let domain = takeDomain(&parts, rules)
        guard parts.popFirst()?.elementsEqual(quota) == true, let first = parts.popFirst() else { return nil }
        let prefix = domain.map { $0 + [MailboxName.exclamation] } ?? []
        guard let name = parts.popFirst() else {
            return domain != nil && first.elementsEqual("root".utf8) ? prefix : nil
        }
        return parts.isEmpty && first.count == 1 ? prefix + Array(name) : nil
    }

    /// The letter of a quota root's directory: of the second part of the name.
    static func quotaHash(_ root: some Collection<UInt8>, rules: PathRules) -> UInt8 {
        let name = Array(root)[...]
        let local = name.firstIndex(of: MailboxName.exclamation).map { name[($0 + 1)...] } ?? name
        return rules.hash(local.firstIndex(of: MailboxName.dot).map { local[($0 + 1)...] } ?? local)
    }

    /// The reverse of `quotaRoot`: the file, below the configuration directory.
    package static func quotaPath(_ root: [UInt8], rules: PathRules) -> [UInt8] {
        var parts: [[UInt8]] = []
        var name = root[...]
        if let cut = root.firstIndex(of: MailboxName.exclamation) {
            let domain = Array(root[..<cut])
            parts = [MailboxPath.domainDirectory, [rules.hash(domain)], domain]
            name = root[(cut + 1)...]
        }
        parts.append(quota)
        parts += name.isEmpty ? [Array("root".utf8)] : [[quotaHash(root, rules: rules)], Array(name)]
        return Array(parts.joined(separator: [MailboxPath.slash]))
    }

    private static let quota = Array("quota".utf8)

    /// Takes `domain/<h>/<domain>` off; only with virtual domains is there any.
    private static func takeDomain(
        _ parts: inout ArraySlice<ArraySlice<UInt8>>, _ rules: PathRules
    ) -> [UInt8]? {
        guard rules.domains == .virtual, parts.count >= 3,
            parts.first?.elementsEqual(MailboxPath.domainDirectory) == true
        else { return nil }
        let domain = Array(parts[parts.startIndex + 2])
        guard parts[parts.startIndex + 1].elementsEqual([rules.hash(domain)]) else { return nil }
        parts = parts.dropFirst(3)
        return domain
    }
}

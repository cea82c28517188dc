/// Where Cyrus keeps the files of a mailbox and of a user, and how it names its locks.
///
///     uuid      <root>/uuid/<id[0]>/<id[1]>/<id>                   since 3.6, whatever the hashing options are
///     legacy    <root>[/domain/[<h>/]<domain>][/<h>]/user/<localpart>/<box>…
///     user      <configdirectory>/user/uuid/<x>/<y>/<id of INBOX>/<suffix>.db
///               <configdirectory>[/domain/<h>/<domain>]/user/<h>/<localpart>.<suffix>
///     locks     <lock root>/[<h>/]*U*<user>.lock, <lock root>/[<h>/]<id>.lock
///
/// `<h>` is the letter of `PathRules.hash`: of the component after the first one in a legacy path, of the lock's own
/// name in the lock directory (imap/mboxname.c: mboxname_hash, mboxname_id_hash, mboxname_lockpath).
/// Paths are relative to their root, without a slash at either end.
package enum MailboxPath {
    /// `uuid/9/v/9vvjr55xk6d08lyw7qa111po`; nothing if `id` cannot be one.
    package static func directory(uniqueID id: some Collection<UInt8>) -> [UInt8]? {
        guard let shards = shards(of: id) else { return nil }
        return uuid + [slash, shards.0, slash, shards.1, slash] + Array(id)
    }

    /// The mailbox whose directory `path` is or is within: `uuid/a/b/<id>`, and what's below it.
    package static func uniqueID(in path: some Collection<UInt8>) -> ArraySlice<UInt8>? {
        let parts = Array(path).split(separator: slash, maxSplits: 4, omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[0].elementsEqual(uuid), let shards = shards(of: parts[3]) else { return nil }
        return parts[1].elementsEqual([shards.0]) && parts[2].elementsEqual([shards.1]) ? parts[3] : nil
    }

    /// Two characters at least, and no path of its own.
    private static func shards(of id: some Collection<UInt8>) -> (UInt8, UInt8)? {
        guard id.count >= 2, StorePath.isName(id), id.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != MailboxName.dot })
        else { return nil }
        return (id[id.startIndex], id[id.index(after: id.startIndex)])
    }

    /// The legacy directory of a mailbox.
    package static func legacyDirectory(of name: MailboxName, rules: PathRules) -> [UInt8] {
        var parts: [[UInt8]] = []
        if let domain = name.domain {
            parts.append(domainDirectory)
            if rules.spoolHash == .hashed { parts.append([rules.hash(domain)]) }
            parts.append(domain)
        }
        let components = name.components(rules: rules)
        if rules.spoolHash == .hashed, let first = components.first {
            parts.append([rules.hash(components.count > 1 ? components[1] : first)])
        }
        return Array((parts + components.map(MailboxName.escaped)).joined(separator: [slash]))
    }

    /// The mailbox whose legacy directory is `path`; nothing if no mailbox has it, as for a hash directory alone, or
    /// one whose letter doesn't agree with what is in it.
    package static func name(ofLegacyDirectory path: some Collection<UInt8>, rules: PathRules) -> MailboxName? {
        var parts = Array(path).split(separator: slash, omittingEmptySubsequences: false).map(Array.init)[...]
        guard uniqueID(in: path) == nil, !parts.contains([]) else { return nil }
        var domain: [UInt8]?
        if rules.domains == .virtual, parts.first == domainDirectory {
            parts.removeFirst()
            if rules.spoolHash == .hashed {
                guard parts.count > 1, parts.removeFirst() == [rules.hash(parts.first ?? [])] else { return nil }
            }
            guard let first = parts.popFirst() else { return nil }
            domain = first
        }
        let letter = rules.spoolHash == .hashed ? parts.popFirst() : nil
        let components = parts.map(MailboxName.unescaped)
        guard let first = components.first, !parts.contains(where: { $0.contains(MailboxName.dot) }) else { return nil }
        if let letter, letter != [rules.hash(components.count > 1 ? components[1] : first)] { return nil }
        return MailboxName(domain: domain, components: components, rules: rules)
    }

    /// `user/uuid/9/v/<id>/seen.db`: a file of the user whose INBOX has this uniqueid. `suffix` is `seen`, `sub`….
    package static func userFile(inboxID: some Collection<UInt8>, suffix: String) -> [UInt8]? {
        directory(uniqueID: inboxID).map { MailboxName.user + [slash] + $0 + [slash] + Array((suffix + ".db").utf8) }
    }

    /// `user/a/alice.seen`, `domain/e/example.org/user/a/alice.seen`.
    package static func legacyUserFile(of name: MailboxName, suffix: String, rules: PathRules) -> [UInt8] {
        var parts: [[UInt8]] = []
        if let domain = name.domain { parts = [domainDirectory, [rules.hash(domain)], domain] }
        if let localpart = name.localpart {
            parts += [MailboxName.user, [rules.hash(localpart)], localpart + Array(".\(suffix)".utf8)]
        } else {
            parts.append(Array("shared.\(suffix)".utf8))
        }
        return Array(parts.joined(separator: [slash]))
    }

    /// The user namespace lock: `q/*U*alice.lock` below the lock root. No user is the lock of all shared mailboxes.
    ///
    /// Held shared, no mailbox of the user changes (imap/user.c, user_namespacelock_full).
    package static func userLock(_ userID: some Collection<UInt8>, rules: PathRules) -> [UInt8] {
        lock(named: Array("*U*".utf8) + userID, rules: rules)
    }

    /// Whose lock the file of this name is, wherever below the lock root; nothing for other locks.
    package static func user(ofLock name: [UInt8]) -> [UInt8]? {
        guard name.hasPrefix("*U*"), name.hasSuffix(".lock") else { return nil }
        return MailboxName.unescaped(name.dropFirst(3).dropLast(lockSuffix.count))
    }

    /// The name lock of a mailbox in a uuid directory.
    package static func mailboxLock(uniqueID: some Collection<UInt8>, rules: PathRules) -> [UInt8] {
        lock(named: Array(uniqueID), rules: rules)
    }

    /// The name lock of a mailbox in a legacy directory: its path with `.lock` behind.
    package static func legacyMailboxLock(of name: MailboxName, rules: PathRules) -> [UInt8] {
        legacyDirectory(of: name, rules: rules) + lockSuffix
    }

    /// Cyrus takes the lock's name for a mailbox's: a dot is written `^`, and the letter is of the name itself.
    private static func lock(named name: [UInt8], rules: PathRules) -> [UInt8] {
        let directory = rules.spoolHash == .hashed ? [rules.hash(MailboxName.unescaped(name)), slash] : []
        return directory + MailboxName.escaped(name) + lockSuffix
    }

    static let slash = UInt8(ascii: "/")
    static let uuid = Array("uuid".utf8)
    static let domainDirectory = Array("domain".utf8)
    private static let lockSuffix = Array(".lock".utf8)
}

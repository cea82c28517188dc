/// The entries of mailboxes.db, which says what mailboxes there are and where (imap/mboxlist.c).
///
///     N<database name>   %(T type I uniqueid P partition [S server] V uidvalidity C createdmodseq F foldermodseq
///                          M mtime A %(user rights …))
///     I<uniqueid>        the same with N <database name> for I, and H (%(N old name M … V … C … F … T …) …)
///     A…                 who has rights on whose mailboxes, if `reverseacls`
///     1F VER 1F          version of the database, 2 since 3.6, if it was ever upgraded
///     <internal name>    before 3.6, with the same value or "type partition acl"
///
/// An `I` entry whose mailbox is gone may stay behind. A tombstone (type with `d`) has no P and no A.
package enum MailboxesDatabase {
    package enum Entry: Equatable, Sendable {
        case name(MailboxName, MailboxEntry)
        case uniqueID([UInt8], MailboxEntry)
        /// Reverse rights, version, and keys that are not known: nothing to do with where mailboxes are.
        case other(key: [UInt8])
    }

    /// What a key and its value say. Throws if the value of a mailbox can't be read.
    package static func decode(
        key: ArraySlice<UInt8>, value: ArraySlice<UInt8>, rules: PathRules = PathRules()
    ) throws(MalformedBytes) -> Entry {
        switch key.first {
        case UInt8(ascii: "N"):
            let name = MailboxName(databaseName: key.dropFirst(), rules: rules)
            return .name(name, try MailboxEntry(decoding: value, rules: rules))
        case UInt8(ascii: "I"):
            return .uniqueID(Array(key.dropFirst()), try MailboxEntry(decoding: value, rules: rules))
        default:
            return .other(key: Array(key))
        }
    }

    package static func nameKey(_ name: MailboxName, rules: PathRules = PathRules()) -> [UInt8] {
        [UInt8(ascii: "N")] + name.databaseName(rules: rules)
    }

    package static func uniqueIDKey(_ id: some Sequence<UInt8>) -> [UInt8] { [UInt8(ascii: "I")] + id }
}

/// What mailboxes.db knows of a mailbox.
package struct MailboxEntry: Equatable, Sendable {
    package let type: MailboxType
    /// Of entries by name.
    package let uniqueID: [UInt8]?
    /// Of entries by uniqueid.
    package let name: MailboxName?
    /// The `x` of `partition-x`; nothing for a tombstone.
    package let partition: String?
    package let server: [UInt8]?
    package let uidValidity: UInt32
    package let createdModseq: UInt64
    package let folderModseq: UInt64
    /// Seconds since 1970.
    package let modified: Int64
    package let acl: [MailboxHeader.Right]
    /// What it was called before, newest first.
    package let formerNames: [MailboxName]

    package init(decoding value: ArraySlice<UInt8>, rules: PathRules = PathRules()) throws(MalformedBytes) {
        let list = try DList(decoding: value)
        guard list.pairs != nil else { throw MalformedBytes("mailboxes.db", at: 0, "no keys and values") }
        func name(_ list: DList) -> MailboxName? {
            list["N"]?.text.map { MailboxName(databaseName: $0, rules: rules) }
        }
        type = MailboxType(list["T"]?.text ?? [])
        uniqueID = list["I"]?.text
        self.name = name(list)
        partition = list["P"]?.string
        server = list["S"]?.text
        uidValidity = UInt32(truncatingIfNeeded: list["V"]?.number ?? 0)
        createdModseq = list["C"]?.number ?? 0
        folderModseq = list["F"]?.number ?? 0
        modified = Int64(clamping: list["M"]?.number ?? 0)
        acl = MailboxHeader.rights(list["A"])
        formerNames = (list["H"]?.items ?? []).compactMap(name)
    }

    /// Where its files are below the root of its partition; nothing if there are none to be had here.
    package func directory(name: MailboxName, rules: PathRules) -> [UInt8]? {
        guard type.hasFiles, partition != nil else { return nil }
        if type.hasLegacyDirectory { return MailboxPath.legacyDirectory(of: name, rules: rules) }
        return uniqueID.flatMap { MailboxPath.directory(uniqueID: $0) }
    }
}

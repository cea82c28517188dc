package import Formats
import Linux

/// mailboxes.db as it was at one moment.
struct MailboxList: Sendable {
    private(set) var byName: [MailboxName: MailboxEntry] = [:]
    private(set) var byID: [[UInt8]: MailboxEntry] = [:]
    /// Keys of the time before 3.6 and no others: it can be told what there is, but not by id.
    private(set) var isOld = false
    let path: StorePath
    let rules: PathRules

    /// Nothing while it is being written, or if it is not there or cannot be read: `DatabaseCheck` tells why.
    static func read(_ check: CyrusCheck) throws(SystemError) -> MailboxList? {
        let path = check.layout.path(of: .mailboxes)
        let reading = try check.still([]) { () throws(SystemError) -> Reading? in
            guard try check.roots.status(of: path) != nil else { return .absent }
            guard let locked = try check.roots.openLocked(path, .whole) else { return nil }
            // Each transaction makes it longer or another file, so that a status is a content.
            if let list = check.lists.withLock({ $0[locked.status] }) { return .known(list) }
            return .bytes(try locked.file.readAll(max: 2 << 30), locked.status)
        }
        switch reading {
        case .absent, nil: return nil
        case .known(let list): return list
        case .bytes(let bytes, let status):
            check.read(bytes.count)
            let list = decoded(bytes, path, check.layout.rules)
            check.lists.withLock { $0 = [status: list] }
            return list
        }
    }

    private enum Reading {
        case absent
        case known(MailboxList?)
        case bytes([UInt8], FileStatus)
    }

    fileprivate static func decoded(_ bytes: [UInt8], _ path: StorePath, _ rules: StoreRules) -> MailboxList? {
        guard !bytes.isEmpty else { return nil }
        // `DatabaseCheck` tells why.
        return try? MailboxList(bytes, kind: rules.engines[.mailboxes], path: path, rules: rules.paths)
    }

    init(_ bytes: [UInt8], kind: DatabaseKind, path: StorePath, rules: PathRules) throws(MalformedBytes) {
        self.path = path
        self.rules = rules
        var otherCount = 0
        var (byName, byID): ([MailboxName: MailboxEntry], [[UInt8]: MailboxEntry]) = ([:], [:])
        try DatabaseImage.forEachEntry(bytes, kind) { (key, value) throws(MalformedBytes) in
            switch try MailboxesDatabase.decode(key: key, value: value, rules: rules) {
            case .name(let name, let entry): byName[name] = entry
            case .uniqueID(let id, let entry): byID[id] = entry
            case .other: otherCount += 1
            }
        }
        (self.byName, self.byID) = (byName, byID)
        isOld = byName.isEmpty && otherCount > 0
    }

    /// Those that have files here.
    var live: [(name: MailboxName, entry: MailboxEntry)] {
        byName.compactMap { name, entry in
            entry.type.hasFiles && entry.partition != nil && entry.server == nil ? (name, entry) : nil
        }
    }

    func uniqueID(of name: MailboxName) -> [UInt8]? { byName[name]?.uniqueID }
    func entry(uniqueID id: [UInt8]) -> MailboxEntry? { byID[id] }

    func place(_ name: MailboxName, _ entry: MailboxEntry) -> MailboxPlace? {
        guard let partition = entry.partition, let path = entry.directory(name: name, rules: rules) else { return nil }
        return MailboxPlace(partition: partition, path: path)
    }

    /// What its two entries for `name` say that contradicts each other. Their times may differ by a second: each is of the
    /// moment it was written (imap/mboxlist.c, mboxlist_entry_cstring).
    func contradiction(_ name: MailboxName, _ entry: MailboxEntry) -> String? {
        guard let id = entry.uniqueID else { return "its entry has no uniqueid" }
        guard let other = byID[id] else { return "no entry for its uniqueid \(text(id))" }
        guard other.name == name else {
            return "the entry for its uniqueid \(text(id)) is of \(other.name.map { "\($0)" } ?? "no mailbox")"
        }
        if other.type != entry.type { return "its two entries differ in type" }
        if other.partition != entry.partition { return "its two entries differ in partition" }
        if other.uidValidity != entry.uidValidity { return "its two entries differ in uidvalidity" }
        if other.createdModseq != entry.createdModseq { return "its two entries differ in createdmodseq" }
        if other.folderModseq != entry.folderModseq { return "its two entries differ in foldermodseq" }
        if other.acl != entry.acl { return "its two entries differ in rights" }
        return nil
    }
}

extension StoreLayout {
    /// All mailboxes that have files here, by the `bytes` of mailboxes.db; nothing if it cannot be read.
    package func mailboxes(namedIn bytes: [UInt8]) -> [(name: MailboxName, header: StorePath, index: StorePath)]? {
        guard let list = MailboxList.decoded(bytes, path(of: .mailboxes), rules) else { return nil }
        return list.live.compactMap { name, entry in
            guard let place = list.place(name, entry), let header = place.file(.header, self),
                let index = place.file(.index, self)
            else { return nil }
            return (name, header, index)
        }
    }
}

func text(_ bytes: some Collection<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

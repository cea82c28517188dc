package import Formats
package import Linux

/// What concerns more than one mailbox: mailboxes.db against directories and headers, quotas against sums.
///
/// Everything is looked at once without a lock. What does not fit may just have been under way; only that is looked at
/// again, when nobody writes it.
struct StoreCheck {
    let check: CyrusCheck
    private var found = CyrusVerdict()

    init(check: CyrusCheck) { self.check = check }

    private var layout: StoreLayout { check.layout }
    private var roots: StoreRoots { check.roots }
    private var rules: PathRules { layout.rules.paths }

    /// Of all that is found.
    private static let findingsMax = 10_000

    mutating func verdict() throws(SystemError) -> CyrusVerdict {
        var databases = DatabaseCheck(check: check)
        try databases.run()
        found = databases.found
        guard let list = try MailboxList.read(check) else {
            let path = layout.path(of: .mailboxes)
            if !found.findings.contains(where: { $0.path == path }), !found.busy.contains(path) {
                found.busy.append(path)
            }
            return found
        }
        guard !list.isOld else { return found }
        var usage = QuotaUsage()
        for (name, entry) in list.live {
            if let problem = try problem(name, entry, list, &usage) { try confirm(name, suspected: problem.path) }
        }
        let places = Set(list.live.compactMap { list.place($0.name, $0.entry) })
        try findOrphans(places)
        try QuotaCheck(check: check).run(usage, databases.quotas, &found)
        found.findings.sort { ($0.path, $0.kind.rawValue) < ($1.path, $1.kind.rawValue) }
        return found
    }

    private mutating func add(_ finding: CyrusFinding) {
        if found.findings.count < Self.findingsMax { found.findings.append(finding) }
    }

    // MARK: entries

    /// What is wrong with a mailbox that mailboxes.db names. What it uses is added to `usage`.
    private func problem(
        _ name: MailboxName, _ entry: MailboxEntry, _ list: MailboxList, _ usage: inout QuotaUsage
    ) throws(SystemError) -> CyrusFinding? {
        func finding(_ kind: CyrusFinding.Kind, _ path: StorePath?, _ why: String) -> CyrusFinding {
            CyrusFinding(kind, path ?? list.path, name, why)
        }
        if let why = list.contradiction(name, entry) { return finding(.disagreement, nil, why) }
        guard let place = list.place(name, entry) else { return finding(.dangling, nil, "no directory can be its") }
        guard let headerPath = place.file(.header, layout) else {
            return finding(.dangling, nil, "partition \(place.partition) is not in imapd.conf")
        }
        guard let bytes = try MailboxView.headerBytes(place, roots) else {
            return finding(.dangling, headerPath.parent, "named in mailboxes.db, and has no cyrus.header")
        }
        // One that cannot be read is the finding of the mailbox's own check.
        guard let header = MailboxView.decoded(bytes).0 else { return nil }
        let index = try MailboxView.index(place, roots, .never).0?.header
        if let index { usage.add(header.quotaRoot, index) }
        guard let why = contradiction(name, entry, place, header, index) else { return nil }
        return finding(.disagreement, headerPath, why)
    }

    private func contradiction(
        _ name: MailboxName, _ entry: MailboxEntry, _ place: MailboxPlace, _ header: MailboxHeader,
        _ index: IndexHeader?
    ) -> String? {
        if let id = header.uniqueID, id != entry.uniqueID {
            return "uniqueid \(text(id)), mailboxes.db has \(text(entry.uniqueID ?? []))"
        }
        // In the legacy layout a rename leaves the name from before.
        if place.isByUniqueID, let own = header.name, own != name.internalName(rules: rules) {
            return "name \(text(own)), mailboxes.db has \(name)"
        }
        if let type = header.type, type != entry.type {
            return "type \(text(type.letters)), mailboxes.db has \(text(entry.type.letters))"
        }
        if header.acl != entry.acl { return "its rights are not those that mailboxes.db has" }
        if let index, entry.uidValidity != 0, index.uidValidity != entry.uidValidity {
            return "uidvalidity \(index.uidValidity), mailboxes.db has \(entry.uidValidity)"
        }
        return nil
    }

    private mutating func confirm(_ name: MailboxName, suspected: StorePath) throws(SystemError) {
        let (check, copy) = (check, self)
        let seen = try check.still([name.userID]) { () throws(SystemError) -> Confirmation? in
            guard let list = try MailboxList.read(check) else { return nil }
            guard let entry = list.byName[name], entry.type.hasFiles, entry.partition != nil, entry.server == nil else {
                return .fine
            }
            var unused = QuotaUsage()
            return try copy.problem(name, entry, list, &unused).map { .wrong($0) } ?? .fine
        }
        switch seen {
        case .wrong(let finding): add(finding)
        case .fine: break
        case nil: found.busy.append(suspected)
        }
    }

    private enum Confirmation {
        case fine
        case wrong(CyrusFinding)
    }

    // MARK: directories

    /// Directories with a cyrus.header that no entry names.
    private mutating func findOrphans(_ known: Set<MailboxPlace>) throws(SystemError) {
        var suspects: [MailboxPlace] = []
        for root in roots.names where RootKind(root).holdsMailboxes {
            let forbidden = try StoreWalk(roots: roots).files(below: StorePath(root: root)) {
                (path) throws(SystemError) in
                guard layout.role(of: path) == .header, let place = MailboxPlace(path.parent, layout: layout),
                    !known.contains(place), place.file(.header, layout) == path
                else { return }
                suspects.append(place)
            }
            found.busy += forbidden
        }
        for place in suspects { try confirm(orphan: place) }
    }

    private mutating func confirm(orphan place: MailboxPlace) throws(SystemError) {
        guard let path = place.file(.header, layout) else { return }
        let header = MailboxView.decoded(try MailboxView.headerBytes(place, roots)).0
        let name = place.name(header, rules)
        let (check, roots) = (check, roots)
        let isOrphan = try check.still([name?.userID]) { () throws(SystemError) -> Bool? in
            guard let list = try MailboxList.read(check) else { return nil }
            guard try roots.status(of: path) != nil else { return false }
            // Removed already, and kept for somebody who still has it open (imap/mailbox.c, mailbox_close).
            let index = try MailboxView.index(place, roots, .never).0?.header
            if index?.options.contains(.deleted) == true { return false }
            return !list.live.contains { list.place($0.name, $0.entry) == place }
        }
        guard let isOrphan else { return found.busy.append(path) }
        if isOrphan { add(CyrusFinding(.orphan, path.parent, name, "mailboxes.db does not name this mailbox")) }
    }
}

/// Goes through the files below a directory that belong to the store.
package struct StoreWalk {
    let roots: StoreRoots

    package init(roots: StoreRoots) { self.roots = roots }

    /// Not into what never travels, nor into other roots. Only one directory's names are held at a time, and of those
    /// only the directories'. Returns the directories that may not be read, which were passed over.
    package func files(
        below directory: StorePath, _ body: (StorePath) throws(SystemError) -> Void
    ) throws(SystemError) -> [StorePath] {
        var directories = [directory]
        var forbidden: [StorePath] = []
        while let directory = directories.popLast() {
            do throws(SystemError) {
                _ = try roots.forEachEntry(of: directory) { (entry) throws(SystemError) in
                    let path = directory.appending(entry.name)
                    let kind = try roots.kind(of: entry, at: path)
                    if kind == .directory, roots.isShipped(path) { directories.append(path) }
                    if kind == .file { try body(path) }
                }
            } catch {
                guard error.errno == .accessDenied else { throw error }
                forbidden.append(directory)
            }
        }
        return forbidden
    }
}

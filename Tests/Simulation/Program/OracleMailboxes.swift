import Formats
import Linux
import Store

// What a state of the replica's store says of mailboxes and messages, as Cyrus understands it.

extension Oracle {
    func checkMailboxes(_ tree: Tree, at place: String) throws {
        let check = CyrusCheck(roots: try StoreRoots(replica.layout), standing: .atRest)
        for directory in Set(tree.keys.filter { $0.name.elementsEqual("cyrus.index".utf8) }.map(\.parent)).sorted() {
            guard try isNamed(directory) else { continue }
            let findings = try check.mailbox(directory).findings.filter(\.kind.isAlarm)
            if let first = findings.first { world.fail("at \(place) Cyrus would find: \(first)") }
            try checkAnnotations(of: directory, at: place)
        }
    }

    /// An index's sum of the mailbox's annotations may be behind annotations.db, as after a crash of Cyrus; never ahead.
    private func checkAnnotations(of directory: StorePath, at place: String) throws {
        let roots = try StoreRoots(replica.layout)
        let index = try IndexImage(try roots.open(directory.appending("cyrus.index")).readAll(max: 1 << 24))
        let sum = Int(index.header.quotaAnnotationsUsed)
        guard sum > 0 else { return }
        let bytes = try roots.open(StorePath(.configuration, "annotations.db")).readAll(max: 1 << 24)
        let key = annotationKey(String(decoding: directory.name, as: UTF8.self))
        let there = try TwoskipDatabase(bytes).value(of: key)?.count ?? 0
        if sum > there { world.fail("at \(place) \(directory) has the sum \(sum) of annotations of \(there) bytes") }
    }

    /// mailboxes.db may be ahead of the mailboxes' headers, as after a crash of Cyrus; never behind, and what it names is there.
    /// A primary that cannot read all of its store may have an alarm of it, and ship the others.
    func checkMailboxList(against tree: Tree, at place: String) throws {
        let roots = try StoreRoots(replica.layout)
        guard tree[Self.mailboxList] != nil, primary.storeFaultCount == 0 else { return }
        let headers = tree.keys.filter { $0.name.elementsEqual("cyrus.header".utf8) }
        let paths = Dictionary(headers.map { (Array($0.parent.name), $0) }, uniquingKeysWith: { first, _ in first })
        for entry in try TwoskipDatabase(try roots.open(Self.mailboxList).readAll(max: 1 << 24)).entries() {
            guard case .uniqueID(let id, let known) = try MailboxesDatabase.decode(key: entry.key, value: entry.value),
                let name = known.name?.internalName()
            else { continue }
            guard let path = paths[id] else {
                return world.fail("at \(place) mailboxes.db names \(known.name!), of which there is no header")
            }
            let header = try MailboxHeader(decoding: try roots.open(path).readAll(max: 1 << 20))
            guard let own = header.name, Self.number(of: own) > Self.number(of: name) else { continue }
            return world.fail(
                "at \(place) mailboxes.db still says \(known.name!) of what is \(MailboxName(internalName: own))")
        }
    }

    private static let mailboxList = StorePath(.configuration, "mailboxes.db")

    private static func number(of name: [UInt8]) -> Int {
        Int(String(decoding: name.reversed().prefix { $0 < UInt8(ascii: ":") }.reversed(), as: UTF8.self)) ?? 0
    }

    /// Whether mailboxes.db names it: one that it does not name yet, or no more, is no mailbox.
    private func isNamed(_ directory: StorePath) throws -> Bool {
        let database = try StoreRoots(replica.layout).open(Self.mailboxList).readAll(max: 1 << 24)
        return database.firstRange(of: Array("I".utf8) + directory.name) != nil
    }

    /// deliver.db knows of no message that is in no index yet.
    func checkDeliveries(in tree: Tree, at place: String) throws {
        let path = StorePath(.configuration, "deliver.db")
        guard tree[path] != nil else { return }
        let bytes = try StoreRoots(replica.layout).open(path).readAll(max: 1 << 24)
        guard let first = try messages.firstUnknown(of: bytes, discarded: world.discarded) else { return }
        world.fail("at \(place) deliver.db knows message \(first), which no mailbox has")
    }
}

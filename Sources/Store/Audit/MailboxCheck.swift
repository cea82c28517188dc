import Digests
import Formats
import Linux

/// One mailbox: what can be said of its files, then its messages one by one.
///
/// Needs four bytes a message, and a piece of the index, of the cache and of one message at a time.
struct MailboxCheck {
    let check: CyrusCheck
    let place: MailboxPlace
    private var found = CyrusVerdict()
    private var uids: [UInt32] = []
    private var name: MailboxName?

    /// Of a mailbox; who has more has lost it.
    private static let findingsMax = 1000
    /// Times that a large index is read anew because it changed meanwhile, before it is read at once.
    private static let attemptsMax = 3

    init(check: CyrusCheck, place: MailboxPlace) {
        self.check = check
        self.place = place
    }

    private var roots: StoreRoots { check.roots }
    private var rules: PathRules { check.layout.rules.paths }

    mutating func verdict(_ messages: CyrusCheck.Messages) throws(SystemError) -> CyrusVerdict {
        do throws(SystemError) {
            guard let owner = try owner() else { return found }
            guard let view = try soundView(owner) else {
                add(busy: .index)
                return found
            }
            if let index = view.index {
                try checkNames(index.header)
                try checkMessages(index, owner, messages)
            }
        } catch {
            // What a disk cannot give, and what nobody would have made, is a property of the store.
            guard [.inputOutput, .symbolicLink, .isDirectory, .fileTooBig].contains(error.errno) else { throw error }
            add(.unreadable, file(.index), "\(error)")
        }
        return found
    }

    // MARK: findings

    private mutating func add(_ kind: CyrusFinding.Kind, _ path: StorePath?, _ why: String) {
        guard found.findings.count < Self.findingsMax, let path else { return }
        found.findings.append(CyrusFinding(kind, path, name, why))
    }

    private mutating func add(busy file: StoreLayout.MetaFile) {
        if let path = self.file(file) { found.busy.append(path) }
    }

    private func file(_ file: StoreLayout.MetaFile) -> StorePath? { place.file(file, check.layout) }

    // MARK: the files

    /// Whose lock covers it: nothing within for shared mailboxes. Nothing at all if there is no mailbox here.
    private mutating func owner() throws(SystemError) -> [UInt8]?? {
        let (header, _) = MailboxView.decoded(try MailboxView.headerBytes(place, roots))
        name = place.name(header, rules)
        if header == nil, let path = file(.header), try roots.status(of: path) == nil {
            guard let index = file(.index), try roots.status(of: index) != nil else { return nil }
        }
        return .some(name?.userID)
    }

    /// The view in which the findings were made, as they are added; nothing if it was written all the time.
    private mutating func soundView(_ owner: [UInt8]?) throws(SystemError) -> MailboxView? {
        for attempt in 0... {
            let reading: IndexFile.Reading = attempt < Self.attemptsMax ? .whenSmall : .nearlyAlways
            let (place, roots) = (place, roots)
            let view = try check.still([owner]) { () throws(SystemError) in
                try MailboxView(place, roots, index: reading)
            }
            guard let view else { return nil }
            let before = (found, uids)
            try judge(view, owner)
            if view.index?.isInMemory ?? true { return view }
            let isCurrent = try check.still([owner]) { () throws(SystemError) in try view.isCurrent(place, roots) }
            if isCurrent == true { return view }
            (found, uids) = before
            if isCurrent == nil || attempt > Self.attemptsMax { return nil }
        }
        return nil
    }

    private mutating func judge(_ view: MailboxView, _ owner: [UInt8]?) throws(SystemError) {
        // Deleted while its owner's lock was waited for.
        if view.headerBytes == nil, view.index == nil, view.indexProblem == nil { return }
        if view.headerBytes == nil { add(.missing, file(.header), "there is none") }
        if let problem = view.headerProblem { add(.unreadable, file(.header), problem) }
        if let problem = view.indexProblem { add(.unreadable, file(.index), problem) }
        guard let index = view.index else {
            if view.indexProblem == nil { add(.missing, file(.index), "there is none") }
            return
        }
        if let expected = index.header.headerFileCRC, expected != 0, let header = view.header,
            header.fileCRC != expected
        {
            add(.checksum, file(.header), "not the one that cyrus.index was written with")
        }
        try judgeIndex(index, view, owner)
    }

    private mutating func judgeIndex(
        _ index: IndexFile, _ view: MailboxView, _ owner: [UInt8]?
    ) throws(SystemError) {
        var audit = IndexAudit(
            header: index.header, userFlags: view.header?.userFlags, findingsMax: Self.findingsMax)
        var caches = CacheJudge(view, generation: index.header.generation, version: index.header.version)
        try caches.begin()
        var uids: [UInt32] = []
        uids.reserveCapacity(min(index.header.recordCount, 1 << 20))
        try index.forEachRecord { (record) throws(SystemError) in
            audit.add(record)
            uids.append(record.uid)
            try caches.judge(record)
        } afterPiece: {
            check.read($0)
        }
        self.uids = uids
        let annotations = try judgeAnnotations(index, view, owner, &audit)
        for finding in audit.finish(annotations: annotations) {
            add(finding.kind, file(.index), "\(finding)")
        }
        for problem in caches.problems {
            add(problem.kind, problem.path ?? file(.cache), problem.why)
        }
    }

    /// Adds the annotations of messages that are there; whether that is all that Cyrus counts.
    private mutating func judgeAnnotations(
        _ index: IndexFile, _ view: MailboxView, _ owner: [UInt8]?, _ audit: inout IndexAudit
    ) throws(SystemError) -> IndexAudit.Annotations {
        guard let bytes = view.annotations else { return .complete }
        let kind = check.layout.rules.engines[.annotations]
        for problem in DatabaseImage.problems(bytes, kind) {
            add(problem.isUnfinished ? .unfinished : .checksum, file(.annotations), problem.why)
            return .unknown
        }
        var hasOwners = false
        var failure: SystemError?
        do throws(MalformedBytes) {
            try DatabaseImage.forEachEntry(bytes, kind) { (key, value) throws(MalformedBytes) in
                guard failure == nil, let annotation = try MessageAnnotation(key: key, value: value) else { return }
                do throws(SystemError) {
                    guard let record = try self.record(annotation.uid, index), !record.isExpunged else { return }
                } catch {
                    failure = error
                    return
                }
                if annotation.user == nil { hasOwners = true }
                audit.add(annotation, owner: owner)
            }
        } catch {
            add(.unreadable, file(.annotations), "\(error)")
            return .unknown
        }
        if let failure { throw failure }
        guard hasOwners, try hasHadOtherOwner(owner) else { return .complete }
        return .unknown
    }

    private func record(_ uid: UInt32, _ index: IndexFile) throws(SystemError) -> IndexRecord? {
        guard let number = uids.firstIndexSorted(of: uid) else { return nil }
        return try index.record(at: number)
    }

    /// A user who was renamed has sums with the former name in them (imap/mailbox.c, crc_annot).
    private func hasHadOtherOwner(_ owner: [UInt8]?) throws(SystemError) -> Bool {
        guard let list = try MailboxList.read(check), let name else { return true }
        guard let id = list.uniqueID(of: name), let entry = list.entry(uniqueID: id) else { return true }
        return entry.formerNames.contains { $0.userID != owner }
    }

    // MARK: messages

    /// Message files that no record is about. One above the last UID is of an append that was given up.
    private mutating func checkNames(_ header: IndexHeader) throws(SystemError) {
        // Before 2.4 expunged messages had an index of their own.
        guard header.version >= 12 else { return }
        let (spool, archive) = (place.messages(.spool, check.layout), place.messages(.archive, check.layout))
        for directory in Set([spool, archive].compactMap(\.self)) {
            var extra: [UInt32] = []
            _ = try roots.forEachEntry(of: directory) { (entry) throws(SystemError) in
                guard let uid = FileRole.messageUID(entry.name[...]), entry.kind != .directory,
                    uid <= header.lastUID, uids.firstIndexSorted(of: uid) == nil, extra.count < Self.findingsMax
                else { return }
                extra.append(uid)
            }
            for uid in extra.sorted() {
                add(.extra, directory.appending("\(uid)."), "no record in cyrus.index is about it")
            }
        }
    }

    private mutating func checkMessages(
        _ index: IndexFile, _ owner: [UInt8]?, _ messages: CyrusCheck.Messages
    ) throws(SystemError) {
        var suspects: [UInt32] = []
        let looker = MessageLooker(check: check, place: place, messages: messages)
        try index.forEachRecord { (record) throws(SystemError) in
            guard record.hasFile, suspects.count < Self.findingsMax else { return }
            if try looker.look(record) != nil { suspects.append(record.uid) }
        }
        for uid in suspects { try confirm(uid, owner, looker) }
    }

    /// Looks again, at what the index says now: the message may have gone the usual way.
    private mutating func confirm(_ uid: UInt32, _ owner: [UInt8]?, _ looker: MessageLooker) throws(SystemError) {
        let (place, roots) = (place, roots)
        let seen = try check.still([owner]) { () throws(SystemError) -> MessageLooker.Seen? in
            guard let index = try MailboxView.index(place, roots, .never).0,
                let record = try index.record(uid: uid), record.hasFile
            else { return .some(.gone) }
            return .some(.opened(record, try looker.open(record)))
        }
        guard let seen else { return add(busy: .index) }
        guard case .opened(let record, let file) = seen, let problem = try looker.problem(record, file) else { return }
        add(problem.kind, looker.path(of: record), problem.why)
    }
}

/// Looks at the file of a message.
struct MessageLooker {
    let check: CyrusCheck
    let place: MailboxPlace
    let messages: CyrusCheck.Messages

    typealias Problem = (kind: CyrusFinding.Kind, why: String)

    /// A message's file, open; a class, for a descriptor cannot be in an enumeration that is copied.
    final class OpenFile {
        let descriptor: Descriptor
        init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    }

    enum Seen {
        case gone
        case opened(IndexRecord, OpenFile?)
    }

    func path(of record: IndexRecord) -> StorePath? {
        place.messages(record.isArchived ? .archive : .spool, check.layout)?.appending("\(record.uid).")
    }

    /// Nothing if there is none; a symbolic link is none.
    func open(_ record: IndexRecord) throws(SystemError) -> OpenFile? {
        do throws(SystemError) {
            guard let path = path(of: record), let file = try check.roots.openIfThere(path) else { return nil }
            return OpenFile(file)
        } catch {
            guard error.errno == .symbolicLink else { throw error }
            return nil
        }
    }

    func look(_ record: IndexRecord) throws(SystemError) -> Problem? { try problem(record, open(record)) }

    /// What a disk cannot give is a problem too.
    func problem(_ record: IndexRecord, _ file: OpenFile?) throws(SystemError) -> Problem? {
        do throws(SystemError) { return try contradiction(record, file) } catch {
            guard error.errno == .inputOutput else { throw error }
            return (.unreadable, "uid \(record.uid): \(error)")
        }
    }

    private func contradiction(_ record: IndexRecord, _ file: OpenFile?) throws(SystemError) -> Problem? {
        guard let file else { return (.missing, "uid \(record.uid): no message file") }
        let status = try file.descriptor.status()
        guard status.kind == .file else { return (.unreadable, "uid \(record.uid): no regular file") }
        guard status.byteCount == Int64(clamping: record.size) else {
            return (.message, "uid \(record.uid): \(status.byteCount) bytes, its index record says \(record.size)")
        }
        guard messages == .contents, let expected = record.guid else { return nil }
        var sum = MessageGUIDSum()
        try file.descriptor.readPieces(of: 64 << 10) { (piece) throws(SystemError) in
            sum.append(piece)
            check.read(piece.count)
        }
        let guid = sum.finish()
        return guid == expected
            ? nil : (.message, "uid \(record.uid): SHA-1 \(guid), its index record says \(expected)")
    }
}

/// The caches of a mailbox, as record after record is asked about.
private struct CacheJudge {
    typealias Problem = (kind: CyrusFinding.Kind, path: StorePath?, why: String)

    private let view: MailboxView
    private let generation: UInt32
    private let version: Int
    private(set) var problems: [Problem] = []
    private var isUncachedTold = false

    private static let problemsMax = 1000

    init(_ view: MailboxView, generation: UInt32, version: Int) {
        self.view = view
        self.generation = generation
        self.version = version
    }

    mutating func begin() throws(SystemError) {
        for cache in [view.cache, view.archiveCache].compactMap(\.self) {
            // An empty one was just made, by a writer that died.
            guard let found = try cache.generation(), found != generation else { continue }
            problems.append((.checksum, cache.path, "generation \(found), the index has \(generation)"))
        }
    }

    mutating func judge(_ record: IndexRecord) throws(SystemError) {
        // Before 2.4 nothing was known of it; of one that is unlinked nothing is read any more.
        guard version >= 12, record.hasFile, record.cacheOffset != 0, problems.count < Self.problemsMax else { return }
        guard let cache = record.isArchived ? view.archiveCache ?? view.cache : view.cache else {
            if !isUncachedTold { problems.append((.uncached, nil, "there is none, and the index refers to it")) }
            isUncachedTold = true
            return
        }
        switch try cache.verdict(on: record) {
        case .none, .sound, .unchecked: break
        case .missing:
            problems.append(
                (.checksum, cache.path, "uid \(record.uid): no whole record at offset \(record.cacheOffset)"))
        case .wrongCRC(let range):
            problems.append(
                (.checksum, cache.path, "uid \(record.uid): checksum mismatch at offset \(range.lowerBound)"))
        }
    }
}

extension IndexFinding {
    fileprivate var kind: CyrusFinding.Kind {
        switch self {
        case .wrongHeaderCRC, .wrongRecordCRC, .wrongSyncCRC: .checksum
        case .truncated: .unreadable
        case .uidNotAscending, .uidAboveLast, .modseqAboveHighest: .order
        case .wrongCount: .count
        case .flagWithoutName: .flag
        }
    }
}

extension [UInt32] {
    /// The place of `value` in ascending numbers, by halving.
    fileprivate func firstIndexSorted(of value: UInt32) -> Int? {
        var (low, high) = (startIndex, endIndex)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low < endIndex && self[low] == value ? low : nil
    }
}

import Delta
import Digests
import Formats
import Linux
import Store

/// Reads what is dirty, as one state: under the lock that keeps its writers out, in the order that makes it whole.
///
/// Nothing is encoded, compressed or sent here, so that the lock is held for no longer than it takes to read.
/// One thread uses it.
final class UnitReader {
    private let roots: StoreRoots
    private let catalogue: Catalogue
    private let shadows: ShadowStore
    private let spare: OwnFiles
    private let alarm: (StorePath, AlarmCause) -> Void
    /// Whether there is one of that path.
    private let isAlarmed: (StorePath) -> Bool
    private let rules: StoreRules
    /// Directories opened during this `read`: while their owner's lock is held nobody moves them.
    private var places: [StorePath: Directory?] = [:]
    /// As of the round.
    var tellsOfUnknown = false
    /// Events do not tell of all messages: those that an index names are looked for, if it has more than 8 MiB, too.
    var looksForMessages = false

    /// So many message files are opened under one lock; more are shipped before, without it.
    static let openMessagesMax = 64
    /// Of so many messages the catalogue is asked one by one; all names of a mailbox cost as much as some dozens.
    private static let askedMax = 64
    /// Records of a larger index are never looked at one by one.
    private static let indexBytesMax = 64 << 20

    init(
        roots: StoreRoots, catalogue: Catalogue, shadows: ShadowStore, spare: OwnFiles,
        alarm: @escaping (StorePath, AlarmCause) -> Void, isAlarmed: @escaping (StorePath) -> Bool
    ) {
        self.roots = roots
        self.isAlarmed = isAlarmed
        self.catalogue = catalogue
        self.shadows = shadows
        self.spare = spare
        self.alarm = alarm
        rules = roots.layout.rules
    }

    /// What came of reading one directory's dirt.
    enum Outcome {
        case read([Captured])
        /// Somebody is writing: to be tried again.
        case busy
        /// So many messages are new that they are to be shipped first, as they need no lock.
        case messagesFirst([StorePath])
    }

    // MARK: - names

    /// The names to look at in a directory, those that are gone included; nothing of what is never shipped. And how many make too
    /// long a path.
    func names(of dirt: DirtySet.Dirt) throws -> (shipped: [[UInt8]], tooLongCount: Int) {
        let wanted: [[UInt8]]
        switch dirt.names {
        case .some(let names):
            wanted = names.sorted { $0.lexicographicallyPrecedes($1) }
        case .all:
            var names = Set(try catalogue.entries(of: dirt.directory).map(\.name))
            for entry in try roots.entries(of: dirt.directory) ?? [] where StorePath.isName(entry.name) {
                names.insert(entry.name)
            }
            wanted = names.sorted { $0.lexicographicallyPrecedes($1) }
        }
        let shipped = wanted.filter { roots.isShipped(dirt.directory.appending($0)) }
        let tooLong =
            shipped.count == wanted.count ? [] : wanted.filter { roots.isTooLong(dirt.directory.appending($0)) }
        return (shipped, tooLong.count)
    }

    // MARK: - reading

    /// Reads `names` of `directory`; the owner's lock is held, if it has an owner.
    ///
    /// `shippedAlready` has messages that this round has shipped before; of the files in `wholly` all bytes are read, as
    /// a seed needs them.
    func read(
        _ directory: StorePath, _ names: Set<[UInt8]>, shippedAlready: Set<StorePath>, wholly: Set<StorePath>
    ) throws -> Outcome {
        places = [:]
        defer { places = [:] }
        var captured: [Captured] = []
        var messages: [StorePath: MessageGUID?] = [:]
        var mutable: [(path: StorePath, role: FileRole)] = []
        for name in names {
            let path = directory.appending(name)
            let role = FileRole(of: path, rules: rules)
            if case .message = role {
                messages[path] = .some(nil)
            } else {
                mutable.append((path, role))
            }
        }
        // The events of one transaction come one by one, and what was busy waits for its turn: the others may not have been
        // read yet. A message that is gone must not go without the index that says so.
        if try mutable.contains(where: { Self.mailboxRoles.contains($0.role) })
            || messages.keys.contains(where: { try status(of: $0) == nil })
        {
            try addMailboxFiles(of: directory, to: &mutable)
        }
        for (path, role) in mutable.sorted(by: { Self.readOrder($0.role) < Self.readOrder($1.role) }) {
            switch try readOrAlarm(path, role, wholly: wholly.contains(path)) {
            case .read(let found, let named):
                captured.append(contentsOf: found)
                for (message, guid) in named { messages[message] = guid }
            case .busy:
                return .busy
            }
        }
        let wanted = messages.filter { !shippedAlready.contains($0.key) }
        var opened: [Captured] = []
        var openCount = 0
        for (path, guid) in wanted {
            let found: Captured?
            do { found = try open(path, guid: guid) } catch let error as SystemError where error.isShortage {
                return .busy
            }
            guard let found else { continue }
            opened.append(found)
            if !found.isGone { openCount += 1 }
            if openCount > Self.openMessagesMax { return .messagesFirst(Array(wanted.keys)) }
        }
        return .read(captured + opened)
    }

    private static let mailboxRoles: [FileRole] = [.index, .header, .cache, .annotations]

    /// Of a mailbox of whose files one changed, all that must agree with it, if they changed too, are gone, or may be right by now.
    private func addMailboxFiles(
        of directory: StorePath, to mutable: inout [(path: StorePath, role: FileRole)]
    ) throws {
        for (name, role) in [
            ("cyrus.index", FileRole.index), ("cyrus.header", .header), ("cyrus.cache", .cache),
            ("cyrus.annotations", .annotations),
        ] {
            for root in roots.names where root == directory.root || RootKind(root) == .metapartition {
                guard let place = StorePath(root: root, path: directory.path) else { continue }
                let path = place.appending(name)
                guard !mutable.contains(where: { $0.path == path }) else { continue }
                let (entry, status) = (try catalogue.entry(path), try status(of: path))
                guard entry != nil || status != nil else { continue }
                if let entry, let status, entry.stillDescribes(status), !isAlarmed(path) { continue }
                mutable.append((path, role))
            }
        }
    }

    /// What refers to others is read before what it refers to.
    private static func readOrder(_ role: FileRole) -> Int {
        switch role {
        case .index: 0
        case .header: 1
        default: 2
        }
    }

    private enum MutableOutcome {
        case read([Captured], named: [StorePath: MessageGUID?])
        case busy
    }

    /// A file that cannot be read is an alarm, and nobody else's concern.
    private func readOrAlarm(_ path: StorePath, _ role: FileRole, wholly: Bool) throws -> MutableOutcome {
        do {
            return try readMutable(path, role, wholly: wholly)
        } catch let error as SystemError {
            alarm(path, .system(error))
            return error.isShortage || error.errno == .busy ? .busy : .read([], named: [:])
        }
    }

    private func readMutable(_ path: StorePath, _ role: FileRole, wholly: Bool) throws -> MutableOutcome {
        guard let place = try place(of: path), let status = try place.status(of: Array(path.name)) else {
            return .read([Captured(path: path, found: .nothing, losesMessages: role == .index)], named: [:])
        }
        switch status.kind {
        case .directory:
            return .read([Captured(path: path, found: .directory(status))], named: [:])
        case .symlink:
            let target = try roots.readLink(path)
            return .read([Captured(path: path, found: .symlink(target: target, status))], named: [:])
        case .other:
            return .read([Captured(path: path, found: .nothing)], named: [:])
        case .file:
            break
        }
        let locked: LockedFile
        do throws(SystemError) {
            guard let opened = try place.openLocked(Array(path.name), Self.locking(role)) else { return .busy }
            locked = opened
        } catch {
            // Replaced or removed between two calls: its own event brings us back.
            if error.errno == .noEntry || error.errno == .symbolicLink { return .busy }
            throw error
        }
        let entry = try catalogue.entry(path)
        let old = try shadows.table(of: path, shippedAs: entry)
        let (version, why): (FileVersion, String?)
        do {
            let isSameFile = entry?.inode == locked.status.inode
            // One that is to be sent whole may be.
            let maybeSameFile = isSameFile || entry?.isUnlikeAny == true
            // An index is looked at record by record, so it is read whole unless it is very large.
            let isWhole = wholly || role == .index && locked.status.byteCount <= Int64(FileVersion.wholeBytesMax)
            version = try FileVersion(
                reading: locked.file, locked.status, old: isWhole ? nil : old,
                appendOnly: role == .cache && isSameFile, copyingTo: spare)
            // A file that is empty and was never shipped is just being made.
            let isBegun = entry?.digest != nil || version.table.byteCount > 0
            why =
                if locked.isHalfWritten { Self.halfWritten } else if isBegun {
                    try poison(path, role, version, old, maybeSameFile)
                } else { nil }
        } catch let error as SystemError where error.errno == .busy {
            return .busy
        }
        if let why {
            alarm(path, .unsound(why))
            if entry?.wasShipped == true { return .read([], named: [:]) }
        }
        var captured = Captured(path: path, found: .file(version, old: old))
        guard role == .index else { return .read([captured], named: [:]) }
        let (named, losesMessages) = try messagesNamed(by: version, of: path, since: old)
        captured.losesMessages = losesMessages ?? (entry != nil && Self.mayHaveLost(version))
        if !wholly { captured.found = .file(version.reduced(since: old), old: old) }
        return .read([captured], named: named)
    }

    private static let halfWritten =
        "its writer died in a transaction; it is shipped again when Cyrus has opened it, which takes that back"

    static func locking(_ role: FileRole) -> FileLocking {
        if role == .index { return .whole }
        switch role.databaseKind {
        case .twoskip, .skiplist: return .whole
        case .sqlite: return .sqlite
        case .flat, .quota, .counters, .plain, nil: return .none
        }
    }

    private func poison(
        _ path: StorePath, _ role: FileRole, _ version: FileVersion, _ old: PageTable?, _ maybeSameFile: Bool
    ) throws -> String? {
        // Even where its answer is not asked for: not while the index is being written.
        let headerCRC = role == .header ? try headerCRC(for: path) : nil
        return try PoisonGate.finding(role, version, since: old, headerCRC: maybeSameFile ? headerCRC : nil) {
            (range) throws(SystemError) in try shadows.bytes(of: path, range)
        }
    }

    /// The bytes of a mutable file that was read; nothing if it is none.
    func bytes(of captured: Captured) throws(SystemError) -> [UInt8]? {
        guard case .file(let version, _) = captured.found else { return nil }
        return try version.bytes(0..<version.table.byteCount) { (range) throws(SystemError) in
            try shadows.bytes(of: captured.path, range)
        }
    }

    /// The cyrus.index of the cyrus.header at `path`, and its directory: in its own root, or in another of its partition.
    private func index(of path: StorePath) throws(SystemError) -> (StorePath, Directory)? {
        let partition = StoreLayout.partition(of: path.root).map { roots.layout.mailboxRoots(partition: $0) } ?? []
        for root in [path.root] + partition.filter({ $0 != path.root }) {
            guard let directory = StorePath(root: root, path: path.parent.path), let place = try place(directory),
                try place.status(of: Self.indexName) != nil
            else { continue }
            return (directory.appending(Self.indexName), place)
        }
        return nil
    }

    /// The CRC of the cyrus.header at `path` as its index has it; nothing where there is no index that says so, and is sound. Throws
    /// `busy` while somebody writes it.
    private func headerCRC(for path: StorePath) throws(SystemError) -> UInt32? {
        guard let (path, place) = try index(of: path) else { return nil }
        guard let locked = try place.openLocked(Self.indexName, .whole) else {
            throw SystemError(call: "lock", path: "\(path)", errno: .busy)
        }
        let head = try locked.file.read(at: 0, count: IndexHeader.byteCountMax)
        guard let header = try? IndexHeader(decoding: head), header.isCRCRight else { return nil }  // its own alarm
        return header.headerFileCRC == 0 ? nil : header.headerFileCRC
    }

    private static let indexName = Array("cyrus.index".utf8)

    // MARK: - places

    private func place(of path: StorePath) throws(SystemError) -> Directory? { try place(path.parent) }

    private func place(_ directory: StorePath) throws(SystemError) -> Directory? {
        if let known = places[directory] { return known }
        let place = try roots.directory(directory)
        places[directory] = .some(place)
        return place
    }

    private func status(of path: StorePath) throws(SystemError) -> FileStatus? {
        path.isRoot ? try roots.status(of: path) : try place(of: path)?.status(of: Array(path.name))
    }

    // MARK: - messages

    /// The message files that the changed records of an index name, and that are not shipped as they are; and whether messages are in it no
    /// more that were, if that can be told.
    private func messagesNamed(
        by version: FileVersion, of path: StorePath, since old: PageTable?
    ) throws -> (named: [StorePath: MessageGUID?], losesMessages: Bool?) {
        let directory = path.parent
        guard let bytes = try recordBytes(version, of: path),
            let index = try? IndexImage(bytes)  // a broken one got past the poison gate as there is no better copy
        else { return ([:], nil) }
        var losesMessages = old.map { bytes.count < $0.byteCount }
        var named: [StorePath: MessageGUID?] = [:]
        let pages = version.table.changedPages(against: old ?? PageTable())
        let partition = StoreLayout.partition(of: directory.root)
        let places = roots.names.filter { root in
            root == directory.root || RootKind(root).holdsMessages && StoreLayout.partition(of: root) == partition
        }
        var changed: [IndexRecord] = []
        var next = 0
        for page in pages {
            let range = page * PageTable.pageBytes..<min((page + 1) * PageTable.pageBytes, bytes.count)
            let records = index.records(coveringBytes: range)
            let fresh = max(next, records.lowerBound)..<max(next, records.upperBound)
            let start = index.offset(ofRecord: fresh.lowerBound)
            let end = min(index.offset(ofRecord: fresh.upperBound), old?.byteCount ?? 0)
            let before = start < end ? try shadows.bytes(of: path, start..<end) : []
            for number in fresh {
                let record = index.record(at: number)
                let at = index.offset(ofRecord: number) - start
                let its = before.dropFirst(at).prefix(record.bytes.count)
                guard !its.elementsEqual(record.bytes) else { continue }
                if record.hasFile { changed.append(record) }
                guard its.count == record.bytes.count else { continue }
                let was = record.replaced(by: its)
                if !was.isExpunged, was.uid != record.uid || record.isExpunged { losesMessages = true }
            }
            next = max(next, records.upperBound)
        }
        // Of many, all rows at once.
        let rows = changed.count > Self.askedMax && places.count == 1 ? try catalogue.names(of: directory) : []
        for record in changed {
            let name = Array("\(record.uid).".utf8)
            guard looksForMessages || !rows.contains(name),
                let (path, status) = try find(name, in: directory, places, isArchived: record.isArchived)
            else { continue }
            // Of another content there is an event, if of any.
            let entry = try catalogue.entry(path)
            let isShipped = entry.map { !looksForMessages || $0.stillDescribes(status, asMessage: true) } ?? false
            if !isShipped { named[path] = .some(record.guid) }
        }
        if looksForMessages {
            for root in places {
                guard let place = StorePath(root: root, path: directory.path) else { continue }
                for path in try messages(in: place, notIn: index) { named[path] = .some(nil) }
            }
        }
        return (named, losesMessages)
    }

    /// Messages that were shipped and have no record with a file any more: they are gone, or about to be.
    private func messages(in directory: StorePath, notIn index: IndexImage) throws -> [StorePath] {
        let names = Set(index.records.lazy.filter(\.hasFile).map { Array("\($0.uid).".utf8) })
        return try catalogue.names(of: directory).subtracting(names).map(directory.appending)
            .filter(roots.layout.isMessage)
    }

    /// Whether messages were ever removed from it, as far as that can be told.
    private static func mayHaveLost(_ version: FileVersion) -> Bool {
        // A broken one got past the poison gate as there is no better copy.
        guard case .whole(let bytes) = version.content, let index = try? IndexImage(bytes) else { return true }
        return index.header.deletedModseq > 0 || index.records.contains(where: \.isExpunged)
    }

    /// Nothing of an index that is too large to be looked at record by record while events tell of its messages.
    private func recordBytes(_ version: FileVersion, of path: StorePath) throws(SystemError) -> [UInt8]? {
        if case .whole(let bytes) = version.content { return bytes }
        guard looksForMessages, version.table.byteCount <= Self.indexBytesMax else { return nil }
        return try version.bytes(0..<version.table.byteCount) { (range) throws(SystemError) in
            try shadows.bytes(of: path, range)
        }
    }

    /// The file in a mailbox's directory, or in its other one in the archive partition, where an archived one is looked for first.
    private func find(
        _ name: [UInt8], in directory: StorePath, _ places: [RootName], isArchived: Bool
    ) throws(SystemError) -> (StorePath, FileStatus)? {
        let others = places.filter { $0 != directory.root }
        for root in isArchived ? others + [directory.root] : [directory.root] + others {
            guard let place = StorePath(root: root, path: directory.path) else { continue }
            let path = place.appending(name)
            if let status = try status(of: path), status.kind == .file { return (path, status) }
        }
        return nil
    }

    /// The same without a lock, when directories may be moved between two calls. Throws a shortage, when the message waits for its index.
    func openAhead(_ path: StorePath) throws -> Captured? {
        places = [:]
        defer { places = [:] }
        return try open(path, guid: nil)
    }

    /// Opens a message if it is not shipped as it is. A record of it is not needed; its name is enough.
    private func open(_ path: StorePath, guid: MessageGUID?) throws -> Captured? {
        let entry = try catalogue.entry(path)
        guard let place = try place(of: path), let status = try place.status(of: Array(path.name)) else {
            return entry == nil && !tellsOfUnknown ? nil : Captured(path: path, found: .nothing)
        }
        guard status.kind == .file else { return nil }
        let isSameMessage = entry?.stillDescribes(status, asMessage: true) == true
        if isSameMessage, entry?.ctimeNanoseconds == status.ctimeNanoseconds, !isAlarmed(path) { return nil }
        do throws(SystemError) {
            let file = try place.open(Array(path.name), for: .reading)
            // Another link, which is no change, or another extended attribute. One that was damaged may have been restored.
            if isSameMessage, !isAlarmed(path), try entry?.has(file.extendedAttributes()) == true { return nil }
            return Captured(
                path: path, found: .message(try OpenMessage(file, guid: guid, replaces: entry?.digest != nil)))
        } catch {
            if error.errno != .noEntry { alarm(path, .system(error)) }
            // Its index must not go without it.
            if error.isShortage { throw error }
            return nil
        }
    }
}

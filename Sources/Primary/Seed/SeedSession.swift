import Delta
import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Store
import Synchronization

/// What seeding needs of the primary.
struct Seeder: Sendable {
    let roots: StoreRoots
    let journal: Journal
    let slots: Slots
    let catalogue: Catalogue
    let inbox: Condition<CaptureInbox>
    /// Whether what is removed from now on would be told.
    let isGrounded: Condition<Bool>
    /// Where everything is in the log that happened before this call; nothing at the end, or when it is not wanted any more.
    let positionNow: @Sendable (_ isWanted: () -> Bool) throws(SystemError) -> Position?
    let now: @Sendable () -> Timestamp
    let log: Logger
}

/// Sends one replica all there is, on a thread of its own; the log from the start of it goes on being kept.
///
/// It begins when the first sweep has made rows of all there is: what is removed after it was sent is told by its row.
///
/// Flow, for each directory, parents first:
///   1. ask the capturer for the files that Cyrus changes, as of one position of the log
///   2. over a copy: send the listing, and go on when the replica has said what it has of it
///   3. send the directory, its links and its messages, read meanwhile; what the replica has already is told by digest
///   4. send the capturer's files, sealed with the position that they are as of
/// Then `seedEnd`, with the position where the copy is consistent. Batches of a seed are in no journal: what is lost is
/// read again. It ends when all is sent, or with the link.
final class SeedSession: Sendable {
    private let parts: Seeder
    private let link: Link
    private let isOverCopy: Bool
    private let flow = Condition(Flow())

    private struct Flow: Sendable {
        var isStopped = false
        /// The directory whose listing was sent last.
        var asked: StorePath?
        var wants: [StorePath: SeedWant] = [:]
        var delivered: [StorePath: SeedDelivery] = [:]
    }

    private struct Stopped: Error {}

    init(_ parts: Seeder, link: Link, isOverCopy: Bool) {
        self.parts = parts
        self.link = link
        self.isOverCopy = isOverCopy
    }

    func start() {
        do throws(SystemError) {
            _ = try Thread.start(name: "seed") { self.run() }
            _ = try Thread.start(name: "seed-count") { self.count() }
        } catch {
            link.refuse(.failed, "\(error)")
        }
    }

    func stop() { flow.update { $0.isStopped = true } }
    /// What was not asked for is nobody's answer.
    func wanted(_ want: SeedWant) { flow.update { if $0.asked == want.directory { $0.wants[want.directory] = want } } }
    func becameWritable() { flow.update { _ in } }

    private func run() {
        do {
            try awaitGround()
            var work = SeedWork()
            for root in parts.roots.names { try send(StorePath(root: root), &work) }
            try flush(&work)
            HeapTrimming.trim()
            let end = try consistentPosition()
            try parts.slots.settle(link.peer.description, after: end)
            link.send(
                .seedEnd(
                    SeedEnd(
                        position: end, fileCount: work.fileCount, byteCount: work.byteCount,
                        manifest: work.manifest.digest)))
            parts.log.info("\(link.peer): seed sent, \(work.fileCount) files, \(work.byteCount) bytes")
        } catch is Stopped {
            parts.log.info("\(link.peer): seed interrupted; it resumes when the replica comes back")
        } catch {
            parts.log.error("\(link.peer): seed failed: \(error)")
            link.refuse(.failed, "seed: \(error)")
        }
    }

    /// Not just where the log is now: what was renamed or removed while the last of it was read may not be captured yet.
    private func consistentPosition() throws -> Position {
        guard let end = try parts.positionNow({ !self.flow.withLock { $0.isStopped } }) else { throw Stopped() }
        return end
    }

    private func awaitGround() throws {
        while !parts.isGrounded.wait(timeout: Self.groundInterval, until: { $0 }) {
            if flow.withLock({ $0.isStopped }) { throw Stopped() }
        }
    }

    private static let groundInterval = Duration.milliseconds(100)

    /// So that the replica can tell how much is left. What cannot be listed is not counted: `run` says so.
    private func count() {
        var count: UInt64 = 0
        for root in parts.roots.names { self.count(StorePath(root: root), &count) }
        if !flow.withLock({ $0.isStopped }) { link.send(.seedPlan(fileCount: count)) }
    }

    private func count(_ directory: StorePath, _ count: inout UInt64) {
        guard !flow.withLock({ $0.isStopped }), parts.roots.isShipped(directory),
            let entries = try? parts.roots.entries(of: directory)  // not listed, not counted
        else { return }
        for entry in entries where StorePath.isName(entry.name) {
            let path = directory.appending(entry.name)
            if entry.kind == .directory {
                self.count(path, &count)
            } else if parts.roots.isShipped(path) {
                count += 1
            }
        }
    }

    // MARK: - a directory

    private func send(_ directory: StorePath, _ work: inout SeedWork) throws {
        guard parts.roots.isShipped(directory), let place = try parts.roots.directory(directory) else { return }
        request(directory)
        let metadata = parts.roots.metadata(try place.descriptor.status())
        if !directory.isRoot { try add(Record(directory, .directory(metadata)), &work) }
        let entries: [Entry]
        do {
            entries = try self.entries(of: directory, place)
        } catch let error as SystemError where Self.isOfTheFile(error) {
            parts.log.error("\(link.peer): seeded without what is in \(directory): \(error)")
            _ = try collect(directory)
            return
        }
        let have = isOverCopy ? try ask(directory, metadata, entries, place, &work) : [:]
        for entry in entries {
            switch entry.role {
            case .symlink(let status):
                let target = try place.readLink(entry.name)
                let record = Record(entry.path, .symlink(parts.roots.metadata(status), target: target))
                try add(record, &work)
            case .message:
                try sendMessage(entry, place, have[entry.name] ?? .nothing, &work)
            case .directory, .changing:
                break
            }
        }
        let delivered = try collect(directory)
        for file in delivered.files.sorted(by: { $0.asOf < $1.asOf }) {
            let have = have[Array(file.path.name)] ?? .nothing
            try sendVersion(file.path, file.version, asOf: file.asOf, have, &work)
        }
        for entry in entries where entry.role == .directory { try send(entry.path, &work) }
    }

    /// What is in a directory, and who sends it.
    private struct Entry {
        enum Role: Equatable {
            case directory
            /// Never changes: read here.
            case message
            case symlink(FileStatus)
            /// Changes, so the capturer reads it.
            case changing
        }

        let path: StorePath
        let name: [UInt8]
        let role: Role
    }

    /// By name; no call for a message but the one that listed it.
    private func entries(of directory: StorePath, _ place: Directory) throws -> [Entry] {
        var found: [Entry] = []
        for entry in try place.entries() where StorePath.isName(entry.name) {
            let path = directory.appending(entry.name)
            guard parts.roots.isShipped(path) else { continue }
            let role: Entry.Role
            switch entry.kind {
            case .directory: role = .directory
            case .file: role = isMessage(path) ? .message : .changing
            case .symlink, .other, nil:
                guard let status = try place.status(of: entry.name) else { continue }
                switch status.kind {
                case .directory: role = .directory
                case .symlink: role = .symlink(status)
                case .file: role = isMessage(path) ? .message : .changing
                case .other: continue
                }
            }
            found.append(Entry(path: path, name: entry.name, role: role))
        }
        return found.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    private func isMessage(_ path: StorePath) -> Bool {
        parts.roots.layout.isMessage(path)
    }

    /// Tells the replica what there is, and returns what it has of it.
    private func ask(
        _ directory: StorePath, _ metadata: Metadata, _ entries: [Entry], _ place: Directory, _ work: inout SeedWork
    ) throws -> [[UInt8]: SeedWant.Have] {
        try flush(&work)
        let listing = SeedListing(
            directory: directory, metadata: metadata,
            entries: try entries.compactMap { entry in
                guard let status = try place.status(of: entry.name) else { return nil }
                return SeedListing.Entry(
                    name: entry.name, isDirectory: status.kind == .directory, byteCount: Int(status.byteCount),
                    digest: nil)
            })
        flow.update { $0.asked = directory }
        link.send(.seedListing(listing))
        let want = flow.take { flow -> SeedWant?? in
            if flow.isStopped { return .some(nil) }
            return flow.wants.removeValue(forKey: directory).map { .some($0) }
        }
        guard let want = want ?? nil else { throw Stopped() }
        return Dictionary(want.items.map { ($0.name, $0.have) }) { first, _ in first }
    }

    // MARK: - files that change

    private func request(_ directory: StorePath) {
        parts.inbox.update { inbox in
            inbox.seedRequests.append(
                SeedRequest(directory: directory) { delivery in
                    self.flow.update { $0.delivered[directory] = delivery }
                })
        }
    }

    private func collect(_ directory: StorePath) throws -> SeedDelivery {
        let delivery = flow.take { flow -> SeedDelivery?? in
            if flow.isStopped { return .some(nil) }
            return flow.delivered.removeValue(forKey: directory).map { .some($0) }
        }
        guard let delivery = delivery ?? nil else { throw Stopped() }
        return delivery
    }

    private func sendVersion(
        _ path: StorePath, _ version: FileVersion, asOf: Position, _ have: SeedWant.Have, _ work: inout SeedWork
    ) throws {
        if asOf != work.asOf {
            try flush(&work)
            work.asOf = asOf
        }
        let (result, byteCount) = (version.table.digest, version.table.byteCount)
        let metadata = parts.roots.metadata(version.status, attributes: version.attributes)
        work.count(path, result, byteCount)
        let read = { (range: Range<Int>) throws(SystemError) -> [UInt8] in
            try version.bytes(range) { (_) throws(SystemError) in
                throw SystemError(call: "read", path: "\(path)", errno: .invalid)
            }
        }
        switch have {
        case .content(result), .signature(result, _):
            return try add(Record(path, .metadata(metadata, result: result)), &work)
        case .signature(let basis, let signature):
            let loaded = try LoadedSignature.load(signature)
            let delta = try RsyncDelta.encode(
                loaded, byteCount: byteCount, deltaBytesMax: min(byteCount / 2, Record.contentBytesMax)
            ) { try read($0) }
            guard let delta else { break }
            let change = Record.Change.delta(
                metadata, basis: basis, result: result, byteCount: byteCount, delta: delta)
            return try add(Record(path, change), &work)
        case .nothing, .content:
            break
        }
        try addWhole(path, metadata, result, byteCount, &work, read)
    }

    // MARK: - messages

    private func sendMessage(
        _ entry: Entry, _ place: Directory, _ have: SeedWant.Have, _ work: inout SeedWork
    ) throws {
        let path = entry.path
        let message: OpenMessage
        let attributes: [ExtendedAttribute]
        let (result, whole): (Digest, [UInt8]?)
        let first: (path: StorePath, digest: Digest)?
        do throws(SystemError) {
            message = try OpenMessage(try place.open(entry.name, for: .reading), guid: nil)
            attributes = try message.file.extendedAttributes()
            first = message.status.linkCount > 1 ? work.links[FileIdentity(message.status)] : nil
            (result, whole) = if let first { (first.digest, nil) } else { try message.content() }
        } catch {
            if error.errno == .noEntry { return }
            guard Self.isOfTheFile(error) else { throw error }
            // An alarm comes of it; the rest is seeded.
            parts.log.error("\(link.peer): seeded without \(path): \(error)")
            return parts.inbox.update { $0.resends.append(path) }
        }
        let status = message.status
        let byteCount = Int(status.byteCount)
        let metadata = parts.roots.metadata(status, attributes: attributes)
        if case .content(let theirs) = have, theirs != result, try wasShipped(path, status, as: theirs) {
            parts.log.error(
                "\(link.peer): \(path) has changed behind Cyrus's back, and stays there as it was: see mailsync verify")
            work.count(path, theirs, byteCount)
            return try add(Record(path, .metadata(metadata, result: theirs)), &work)
        }
        work.count(path, result, byteCount)
        if let first { return try add(Record(path, .link(target: first.path, result: result)), &work) }
        if status.linkCount > 1 { work.links[FileIdentity(status)] = (path, result) }
        if have == .content(result) { return try add(Record(path, .metadata(metadata, result: result)), &work) }
        if let whole {
            return try add(Record(path, .whole(metadata, result: result, bytes: whole)), &work)
        }
        try addWhole(path, metadata, result, byteCount, &work) { (range) throws(SystemError) in
            try message.file.read(at: Int64(range.lowerBound), count: range.count)
        }
    }

    /// Whether that is what was shipped of the file of this `status`: a message never changes, so what it is now is rot.
    private func wasShipped(_ path: StorePath, _ status: FileStatus, as digest: Digest) throws -> Bool {
        guard let row = try parts.catalogue.entry(path), row.digest == digest else { return false }
        return row.stillDescribes(status, asMessage: true)
    }

    /// Whether it says something about one file or directory, which then is left out, and not about this host.
    private static func isOfTheFile(_ error: SystemError) -> Bool {
        error.errno == .accessDenied || error.errno == .inputOutput
    }

    private func addWhole(
        _ path: StorePath, _ metadata: Metadata, _ result: Digest, _ byteCount: Int, _ work: inout SeedWork,
        _ read: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws {
        try RecordEncoder.addWhole(path, metadata, result, byteCount, read) { try add($0, &work) }
    }

    // MARK: - sending

    private func add(_ record: Record, _ work: inout SeedWork) throws {
        work.batch.add(record)
        if work.batch.isFull { try flush(&work) }
    }

    /// Waits for room in the link.
    private func flush(_ work: inout SeedWork) throws {
        guard !work.batch.isEmpty else { return }
        let batch = try work.batch.seal(at: work.asOf, after: .zero, time: parts.now(), kind: .seed)
        work.batch = SeedWork.emptyBatch
        let link = link
        let isOpen = flow.take { flow -> Bool? in
            if flow.isStopped { return false }
            return link.isWritable ? true : nil
        }
        guard isOpen == true else { throw Stopped() }
        if work.heap.isDue(after: batch.bytes.count) { HeapTrimming.trim() }
        link.send([batch])
    }
}

/// Which file it is, for hours: the number of an inode is given to another when its file is gone.
private struct FileIdentity: Hashable {
    let place: LinkLedger.Identity
    let byteCount: Int64
    let mtimeNanoseconds: Int64

    init(_ status: FileStatus) {
        place = status.identity
        (byteCount, mtimeNanoseconds) = (status.byteCount, status.mtimeNanoseconds)
    }
}

/// What a session has in hand.
private struct SeedWork {
    var batch = Self.emptyBatch
    /// What the changing files in `batch` are as of.
    var asOf = Position.zero
    /// Files with several names: where the first was sent.
    var links: [FileIdentity: (path: StorePath, digest: Digest)] = [:]
    var fileCount: UInt64 = 0
    var byteCount: UInt64 = 0
    var manifest = ManifestSum()
    var heap = HeapTrimming()

    private static let batchBytes = 1 << 20
    static var emptyBatch: BatchWriter { BatchWriter(bytesMax: batchBytes, expected: batchBytes + batchBytes / 4) }

    mutating func count(_ path: StorePath, _ digest: Digest, _ bytes: Int) {
        fileCount += 1
        byteCount += UInt64(bytes)
        manifest.add(path, digest)
    }
}

import Delta
import Digests
import Formats
import Linux
import Logging
import ReplicationLog
import Store
import Synchronization

/// The replica's side of a link that carries a seed.
///
/// Flow: hello; batches of records go to workers, listings are answered with what is here already. Links whose file is
/// not here yet wait for the end. At `seedEnd` all is applied, counted against the manifest, flushed, and the log
/// begins where the primary said. Killed at any point, the next attempt finds what is here and asks for the rest.
final class SeedUser: LinkUser {
    enum End: Sendable {
        case seeded(Seeded)
        case closed(String)
        case refused(Refusal, String)
        /// Trying again does not help.
        case lacksRoot(MissingRoot)
    }

    struct Seeded: Sendable {
        /// The log begins after this.
        let start: Position
        let hash: ChainHash
        /// Consistent once applied up to this.
        let consistentAfter: Position
        let versions: SeededVersions
    }

    private struct Queue: Sendable {
        var batches: [SealedBatch] = []
        var batchBytes = 0
        /// How many batches workers have taken, and which of these, by that count, they are at.
        var takenCount = 0
        var atWork: Set<Int> = []
        /// The link is not read until there is room.
        var isPaused = false
        var listings: [SeedListing] = []
        var end: SeedEnd?
        var isStopped = false
        var failure: String?
        var missingRoot: MissingRoot?
    }

    /// What the workers found out.
    private struct Tally: Sendable {
        var versions = SeededVersions()
        var manifest = ManifestSum()
        var fileCount: UInt64 = 0
        var lateLinks: [(path: StorePath, target: StorePath, result: Digest)] = []
    }

    private let hello: Hello
    private let writer: StoreWriter
    private let applier: RecordApplier
    private let layout: StoreLayout
    private let screen: RecordScreen
    private let shared: SharedReplica
    private let log: Logger
    private let queue = Condition(Queue())
    private let tally = Mutex(Tally())
    private let welcome = Mutex<Welcome?>(nil)
    private let refusal = Mutex<(Refusal, String)?>(nil)
    private let heap = Mutex(HeapTrimming())
    private let unflushed: UnflushedSeed
    private let ended: @Sendable (End) -> Void
    /// Called before the first change of the store.
    private let willWrite: @Sendable () throws(SystemError) -> Void

    private static let workerCount = 2
    private static let queuedBytesMax = 12 << 20
    /// A primary waits for the answer to each.
    private static let listingCountMax = 16
    /// Files below this are sent whole rather than by signature.
    private static let signatureBytesMin: Int64 = 16 << 10

    init(
        hello: Hello, writer: StoreWriter, layout: StoreLayout, shared: SharedReplica, log: Logger,
        unflushed: UnflushedSeed,
        willWrite: @escaping @Sendable () throws(SystemError) -> Void, ended: @escaping @Sendable (End) -> Void
    ) {
        self.hello = hello
        self.unflushed = unflushed
        self.willWrite = willWrite
        self.writer = writer
        self.layout = layout
        screen = RecordScreen(layout)
        self.shared = shared
        self.log = log
        self.ended = ended
        applier = RecordApplier(writer, layout: layout, purpose: hello.purpose == .seedOver ? .seedOverCopy : .seed)
    }

    // MARK: - the link

    /// The primary has agreed to seed.
    var isWelcome: Bool { welcome.withLock { $0 != nil } }

    func linkOpened(_ link: Link) { link.send(.hello(hello)) }
    func linkBecameWritable(_ link: Link) {}

    func linkHeartbeat(_ link: Link) {
        link.send(.heartbeat(timeNanoseconds: Timestamp.now().nanoseconds, journaled: .zero))
    }

    func link(_ link: Link, received message: Message) {
        shared.update { $0.lastHeard = .now() }
        switch message {
        case .welcome(let welcome):
            self.welcome.withLock { $0 = welcome }
            start(link)
        case .batch(let bytes):
            take(bytes, from: link)
        case .seedListing(let listing):
            let isTooMany = queue.update { queue in
                queue.listings.append(listing)
                return queue.listings.count > Self.listingCountMax
            }
            if isTooMany { link.refuse(.failed, "listings came that no answer was waited for") }
        case .seedPlan(let fileCount):
            shared.update { $0.seed?.expectedFileCount = fileCount }
        case .seedEnd(let end):
            queue.update { $0.end = end }
        case .heartbeat(_, let journaled):
            shared.update { $0.journaled = max($0.journaled, journaled) }
        case .refuse(let refusal, let text):
            self.refusal.withLock { $0 = (refusal, text) }
            link.close(because: text)
        case .auditReport:
            break
        case .hello, .ack, .resend, .seedWant, .verdict, .auditRequest, .place, .paused:
            link.refuse(.failed, "a primary does not say that in a seed")
        }
    }

    private func take(_ bytes: [UInt8], from link: Link) {
        do throws(MalformedBytes) {
            let batch = try SealedBatch(checking: bytes)
            guard batch.header.kind == .seed else { return link.refuse(.failed, "a batch of the log in a seed") }
            let isTooMuch = queue.update { queue in
                queue.batches.append(batch)
                queue.batchBytes += bytes.count
                let isTooMuch = queue.batchBytes > Self.queuedBytesMax
                if isTooMuch { queue.isPaused = true }
                return isTooMuch
            }
            shared.update { $0.seed?.wireBytes += UInt64(bytes.count) }
            if isTooMuch { link.setReading(paused: true) }
        } catch {
            link.refuse(.failed, "a damaged batch: \(error)")
        }
    }

    func linkClosed(_ link: Link, reason: String) {
        queue.update { $0.isStopped = true }
        if let refusal = refusal.withLock({ $0 }) { return ended(.refused(refusal.0, refusal.1)) }
        if welcome.withLock({ $0 }) == nil { ended(.closed(reason)) } else { closing.withLock { $0 = reason } }
    }
    private let closing = Mutex<String?>(nil)

    // MARK: - workers

    private func start(_ link: Link) {
        do throws(SystemError) {
            _ = try Thread.start(name: "seed") { self.run(link) }
        } catch {
            link.close(because: "\(error)")
            ended(.closed("\(error)"))
        }
    }

    private func run(_ link: Link) {
        do {
            try willWrite()
            var workers: [Worker] = []
            for number in 0..<Self.workerCount {
                workers.append(Worker(try Thread.start(name: "seed-\(number)") { self.work(link) }))
            }
            answerListings(link)
            for worker in workers { worker.join() }
            let state = queue.withLock { $0 }
            guard let end = state.end, state.failure == nil, let welcome = welcome.withLock({ $0 }) else {
                let why = state.failure ?? closing.withLock { $0 } ?? "interrupted"
                link.close(because: why)
                return ended(state.missingRoot.map { .lacksRoot($0) } ?? .closed(why))
            }
            try finish(end, welcome)
            HeapTrimming.trim()
            link.close(because: "seeded")
            let versions = tally.withLock { $0.versions }
            ended(
                .seeded(
                    Seeded(
                        start: welcome.start, hash: welcome.hash, consistentAfter: end.position, versions: versions)))
        } catch {
            link.close(because: "\(error)")
            ended(.closed("\(error)"))
        }
    }

    /// Holds a thread until it is joined.
    private final class Worker {
        private var thread: Thread?
        init(_ thread: consuming Thread) { self.thread = consume thread }
        func join() {
            guard let thread = thread.take() else { return }
            thread.join()
        }
    }

    private func work(_ link: Link) {
        while true {
            let taken = queue.take { queue -> (batch: SealedBatch, number: Int)?? in
                if queue.isStopped && queue.end == nil || queue.failure != nil { return .some(nil) }
                if queue.batches.isEmpty, queue.end != nil { return .some(nil) }
                guard !queue.batches.isEmpty else { return nil }
                let batch = queue.batches.removeFirst()
                queue.batchBytes -= batch.bytes.count
                queue.takenCount += 1
                queue.atWork.insert(queue.takenCount)
                return (batch, queue.takenCount)
            }
            guard let (batch, number) = taken ?? nil else { return }
            do {
                try apply(batch, number)
            } catch {
                fail(error)
            }
            queue.update { _ = $0.atWork.remove(number) }
            if heap.withLock({ $0.isDue(after: batch.bytes.count) }) { HeapTrimming.trim() }
            let hasRoomAgain = queue.withLock { queue in
                guard queue.isPaused, queue.batchBytes < Self.queuedBytesMax / 2 else { return false }
                queue.isPaused = false
                return true
            }
            if hasRoomAgain { link.setReading(paused: false) }
        }
    }

    private func apply(_ batch: SealedBatch, _ number: Int) throws {
        let asOf = batch.position.sequence
        var counted: (files: UInt64, bytes: UInt64) = (0, 0)
        for record in try BatchReader.records(of: batch) {
            try checkRoot(of: record.path)
            // Its parts may be with the other worker.
            if case .assembled = record.change {
                _ = queue.wait { $0.failure != nil || $0.atWork.allSatisfy { $0 >= number } }
            }
            switch try applier.apply(record, at: SequenceNumber(0)) {
            case .applied:
                break
            case .needsWhole(let why):
                guard case .link(let target, let result) = record.change else {
                    throw LinkFailure(why: "\(record.path): \(why)")
                }
                tally.withLock { $0.lateLinks.append((record.path, target, result)) }
            case .refused(let why):
                shared.failed("\(record.path): refused: \(why)")
                log.error("\(record.path): refused: \(why)")
            }
            guard let result = record.result else { continue }
            counted.files += 1
            counted.bytes += record.contentBytes
            let isMessage = layout.isMessage(record.path)
            tally.withLock { tally in
                tally.manifest.add(record.path, result)
                tally.fileCount += 1
                if !isMessage { tally.versions.asOf[record.path] = asOf }
            }
        }
        let files = counted
        shared.update {
            $0.seed?.fileCount += files.files
            $0.seed?.byteCount += files.bytes
        }
    }

    // MARK: - what is here already

    private func answerListings(_ link: Link) {
        while true {
            let listing = queue.take { queue -> SeedListing?? in
                if queue.isStopped || queue.failure != nil || queue.end != nil { return .some(nil) }
                guard !queue.listings.isEmpty else { return nil }
                return queue.listings.removeFirst()
            }
            guard let listing = listing ?? nil else { return }
            do {
                link.send(.seedWant(try answer(listing)))
            } catch {
                fail(error)
            }
        }
    }

    private func fail(_ error: any Error) {
        queue.update { queue in
            queue.failure = queue.failure ?? "\(error)"
            queue.missingRoot = queue.missingRoot ?? error as? MissingRoot
        }
    }

    /// Before anything is done about `path`.
    private func checkRoot(of path: StorePath) throws(MissingRoot) {
        guard layout.root(path.root) != nil else { throw MissingRoot(name: path.root) }
    }

    /// Removes what the primary does not have, and tells what is here of what it has.
    private func answer(_ listing: SeedListing) throws -> SeedWant {
        try checkRoot(of: listing.directory)
        let listed = Dictionary(listing.entries.map { ($0.name, $0) }) { first, _ in first }
        for entry in try writer.entries(of: listing.directory) ?? [] {
            guard StorePath.isName(entry.name) else { continue }
            let path = listing.directory.appending(entry.name)
            guard listed[entry.name] == nil, screen.refusal(of: Record(path, .remove)) == nil else { continue }
            try writer.remove(path, at: SequenceNumber(0))
        }
        var items: [SeedWant.Item] = []
        for entry in listing.entries where !entry.isDirectory {
            items.append(SeedWant.Item(name: entry.name, have: try have(listing.directory.appending(entry.name))))
        }
        return SeedWant(directory: listing.directory, items: items)
    }

    private func have(_ path: StorePath) throws -> SeedWant.Have {
        guard let status = try writer.status(of: path), status.kind == .file, let table = try writer.table(of: path)
        else {
            return .nothing
        }
        if unflushed.isNoted { try writer.rewrite(path) }
        let isMessage = layout.isMessage(path)
        guard !isMessage, status.byteCount >= Self.signatureBytesMin else { return .content(table.digest) }
        let file = try writer.open(path)
        let signature = try Signature.make(byteCount: table.byteCount) {
            try file.read(at: Int64($0.lowerBound), count: $0.count)
        }
        return .signature(table.digest, signature)
    }

    // MARK: - the end

    private func finish(_ end: SeedEnd, _ welcome: Welcome) throws {
        for (path, target, _) in tally.withLock({ $0.lateLinks }) {
            guard try writer.link(path, to: target, at: SequenceNumber(0)) else {
                throw LinkFailure(why: "\(path): \(target), of which it is another name, did not come")
            }
        }
        let (count, manifest) = tally.withLock { ($0.fileCount, $0.manifest.digest) }
        guard count == end.fileCount, manifest == end.manifest else {
            throw LinkFailure(
                why: "the seed is not what was sent: \(count) files of \(end.fileCount), manifest \(manifest) "
                    + "instead of \(end.manifest)")
        }
        do {
            try writer.flush()
        } catch {
            try unflushed.note()
            throw error
        }
        try unflushed.forget()
    }
}

extension Record {
    /// Bytes of the file's content, as far as the record tells.
    var contentBytes: UInt64 {
        switch change {
        case .whole(_, _, let bytes): UInt64(bytes.count)
        case .extents(_, _, _, let byteCount, _), .delta(_, _, _, let byteCount, _), .assembled(_, _, let byteCount):
            UInt64(byteCount)
        case .directory, .part, .link, .symlink, .metadata, .remove, .keep, .check: 0
        }
    }
}

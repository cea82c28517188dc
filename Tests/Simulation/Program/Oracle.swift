import Delta
import Digests
import Formats
import Linux
import Replica
import ReplicationLog
import Store

/// What must be true at every moment, found out without the product's help where that can be.
///
/// Sees every frame that a host sends, and knows by the batches what each position of the log says of the store. Looks at
/// - acks: positions only grow over one link; what was acked as flushed is there after every crash;
/// - batches: one position has one content, for ever; no batch leaves a primary that its journal lacks after a crash;
/// - removals: no more than an operator allowed without having been asked;
/// - the replica's store, whenever its applier says that it is at a position: every file, link and directory of the log
///   there, nothing else, and every mailbox as Cyrus understands it;
/// - the end: both stores are one.
final class Oracle {
    let world: World
    let replica: Host
    let primary: Host
    /// What was sent of the log, by sequence number: all of it by digest, and those that were not followed yet.
    private var sealed: [UInt64: Digest] = [:]
    private var batches: [UInt64: SealedBatch] = [:]
    private(set) var newest = Position.zero
    /// By the replica, as flushed.
    private(set) var acked = Position.zero
    private var ackedOnLink: (number: Int, ack: Ack)?
    /// The copy is one from here on.
    private var consistentAfter: Position?
    /// The store at a position, by the log.
    private var state: (position: Position, tree: Tree)? {
        didSet { if state == nil { messages = StoredMessages() } }
    }
    /// That the copy had when it was looked at last.
    private(set) var messages = StoredMessages()
    /// All contents that the log ever gave a path.
    private var known: [StorePath: Set<Digest>] = [:]
    /// The name that the log made another name of a file from, by that.
    private(set) var linked: [StorePath: StorePath] = [:]
    /// Some file was asked for, and what others say of it may be wrong until it has come.
    private var hasAwaited = false
    /// A write into the replica's store may have failed, or been cut off: then a file may be none of its versions.
    var mayBeTorn = false
    /// What is applied before this is applied again.
    private var replayEnd = Position.zero
    private var isReplicaNew = true
    /// Files of the replica are damaged on purpose: it is not looked at.
    var isBlind = false
    /// Of the positions that the applier tells, one in so many is looked at.
    var looksOneIn = 3
    /// What a replica said of its log on each link, and the jump that it was offered.
    private var saidOnLink: (number: Int, flushed: Position)?
    private var jump: Welcome?
    private(set) var jumpCount = 0
    private(set) var checkCount = 0
    private(set) var batchCount = 0

    typealias Tree = [StorePath: Item]

    enum Item: Equatable {
        case directory
        case file(Digest, mode: UInt16, mtime: Int64)
        case symlink([UInt8])
    }

    init(_ world: World, primary: Host, replica: Host) {
        self.world = world
        self.primary = primary
        self.replica = replica
    }

    // MARK: - frames

    func sent(_ host: Host, _ link: SimulatedLink, _ frame: [UInt8]) {
        guard let message = try? Message(decoding: frame[4...]) else {
            return world.fail("\(host.name) sends nonsense")
        }
        switch message {
        case .batch(let bytes): batch(bytes)
        case .ack(let ack): self.ack(ack, link)
        case .hello(let hello): self.hello(hello, link)
        case .seedEnd(let end):
            world.note("\(host.name): seed ends, consistent at \(end.position)")
            (consistentAfter, state) = (end.position, nil)
        case .welcome(let welcome):
            world.note("\(host.name): welcome after \(welcome.start)")
            if isReplicaNew { acked = welcome.start }
        case .refuse(let refusal, let text): world.note("\(host.name): refuses: \(refusal): \(text)")
        case .resend(let paths):
            hasAwaited = true
            world.note("\(host.name): asks for \(paths.count): \(paths.prefix(3))")
        case .heartbeat, .seedListing, .seedWant, .seedPlan, .verdict, .auditRequest, .auditReport, .place: break
        case .paused(let why): if let why { world.note("\(host.name): tells that it is paused: \(why)") }
        }
    }

    private func batch(_ bytes: [UInt8]) {
        guard let batch = try? SealedBatch(checking: bytes), batch.header.kind == .log else { return }
        let number = batch.position.sequence.number
        let digest = PageTable.digest(of: bytes)
        if let old = sealed[number] {
            if old != digest { world.fail("batch \(batch.position) was another one before: the log forked") }
            return
        }
        sealed[number] = digest
        batches[number] = batch
        newest = max(newest, batch.position)
        batchCount += 1
        // One that cannot be opened is told when it is applied.
        let records = (try? BatchReader.records(of: batch)) ?? []
        for record in records { if case .link(let target, _) = record.change { linked[record.path] = target } }
        world.note("batch \(batch.position): \(records.map(Self.words).joined(separator: ", "))")
    }

    private static func words(_ record: Record) -> String {
        let kind =
            switch record.change {
            case .directory: "directory"
            case .whole: "whole"
            case .extents: "extents"
            case .delta: "delta"
            case .part: "part"
            case .assembled: "assembled"
            case .link(let target, _): "link to \(target):"
            case .symlink: "symlink"
            case .metadata: "metadata"
            case .remove: "remove"
            case .keep: "keep"
            case .check: "check"
            }
        return "\(kind) \(record.path)"
    }

    /// The replica has it: only a welcome to a stream that does not begin where it asked is a jump.
    func taken(_ host: Host, _ link: SimulatedLink, _ message: Message) {
        guard host === replica, case .welcome(let welcome) = message, let saidOnLink,
            saidOnLink.number == link.number, welcome.start > saidOnLink.flushed
        else { return }
        jump = welcome
    }

    private func hello(_ hello: Hello, _ link: SimulatedLink) {
        world.note("\(replica.name): hello \(hello.purpose), flushed \(hello.flushed), applied \(hello.applied)")
        switch hello.purpose {
        case .stream:
            isReplicaNew = false
            saidOnLink = (link.number, hello.flushed)
            if let jump, hello.flushed >= jump.start {
                world.note("\(replica.name): jumped to \(jump.start), consistent at \(jump.consistentAfter)")
                (consistentAfter, state, isSteady) = (jump.consistentAfter, nil, false)
                jumpCount += 1
                // What was jumped over is not applied, so nothing of it is removed.
                removals.through = removals.through.map { max($0, jump.start) }
                removals.count = 0
            }
            jump = nil
            if hello.flushed < acked {
                world.fail("\(acked) was acked as flushed, and the replica has \(hello.flushed)")
            }
            if needsReplayEnd { (replayEnd, needsReplayEnd) = (hello.flushed, false) }
        case .seedEmpty, .seedOver:
            (saidOnLink, jump) = (nil, nil)
            if !isReplicaNew { world.fail("a replica that was seeded wants to be seeded again") }
        case .fence: break
        }
    }

    private var needsReplayEnd = true
    /// What was applied before its start has been applied again: until then an older index may stand beside newer removals.
    private var isSteady = false

    func replicaWillStart() { (needsReplayEnd, isSteady, removals) = (true, false, Removals()) }

    private func ack(_ ack: Ack, _ link: SimulatedLink) {
        if let (number, before) = ackedOnLink, number == link.number {
            if ack.flushed < before.flushed || ack.applied < before.applied || ack.received < before.received {
                world.fail("acks go backwards: \(before), then \(ack)")
            }
        }
        guard ack.applied <= ack.flushed, ack.flushed <= ack.received else { return world.fail("an ack like \(ack)") }
        ackedOnLink = (link.number, ack)
        acked = max(acked, ack.flushed)
        if world.current.name == "apply" { applied(ack.applied) }
    }

    // MARK: - the replica's store

    private func applied(_ position: Position) {
        guard let status = replica.replica?.status, !needsReplayEnd, position >= replayEnd, let start = consistentAfter,
            position >= start
        else { return }
        isSteady = true
        countRemovals(to: position)
        guard !isBlind else { return }
        if status.awaitedCount > 0 { return world.outside { checkAwaited(status.applied) } }
        guard status.applied == position, state == nil || world.isLucky(1, in: looksOneIn) else { return }
        world.outside { check(position) }
    }

    /// What was damaged is mended; the copy is taken for one from here on.
    func seesAgain() { (isBlind, state) = (false, nil) }

    // MARK: - the brake

    private var removals = Removals()

    /// Since the replica started, was told to go on, or jumped over what was trimmed: then its brake counts anew.
    private struct Removals {
        var count = 0
        var through: Position?
        var isReleased = false
    }

    /// What an operator configured, whatever the replica was given.
    var removalLimit: RemovalLimit?
    /// Of the store, at most.
    private var nameCountMax = 0

    func brakeReleased() { removals.isReleased = true }

    private func countRemovals(to position: Position) {
        guard let limit = removalLimit, var at = removals.through, nameCountMax > 0 else {
            removals.through = position
            return
        }
        while at.sequence < position.sequence {
            at = Position(epoch: at.epoch, sequence: at.sequence.next)
            guard let batch = batches[at.sequence.number], let records = try? BatchReader.records(of: batch) else {
                continue
            }
            removals.count += records.count { $0.change == .remove }
            nameCountMax += records.count { $0.change != .remove }
        }
        removals.through = position
        let allowed = max(limit.countMin, Int(limit.shareMax * Double(nameCountMax)))
        guard !removals.isReleased, removals.count > allowed else { return }
        world.fail("\(removals.count) names are removed at \(position), and nobody was asked: \(allowed) may be")
    }

    private func check(_ position: Position) {
        do {
            checkCount += 1
            let found = try Self.tree(replica.layout)
            nameCountMax = max(nameCountMax, found.count)
            if state != nil {
                try advance(to: position)
            } else {
                world.note("\(replica.name): the copy is consistent at \(position), \(found.count) names")
                state = (position, found)
                for (path, item) in found { know(path, item) }
            }
            guard let state else { return }
            if let difference = Self.difference(state.tree, found) {
                return world.fail("at \(position) the replica is not what the log says: \(difference)")
            }
            if world.isLucky(1, in: 3) { try checkMailboxes(found, at: "\(position)") }
            let lost = try messages.look(at: found.keys, in: try StoreRoots(replica.layout), discarded: world.discarded)
            try checkDeliveries(in: found, at: "\(position)")
            if let first = lost.first { return world.fail("at \(position) no mailbox has message \(first) any more") }
            try checkMailboxList(against: found, at: "\(position)")
        } catch {
            world.fail("at \(position): \(error)")
        }
    }

    /// While files are awaited, all others are as the log says, and these are of some version: a change is never made of
    /// what it does not start from.
    private func checkAwaited(_ position: Position) {
        guard !mayBeTorn, replica.startCount == 1, state != nil, jumpCount == 0 else { return }
        do {
            checkCount += 1
            try advance(to: position)
            let found = try Self.tree(replica.layout)
            for (path, item) in found {
                guard case .file(let digest, _, _) = item, known[path]?.contains(digest) != true else { continue }
                return world.fail("at \(position) \(path) is what it never was")
            }
        } catch {
            world.fail("at \(position): \(error)")
        }
    }

    private static let batchesMax = 10_000

    private func know(_ path: StorePath, _ item: Item?) {
        if case .file(let digest, _, _)? = item { known[path, default: []].insert(digest) }
    }

    private func advance(to position: Position) throws {
        guard var (at, tree) = state else { return }
        while at.sequence < position.sequence {
            guard let batch = batches[at.sequence.next.number] else {
                return world.fail("batch \(at.sequence.next) is applied, and was never sent")
            }
            for record in try BatchReader.records(of: batch) {
                Self.apply(record, to: &tree)
                know(record.path, tree[record.path])
            }
            at = batch.position
            // Only those that a replica can be given again are asked for again.
            if batches.count > Self.batchesMax { batches[batch.position.sequence.number] = nil }
        }
        state = (at, tree)
    }

    /// What a record says, and no way of doing it.
    private static func apply(_ record: Record, to tree: inout Tree) {
        func file(_ digest: Digest, _ metadata: Metadata) -> Item {
            .file(digest, mode: Metadata.keptMode(ofFile: metadata.mode), mtime: metadata.mtimeNanoseconds)
        }
        if record.change != .remove {
            // A directory may be told after what is in it.
            var above = record.path.parent
            while !above.isRoot, tree[above] == nil {
                tree[above] = .directory
                above = above.parent
            }
        }
        switch record.change {
        case .directory: tree[record.path] = .directory
        case .whole(let metadata, let result, _), .extents(let metadata, _, let result, _, _),
            .delta(let metadata, _, let result, _, _), .assembled(let metadata, let result, _),
            .metadata(let metadata, let result):
            tree[record.path] = file(result, metadata)
        case .link(let target, _): tree[record.path] = tree[target]
        case .symlink(_, let target): tree[record.path] = .symlink(target)
        case .remove: for path in tree.keys where path.isWithin(record.path) { tree[path] = nil }
        case .part, .keep, .check: break
        }
    }

    /// A store as a crash of the daemon left it, before anything is applied again: no index names a message that is not there.
    func checkAfterKill() {
        guard let consistentAfter, let applied = state?.position, applied >= consistentAfter, !hasAwaited,
            replica.storeFaultCount == 0, isSteady
        else { return }
        world.outside {
            do {
                let tree = try Self.tree(replica.layout)
                let check = CyrusCheck(roots: try StoreRoots(replica.layout), standing: .atRest)
                for directory in Set(tree.keys.filter { $0.name.elementsEqual("cyrus.index".utf8) }.map(\.parent))
                    .sorted()
                {
                    let findings = try check.mailbox(directory, messages: .sizes).findings
                    if let first = findings.first(where: {
                        $0.kind == .missing && $0.path.name.last == UInt8(ascii: ".")
                    }) {
                        world.fail("after a kill an index names what is not there: \(first)")
                    }
                }
            } catch {
                world.fail("after a kill: \(error)")
            }
        }
    }

    /// The copy was one, so it can be promoted.
    var isCopy: Bool { state != nil }

    /// The replica was told to jump over what was trimmed, and may have: then it is no copy until that has come.
    var isJumping: Bool {
        let goals = [jump?.consistentAfter, jumpCount > 0 ? consistentAfter : nil].compactMap(\.self)
        return goals.contains { (ackedOnLink?.ack.applied ?? .zero) < $0 }
    }

    /// What a promotion found applied is all that was acked, and the store is exactly that.
    func checkPromoted(_ end: ReplicaEnd) {
        world.note("promoted at \(end.applied), acked \(acked), awaited \(end.awaited.count)")
        guard end.applied >= acked else { return world.fail("promoted at \(end.applied), and \(acked) was acked") }
        guard end.awaited.isEmpty, isCopy else { return }
        world.outside { check(end.applied) }
    }

    // MARK: - the end

    func checkEqual() {
        world.outside {
            do {
                let (ours, theirs) = (try Self.tree(primary.layout), try Self.tree(replica.layout))
                guard let difference = Self.difference(ours, theirs) else { return }
                world.fail("in the end the replica is not what the primary is: \(difference)")
            } catch {
                world.fail("in the end: \(error)")
            }
        }
    }

    func checkMailboxes() {
        world.outside {
            do {
                try checkMailboxes(try Self.tree(replica.layout), at: "the end")
            } catch {
                world.fail("in the end: \(error)")
            }
        }
    }

    /// And quotas, and every database.
    func checkStore() {
        world.outside {
            do {
                let check = CyrusCheck(roots: try StoreRoots(replica.layout), standing: .atRest)
                if let first = try check.store().findings.first(where: \.kind.isAlarm) {
                    world.fail("in the end Cyrus would find: \(first)")
                }
            } catch {
                world.fail("in the end: \(error)")
            }
        }
    }

    /// All that would be shipped of a store.
    static func tree(_ layout: StoreLayout) throws -> Tree {
        let roots = try StoreRoots(layout)
        var tree: Tree = [:]
        func walk(_ directory: StorePath) throws {
            for entry in try roots.entries(of: directory) ?? [] where StorePath.isName(entry.name) {
                let path = directory.appending(entry.name)
                guard roots.isShipped(path), let status = try roots.status(of: path) else { continue }
                switch status.kind {
                case .directory:
                    tree[path] = .directory
                    try walk(path)
                case .file:
                    let digest = PageTable.digest(of: try roots.open(path).readAll(max: 1 << 28))
                    tree[path] = .file(digest, mode: status.mode, mtime: status.mtimeNanoseconds)
                case .symlink: tree[path] = .symlink(try roots.readLink(path))
                case .other: break
                }
            }
        }
        for root in roots.names { try walk(StorePath(root: root)) }
        return tree
    }

    /// Paths at which two stores are not one.
    static func differences(_ one: StoreLayout, _ other: StoreLayout) throws -> Set<StorePath> {
        let (one, other) = (try tree(one), try tree(other))
        return Set(one.keys).union(other.keys).filter { one[$0] != other[$0] }
    }

    /// In words; nothing if they are equal.
    private static func difference(_ one: Tree, _ other: Tree) -> String? {
        for path in Set(one.keys).union(other.keys).sorted() where one[path] != other[path] {
            func words(_ item: Item?) -> String { item.map { "\($0)" } ?? "nothing" }
            return "\(path): \(words(one[path])) expected, \(words(other[path])) there"
        }
        return nil
    }
}

import Glibc
import Linux
import Seeded

/// What of the files would be there after a power cut: beside each file and directory, which are real ones on a file
/// system of memory, what of it is durable, and what was done since.
///
/// What is promised, as the journaling file systems of Linux keep it:
/// - fdatasync and fsync of a file: its content and length;
/// - fsync of a directory: the names in it, and its own and those of the directories above;
/// - syncfs: everything of the host.
/// What is not, a cut may leave or drop: of a file each sector of 512 bytes for itself, in the order it was written; of
/// names any set of changes in which none is kept that another touched before and that was dropped. A rename is one change.
/// What was written before an fsync that failed stays unsure, whatever fsync says later.
///
/// Times are the simulation's; numbers of inodes are in the order of their making.
final class Disk {
    static let sectorBytes = 512

    /// A file, directory or symbolic link.
    final class Node {
        let number: UInt64
        let kind: FileKind
        unowned let volume: Volume
        /// No power cut takes anything of it.
        let isPermanent: Bool
        /// What a symbolic link holds.
        var target: [CChar] = []
        var names: [String: Node] = [:]
        var durableNames: [String: Node] = [:]
        /// Of a directory.
        weak var parent: Node?
        var durable: [UInt8] = []
        var writes: [Write] = []
        var mtime: Int64 = 0
        var ctime: Int64 = 0
        var mode: mode_t = 0o600

        init(_ number: UInt64, _ kind: FileKind, _ volume: Volume, isPermanent: Bool) {
            self.number = number
            self.kind = kind
            self.volume = volume
            self.isPermanent = isPermanent
        }
    }

    struct Write {
        enum Kind {
            case bytes(offset: Int, [UInt8])
            case length(Int, growsOnly: Bool)
        }

        let kind: Kind
        /// An fsync of it has failed.
        var isDoomed = false

        var range: Range<Int> {
            if case .bytes(let offset, let bytes) = kind { offset..<offset + bytes.count } else { 0..<0 }
        }
    }

    /// Names that change together.
    struct NameChange {
        let entries: [(directory: Node, name: String, node: Node?)]

        func touches(_ other: Set<Entry>) -> Bool { entries.contains { other.contains(Entry($0.directory, $0.name)) } }
    }

    struct Entry: Hashable {
        let directory: UInt64
        let name: String

        init(_ directory: Node, _ name: String) {
            self.directory = directory.number
            self.name = name
        }
    }

    /// What is cut together: a host's.
    final class Volume {
        let path: String
        private(set) lazy var root = Node(rootNumber, .directory, self, isPermanent: false)
        private let rootNumber: UInt64
        var changes: [NameChange] = []
        var unflushed: [UInt64: Node] = [:]
        /// A failure made on purpose: flushes of files whose path contains this are none.
        var unflushable: String?
        /// The same of syncfs.
        var isNeverWholly = false

        init(path: String, rootNumber: UInt64) {
            self.path = path
            self.rootNumber = rootNumber
        }
    }

    var now: () -> Int64 = { 0 }
    private var nodes: [UInt64: Node] = [:]
    private var volumes: [Volume] = []
    private var nextNumber: UInt64 = 1

    // MARK: - what there is

    /// `path` is an empty directory.
    func add(_ path: String) -> Volume {
        let volume = Volume(path: path, rootNumber: newNumber())
        if let found = inode(of: path) { nodes[found] = volume.root }
        volumes.append(volume)
        return volume
    }

    /// Makes `path`, of which no power cut takes anything.
    func addPermanent(_ path: String, to volume: Volume) {
        mkdir(path, 0o700)
        guard let found = inode(of: path) else { return }
        let node = Node(newNumber(), .directory, volume, isPermanent: true)
        let name = String(path.split(separator: "/").last!)
        volume.root.names[name] = node
        volume.root.durableNames[name] = node
        node.parent = volume.root
        nodes[found] = node
    }

    private func newNumber() -> UInt64 {
        defer { nextNumber += 1 }
        return nextNumber
    }

    private func inode(of path: String) -> UInt64? {
        var found = stat()
        return lstat(path, &found) == 0 ? UInt64(found.st_ino) : nil
    }

    private func node(_ raw: CInt) -> Node? {
        var found = stat()
        return fstat(raw, &found) == 0 ? nodes[UInt64(found.st_ino)] : nil
    }

    /// The directory that a call named by `raw`, and by all but the last of a path's names.
    private func directory(_ raw: CInt, _ path: [CChar]) -> (node: Node, name: String)? {
        let text = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard raw == AT_FDCWD else { return node(raw).map { ($0, text) } }
        let parts = text.split(separator: "/")
        guard let name = parts.last, let found = inode(of: "/" + parts.dropLast().joined(separator: "/")),
            let node = nodes[found]
        else { return nil }
        return (node, String(name))
    }

    func path(of node: Node) -> String {
        var names: [String] = []
        var one = node
        while let parent = one.parent {
            names.append(parent.names.first { $0.value === one }?.key ?? "?")
            one = parent
        }
        return node.volume.path + "/" + names.reversed().joined(separator: "/")
    }

    func adjusted(_ status: FileStatus) -> FileStatus {
        guard let node = nodes[status.inode] else { return status }
        return FileStatus(
            device: 1, inode: node.number, kind: status.kind, mode: status.mode, owner: status.owner,
            group: status.group, linkCount: status.linkCount, byteCount: status.byteCount,
            mtimeNanoseconds: node.mtime, ctimeNanoseconds: node.ctime)
    }

    /// As a write through a mapping does.
    func touch(_ path: String) {
        guard let found = inode(of: path), let node = nodes[found] else { return }
        (node.mtime, node.ctime) = (now(), now())
    }

    // MARK: - what is done

    func did(_ done: Simulation.Change) {
        switch done {
        case .opened(let raw, let access):
            if access == .creatingNew || access == .updatingOrCreating { noteNew(raw) }
        case .wrote(let raw, let offset, let bytes):
            guard let node = node(raw) else { return }
            (node.mtime, node.ctime) = (now(), now())
            add(.bytes(offset: Int(offset), Array(bytes)), to: node)
        case .truncated(let raw, let byteCount):
            guard let node = node(raw) else { return }
            (node.mtime, node.ctime) = (now(), now())
            add(.length(Int(byteCount), growsOnly: false), to: node)
        case .allocated(let raw, let byteCount):
            guard let node = node(raw) else { return }
            add(.length(Int(byteCount), growsOnly: true), to: node)
        case .flushed(let raw):
            if let node = node(raw) { flush(node) }
        case .flushedAll(let raw):
            if let node = node(raw), !node.volume.isNeverWholly { flushAll(node.volume) }
        case .setTimes(let raw, let mtime):
            guard let node = node(raw) else { return }
            (node.mtime, node.ctime) = (mtime, now())
        case .setMode(let raw):
            guard let node = node(raw) else { return }
            var found = stat()
            if fstat(raw, &found) == 0 { node.mode = found.st_mode & 0o7777 }
            node.ctime = now()
        case .setTimesOf(let raw, let name, let mtime):
            guard let (parent, name) = directory(raw, name), let node = parent.names[name] else { return }
            (node.mtime, node.ctime) = (mtime, now())
        case .madeDirectory(let raw, let path):
            guard let (parent, name) = directory(raw, path) else { return }
            make(.directory, in: parent, name)
        case .symlinked(let contents, let raw, let path):
            guard let (parent, name) = directory(raw, path) else { return }
            make(.symlink, in: parent, name)?.target = contents
        case .linked(let from, let old, let to, let new):
            guard let (source, oldName) = directory(from, old), let (target, newName) = directory(to, new),
                let node = source.names[oldName]
            else { return }
            node.ctime = now()
            change(target.volume, [(target, newName, node)])
        case .unlinked(let raw, let path):
            guard let (parent, name) = directory(raw, path) else { return }
            parent.names[name]?.ctime = now()
            change(parent.volume, [(parent, name, nil)])
        case .renamed(let from, let old, let to, let new):
            guard let (source, oldName) = directory(from, old), let (target, newName) = directory(to, new),
                let node = source.names[oldName]
            else { return }
            node.ctime = now()
            if node.kind == .directory { node.parent = target }
            change(target.volume, [(source, oldName, nil), (target, newName, node)])
        }
    }

    private func noteNew(_ raw: CInt) {
        var found = stat()
        guard fstat(raw, &found) == 0, nodes[UInt64(found.st_ino)] == nil else { return }
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/fd/\(raw)", &buffer, buffer.count - 1)
        guard count > 0, let (parent, name) = directory(AT_FDCWD, Array(buffer[...count])) else { return }
        make(.file, in: parent, name)
    }

    @discardableResult
    private func make(_ kind: FileKind, in parent: Node, _ name: String) -> Node? {
        var found = stat()
        guard lstat(path(of: parent) + "/" + name, &found) == 0 else { return nil }
        let node = Node(newNumber(), kind, parent.volume, isPermanent: parent.isPermanent)
        node.mode = found.st_mode & 0o7777
        (node.mtime, node.ctime) = (now(), now())
        if kind == .directory { node.parent = parent }
        nodes[UInt64(found.st_ino)] = node
        change(parent.volume, [(parent, name, node)])
        return node
    }

    private func change(_ volume: Volume, _ entries: [(directory: Node, name: String, node: Node?)]) {
        for (directory, name, node) in entries {
            directory.names[name] = node
            (directory.mtime, directory.ctime) = (now(), now())
        }
        let change = NameChange(entries: entries)
        if entries.allSatisfy({ $0.directory.isPermanent }) { return apply(change) }
        volume.changes.append(change)
    }

    private func apply(_ change: NameChange) {
        for (directory, name, node) in change.entries { directory.durableNames[name] = node }
    }

    private func add(_ kind: Write.Kind, to node: Node) {
        guard !node.isPermanent else { return }
        node.writes.append(Write(kind: kind))
        node.volume.unflushed[node.number] = node
    }

    // MARK: - what is made durable

    private func flush(_ node: Node) {
        if let some = node.volume.unflushable, name(of: node).contains(some) { return }
        guard node.kind == .directory else { return flushContent(node) }
        flushNames(of: node)
    }

    /// Only of files in directories that are not renamed: for failures made on purpose.
    private func name(of node: Node) -> String {
        func find(_ directory: Node, _ path: String) -> String? {
            for (name, child) in directory.names {
                if child === node { return path + "/" + name }
                if child.kind == .directory, let found = find(child, path + "/" + name) { return found }
            }
            return nil
        }
        return find(node.volume.root, "") ?? ""
    }

    private func flushContent(_ node: Node) {
        var rest: [Write] = []
        for write in node.writes {
            if write.isDoomed {
                // The length is the inode's, and is written with it.
                if case .bytes = write.kind { rest.append(write) }
            } else {
                // A doomed write below a newer one that is on disk is no more.
                let sectors = Self.sectors(write.range)
                rest.removeAll { Self.sectors($0.range).overlaps(sectors) }
                Self.put(write.kind, into: &node.durable)
            }
        }
        node.writes = rest
        if rest.isEmpty { node.volume.unflushed[node.number] = nil }
    }

    private static func sectors(_ range: Range<Int>) -> Range<Int> {
        range.isEmpty ? 0..<0 : range.lowerBound / sectorBytes..<(range.upperBound - 1) / sectorBytes + 1
    }

    private static func put(_ kind: Write.Kind, into bytes: inout [UInt8]) {
        switch kind {
        case .bytes(let offset, let new):
            if bytes.count < offset + new.count {
                bytes.append(contentsOf: repeatElement(0, count: offset + new.count - bytes.count))
            }
            bytes.replaceSubrange(offset..<offset + new.count, with: new)
        case .length(let count, let growsOnly):
            if bytes.count < count {
                bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
            } else if !growsOnly {
                bytes.removeLast(bytes.count - count)
            }
        }
    }

    /// Of `node` and of those above it, with all that these changes presuppose.
    private func flushNames(of node: Node) {
        var wanted: Set<Entry> = []
        let changes = node.volume.changes
        var isKept = [Bool](repeating: false, count: changes.count)
        var above: [UInt64: Node] = [:]
        var one: Node? = node.parent.map { _ in node }
        while let child = one, let parent = child.parent {
            above[child.number] = child
            one = parent
        }
        for index in changes.indices.reversed() {
            let change = changes[index]
            let isOwn = change.entries.contains {
                $0.directory === node || $0.node.map { above[$0.number] != nil } ?? false
            }
            guard isOwn || change.touches(wanted) else { continue }
            isKept[index] = true
            for entry in change.entries { wanted.insert(Entry(entry.directory, entry.name)) }
        }
        for (index, change) in changes.enumerated() where isKept[index] { apply(change) }
        node.volume.changes = zip(changes, isKept).filter { !$0.1 }.map(\.0)
    }

    private func flushAll(_ volume: Volume) {
        for change in volume.changes { apply(change) }
        volume.changes = []
        for node in volume.unflushed.values { flushContent(node) }
    }

    /// An fsync of this file fails: what was written is in memory, is taken for written, and may be nowhere.
    func failFlush(_ raw: CInt) {
        guard let node = node(raw) else { return }
        for index in node.writes.indices { node.writes[index].isDoomed = true }
    }

    /// The same of syncfs.
    func failFlush(of volume: Volume) {
        for node in volume.unflushed.values {
            for index in node.writes.indices { node.writes[index].isDoomed = true }
        }
    }

    func failFlush(path: String) {
        guard let found = inode(of: path), let node = nodes[found] else { return }
        for index in node.writes.indices { node.writes[index].isDoomed = true }
    }

    // MARK: - power cuts

    /// What a cut leaves of what was not flushed.
    enum Loss: CaseIterable {
        /// As if all had been flushed.
        case nothing
        /// All that was not flushed.
        case all
        /// Names in order up to some moment, as a file system with one journal; of contents any sector.
        case afterSomeTime
        /// Names in any order; of contents any sector.
        case any
    }

    /// The volume is now as a cut leaves it; the real files are made so by `restore`.
    func cut(_ volume: Volume, _ loss: Loss, _ chance: inout SeededGenerator) {
        let changes = volume.changes
        volume.changes = []
        var dropped: Set<Entry> = []
        let end = Int.random(in: 0...changes.count, using: &chance)
        for (index, change) in changes.enumerated() {
            let isKept =
                switch loss {
                case .nothing: true
                case .all: false
                case .afterSomeTime: index < end
                case .any: Int.random(in: 0..<4, using: &chance) > 0 && !change.touches(dropped)
                }
            if isKept {
                apply(change)
            } else {
                for entry in change.entries { dropped.insert(Entry(entry.directory, entry.name)) }
            }
        }
        for node in volume.unflushed.values.sorted(by: { $0.number < $1.number }) { cut(node, loss, &chance) }
        volume.unflushed = [:]
        forgetLive(volume.root)
    }

    private func cut(_ node: Node, _ loss: Loss, _ chance: inout SeededGenerator) {
        defer { node.writes = [] }
        if loss == .all { return }
        var cut: Set<Int> = []
        var bytes = node.durable
        var lengths = [bytes.count]
        for write in node.writes {
            if loss == .nothing, !write.isDoomed {
                Self.put(write.kind, into: &bytes)
            } else if case .bytes(let offset, let new) = write.kind {
                for sector in Self.sectors(write.range) where !cut.contains(sector) {
                    guard Int.random(in: 0..<3, using: &chance) > 0 else {
                        cut.insert(sector)
                        continue
                    }
                    let range =
                        max(
                            offset, sector * Self.sectorBytes)..<min(
                            offset + new.count, (sector + 1) * Self.sectorBytes)
                    Self.put(
                        .bytes(
                            offset: range.lowerBound, Array(new[range.lowerBound - offset..<range.upperBound - offset])),
                        into: &bytes)
                }
            } else if Int.random(in: 0..<2, using: &chance) == 0 {
                Self.put(write.kind, into: &bytes)
            }
            lengths.append(bytes.count)
        }
        if loss != .nothing, Int.random(in: 0..<3, using: &chance) == 0 {
            let length = lengths.randomElement(using: &chance)!
            Self.put(.length(length, growsOnly: false), into: &bytes)
        }
        node.durable = bytes
    }

    private func forgetLive(_ node: Node) {
        node.names = node.durableNames
        for child in node.names.values where child.kind == .directory && !child.isPermanent {
            child.parent = node
            forgetLive(child)
        }
    }

    /// Makes the real files what the volume says; nothing of the host runs.
    func restore(_ volume: Volume) {
        for name in Self.names(in: volume.path) where volume.root.names[name]?.isPermanent != true {
            Self.removeAll(volume.path + "/" + name)
        }
        var made: [UInt64: String] = [:]
        restore(volume.root, at: volume.path, &made)
    }

    private func restore(_ directory: Node, at path: String, _ made: inout [UInt64: String]) {
        for (name, node) in directory.names.sorted(by: { $0.key < $1.key }) where !node.isPermanent {
            let place = path + "/" + name
            switch node.kind {
            case .directory:
                mkdir(place, 0o700)
                restore(node, at: place, &made)
            case .symlink:
                Glibc.symlink(node.target, place)
            case .file, .other:
                if let first = made[node.number] {
                    Glibc.link(first, place)
                    continue
                }
                made[node.number] = place
                Self.write(node.durable, to: place)
                chmod(place, node.mode)
            }
            if let found = inode(of: place) { nodes[found] = node }
        }
    }

    static func write(_ bytes: [UInt8], to path: String) {
        let raw = Glibc.open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o600)
        guard raw >= 0 else { return }
        _ = Glibc.write(raw, bytes, bytes.count)
        Glibc.close(raw)
    }

    static func names(in path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    static func removeAll(_ path: String) {
        if unlink(path) == 0 { return }
        for name in names(in: path) { removeAll(path + "/" + name) }
        rmdir(path)
    }
}

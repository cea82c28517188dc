import Digests
import Formats
import Glibc
import Linux
import Primary
import Seeded
import Store

/// Something that is wrong with a store and that no daemon did, and what an audit has to say of it.
struct Damage {
    let kind: Kind
    var statements: [Judge.Statement]
    /// On the primary: what puts it right, as an operator would.
    var mend: () throws -> Void = {}

    enum Kind: CaseIterable {
        // A replica's file.
        case flippedBit, truncated, written, removed, extraFile, extraDirectory, replaced
        case otherTime, otherMode, splitLink
        // The primary's.
        case rot, unseenWrite

        /// Whether more than contents tells of it.
        var showsInMetadata: Bool { self != .flippedBit && self != .rot }
        var isOfReplica: Bool { self != .rot && self != .unseenWrite }
    }

    func allows(_ statement: Judge.Statement) -> Bool { statements.contains(statement) }

    func due(_ depth: AuditOptions.Depth) -> [Judge.Statement] {
        depth == .metadata && !kind.showsInMetadata ? [] : statements
    }

    func outcome(_ options: AuditOptions) -> AuditFinding.Outcome {
        switch kind {
        case .rot: .found
        case .unseenWrite: .healed
        default: options.repairs ? .healed : .found
        }
    }
}

/// Makes damage, of files that nothing was done to before.
///
/// `@unchecked Sendable` holds because only the thread with the world's baton touches it.
final class Saboteur: @unchecked Sendable {
    private let world: World
    private let primary: Host
    private let replica: Host
    private var touched: Set<StorePath> = []
    private var number = 0

    init(_ world: World, primary: Host, replica: Host) {
        self.world = world
        self.primary = primary
        self.replica = replica
    }

    /// Nothing where there is nothing of the kind.
    func harm(_ kinds: [Damage.Kind]) throws -> Damage? {
        guard let kind = kinds.randomElement(using: &world.chance) else { return nil }
        return try world.outside {
            let damage = try harm(kind)
            world.note("damage: \(kind): \(damage.map { "\($0.statements)" } ?? "none of that kind is there")")
            return damage
        }
    }

    private func harm(_ kind: Damage.Kind) throws -> Damage? {
        number += 1
        let host = kind.isOfReplica ? replica : primary
        let store = try Files(host)
        switch kind {
        case .extraFile, .extraDirectory: return try addExtra(kind, store)
        case .splitLink: return try splitLink(store)
        case .unseenWrite: return try writeUnseen(store)
        case .rot: return try rot(store)
        case .flippedBit, .truncated, .written, .removed, .replaced, .otherTime, .otherMode:
            let whole = store.files.filter { $0.status.byteCount > 0 && (kind != .removed || !isAlone($0, in: store)) }
            guard let file = pick(whole, of: store) else { return nil }
            return try change(kind, file, store)
        }
    }

    /// All that there is in its root: a replica does not start with one that is empty, and is right.
    private func isAlone(_ file: Files.File, in store: Files) -> Bool {
        file.path.parent.isRoot
            && !(store.files.map(\.path) + store.directories).contains {
                $0.root == file.path.root && $0 != file.path && !$0.isRoot
            }
    }

    private func pick(_ files: [Files.File], of store: Files) -> Files.File? {
        let file = files.filter { file in
            !touched.contains(file.path) && store.names(of: file).allSatisfy(hasItsWitness)
        }.randomElement(using: &world.chance)
        if let file { touched.formUnion(store.names(of: file)) }
        return file
    }

    /// A message and the index that vouches for it are not both damaged: then nobody can say which copy is right.
    private func hasItsWitness(_ path: StorePath) -> Bool {
        let isIndex = path.name.elementsEqual("cyrus.index".utf8)
        guard isIndex || primary.layout.isMessage(path) else { return true }
        return !touched.contains {
            $0.parent == path.parent
                && (isIndex ? primary.layout.isMessage($0) : $0.name.elementsEqual("cyrus.index".utf8))
        }
    }

    private func statements(
        _ paths: [StorePath], _ kind: AuditFinding.Kind, _ side: AuditFinding.Side = .replica
    ) -> [Judge.Statement] {
        paths.map { Judge.Statement(path: $0, side: side, kind: kind) }
    }

    // MARK: - at a replica

    private func change(_ kind: Damage.Kind, _ file: Files.File, _ store: Files) throws -> Damage {
        let root = try store.root(file.path)
        let names = store.names(of: file)
        let open = { try root.open(file.path.path, for: .updating) }
        let last = file.status.byteCount - 1
        switch kind {
        case .flippedBit:
            let place = Int64(world.pick(0...Int(last)))
            let byte = try open().read(at: place, count: 1)[0]
            try open().write([byte ^ (1 << UInt8(world.pick(0...7)))], at: place)
            try root.setTimes(of: file.path.path, mtimeNanoseconds: file.status.mtimeNanoseconds)
            return Damage(kind: kind, statements: statements(names, .rot))
        case .truncated:
            try open().truncate(to: Int64(world.pick(0...Int(last))))
            try root.setTimes(of: file.path.path, mtimeNanoseconds: file.status.mtimeNanoseconds)
            return Damage(kind: kind, statements: statements(names, .tampered))
        case .written:
            try open().write(world.chance.bytes(8), at: file.status.byteCount)
            return Damage(kind: kind, statements: statements(names, .tampered))
        case .otherTime:
            try root.setTimes(of: file.path.path, mtimeNanoseconds: file.status.mtimeNanoseconds + 1)
            return Damage(kind: kind, statements: statements(names, .tampered))
        case .otherMode:
            try open().setMode(file.status.mode ^ 0o040)
            return Damage(kind: kind, statements: statements(names, .tampered))
        case .removed:
            try root.unlink(file.path.path)
            return Damage(kind: kind, statements: statements([file.path], .missing))
        case .replaced:
            try root.unlink(file.path.path)
            try root.makeDirectory(file.path.path)
            return Damage(kind: kind, statements: statements([file.path], .tampered))
        case .extraFile, .extraDirectory, .splitLink, .rot, .unseenWrite:
            preconditionFailure("\(kind) is no change of a file")
        }
    }

    private func addExtra(_ kind: Damage.Kind, _ store: Files) throws -> Damage? {
        // Of what is in a directory that should not be there nothing is told but that.
        let sound = store.directories.filter { directory in !touched.contains { directory.isWithin($0) } }
        guard let directory = sound.randomElement(using: &world.chance) else { return nil }
        let path = directory.appending(kind == .extraFile ? "9999\(number)." : "more\(number)")
        let root = try store.root(path)
        if kind == .extraFile {
            try root.open(path.path, for: .creatingNew).write(world.chance.bytes(world.pick(0...100)), at: 0)
        } else {
            try root.makeDirectory(path.path)
        }
        touched.insert(path)
        return Damage(kind: kind, statements: statements([path], .extra))
    }

    /// One name of a message becomes a file of its own that is like the other.
    private func splitLink(_ store: Files) throws -> Damage? {
        let many = store.files.filter { $0.status.linkCount > 1 && $0.path.name.last == UInt8(ascii: ".") }
        guard let file = pick(many.filter { store.names(of: $0).count > 1 }, of: store) else { return nil }
        let root = try store.root(file.path)
        let bytes = try root.open(file.path.path, for: .reading).readAll(max: 1 << 24)
        try root.unlink(file.path.path)
        do {
            let copy = try root.open(file.path.path, for: .creatingNew)
            try copy.write(bytes, at: 0)
            try copy.setMode(file.status.mode)
        }
        try root.setTimes(of: file.path.path, mtimeNanoseconds: file.status.mtimeNanoseconds)
        return Damage(kind: .splitLink, statements: statements([store.names(of: file)[0]], .tampered))
    }

    // MARK: - at the primary

    /// The disk forgets a bit: nobody writes, so no time changes and no event tells.
    private func rot(_ store: Files) throws -> Damage? {
        guard let file = pick(store.files.filter { $0.status.byteCount > 0 }, of: store) else { return nil }
        let path = try store.absolutePath(file.path)
        let place = world.pick(0...Int(file.status.byteCount) - 1)
        let bit = UInt8(1) << UInt8(world.pick(0...7))
        func flip() { Self.change(path, at: place) { $0 ^ bit } }
        flip()
        return Damage(
            kind: .rot, statements: statements(store.names(of: file), .rot, .primary), mend: { flip() })
    }

    /// Through a mapping, of which inotify tells nothing; the file's times change.
    private func writeUnseen(_ store: Files) throws -> Damage? {
        let plain = store.files.filter { $0.path.root == .sieve && $0.status.byteCount > 0 }
        guard let file = pick(plain, of: store) else { return nil }
        let path = try store.absolutePath(file.path)
        Self.change(path, at: 0) { $0 &+ 1 }
        world.disk.touch(path)
        return Damage(kind: .unseenWrite, statements: statements(store.names(of: file), .missed, .primary))
    }

    /// Neither the world nor inotify hears of it.
    private static func change(_ path: String, at place: Int, _ new: (UInt8) -> UInt8) {
        let raw = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard raw >= 0 else { preconditionFailure("\(path) is not there") }
        defer { Glibc.close(raw) }
        guard let memory = mmap(nil, place + 1, PROT_READ | PROT_WRITE, MAP_SHARED, raw, 0), memory != MAP_FAILED else {
            preconditionFailure("\(path) cannot be mapped")
        }
        let byte = memory.assumingMemoryBound(to: UInt8.self) + place
        byte.pointee = new(byte.pointee)
        munmap(memory, place + 1)
    }
}

/// What is in a host's store, to be chosen from.
private struct Files {
    struct File {
        let path: StorePath
        let status: FileStatus
    }

    private(set) var files: [File] = []
    private(set) var directories: [StorePath] = []
    private let layout: StoreLayout

    init(_ host: Host) throws {
        layout = host.layout
        let roots = try StoreRoots(layout)
        for path in try Oracle.tree(layout).keys.sorted() {
            guard let status = try roots.status(of: path) else { continue }
            switch status.kind {
            case .file: files.append(File(path: path, status: status))
            case .directory: directories.append(path)
            case .symlink, .other: continue
            }
        }
    }

    /// Sorted.
    func names(of file: File) -> [StorePath] {
        files.filter { $0.status.inode == file.status.inode }.map(\.path)
    }

    func absolutePath(_ path: StorePath) throws -> String { try StoreRoots(layout).absolutePath(of: path) }

    /// To be written in.
    func root(_ path: StorePath) throws -> Directory {
        guard let root = layout.root(path.root) else { preconditionFailure("no root \(path.root)") }
        return try Directory(root.path)
    }
}

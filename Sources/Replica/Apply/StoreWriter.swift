import Delta
import Digests
import Formats
import Linux
import Store
import Synchronization

/// The only code of the project that changes a mail store.
///
/// Everything is reached beneath a root that is held open, through no symbolic link. What is replaced is made aside, in
/// `.mailsync` of its root, and renamed into place; a new message is made where it belongs, as no index names it yet.
/// What is removed is moved into the quarantine. Nothing is durable before `flush`.
///
/// May be used by several threads, but for one path by one at a time.
final class StoreWriter: Sendable {
    private let layout: StoreLayout
    private let roots: [RootName: Directory]
    private let owner: UInt32
    private let group: UInt32
    private let isRoot = CurrentProcess.effectiveUser == 0
    private let nextName = Atomic<UInt64>(0)
    private let quarantine: Quarantine

    /// In each root, while a replica is at work there.
    private static let own = Array(".mailsync".utf8)
    /// Parts come without gaps; some file systems make holes of zeros.
    private static let holeBytesMax: Int64 = 1 << 30

    /// Makes what is missing of the roots, and empties what an earlier run left half done.
    init(_ layout: StoreLayout, quarantine: Quarantine) throws(SystemError) {
        self.layout = layout
        self.quarantine = quarantine
        var roots: [RootName: Directory] = [:]
        for root in layout.roots { roots[root.name] = try Directory.make(root.path, parents: .cachedBySoleWriter) }
        self.roots = roots
        guard let configuration = roots[.configuration] else { preconditionFailure("a layout without configdirectory") }
        let status = try configuration.descriptor.status()
        (owner, group) = (status.owner, status.group)
        for root in roots.values {
            if try root.makeDirectory(Self.own) == .created, isRoot {
                try root.setOwner(of: Self.own, to: owner, group: group)
            }
            for entry in try root.entries(of: Self.own) {
                let path = Self.own + [slash] + entry.name
                let isPart = entry.name.starts(with: Self.partPrefix)
                let isAwaited = isPart ? try !Self.isForgotten(path, in: root) : false
                if !isAwaited { try root.unlink(path) }
            }
        }
    }

    /// A part that nothing came for in a day: its file was another one by then. If it does come, the file is asked for whole.
    private static func isForgotten(_ part: [UInt8], in root: Directory) throws(SystemError) -> Bool {
        guard let status = try root.status(of: part) else { return false }
        return Timestamp.now() - Timestamp(nanoseconds: status.mtimeNanoseconds) > .seconds(86_400)
    }

    /// Takes our own directories out of the store again; parts that never were assembled stay.
    func leave() throws(SystemError) {
        for root in roots.values {
            do throws(SystemError) {
                try root.removeDirectory(Self.own)
            } catch {
                guard error.errno == .directoryNotEmpty || error.errno == .noEntry else { throw error }
            }
        }
    }

    /// Which directories the roots are.
    var known: KnownRoots { get throws(SystemError) { try KnownRoots(roots) } }

    /// Throws `MovedRoot` if the path of a root leads elsewhere than when this was made.
    func checkPlaces() throws { try layout.checkPlaces(of: roots) }

    private func root(of path: StorePath) throws(SystemError) -> Directory {
        guard let root = roots[path.root] else {
            throw SystemError(call: "open", path: "\(path): this end has no \(path.root)", errno: .noEntry)
        }
        return root
    }

    // MARK: - looking

    func status(of path: StorePath) throws(SystemError) -> FileStatus? { try root(of: path).status(of: path.path) }

    /// Nothing if there is no file.
    func table(of path: StorePath) throws(SystemError) -> PageTable? {
        guard let status = try status(of: path), status.kind == .file else { return nil }
        let file = try root(of: path).open(path.path, for: .reading)
        var table = PageTable()
        try file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in table.append(piece) }
        return table
    }

    func open(_ path: StorePath) throws(SystemError) -> Descriptor { try root(of: path).open(path.path, for: .reading) }

    func entries(of directory: StorePath) throws(SystemError) -> [DirectoryEntry]? {
        do throws(SystemError) {
            return try root(of: directory).entries(of: directory.path)
        } catch {
            guard error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return nil
        }
    }

    /// How many names there are, but for directories.
    func nameCount() throws(SystemError) -> Int {
        var count = 0
        for root in roots.values { count += try nameCount(in: root, []) }
        return count
    }

    /// How many files go with these names, those in directories included. What cannot be looked at counts as one.
    func fileCount(below paths: Set<StorePath>) -> Int {
        paths.reduce(0) { count, path in
            var place = path
            while !place.isRoot {
                place = place.parent
                if paths.contains(place) { return count }
            }
            guard !path.isRoot, let root = roots[path.root] else { return count }
            do throws(SystemError) {
                guard let status = try root.status(of: path.path) else { return count }
                return count + (status.kind == .directory ? try nameCount(in: root, path.path) : 1)
            } catch {
                return count + 1
            }
        }
    }

    private func nameCount(in root: Directory, _ path: [UInt8]) throws(SystemError) -> Int {
        var count = 0
        for entry in try root.entries(of: path) {
            let below = path.isEmpty ? entry.name : path + [slash] + entry.name
            count += try root.kind(of: entry, at: below) == .directory ? nameCount(in: root, below) : 1
        }
        return count
    }

    // MARK: - writing

    func makeDirectory(_ path: StorePath, _ metadata: Metadata, at sequence: SequenceNumber) throws(SystemError) {
        if path.isRoot { return }
        let root = try root(of: path)
        if let there = try root.status(of: path.path), there.kind != .directory { try remove(path, at: sequence) }
        try makeParents(of: path)
        try root.makeDirectory(path.path, mode: metadata.directoryMode)
        let directory = try root.open(path.path, for: .reading)
        try setOwner(of: directory, metadata)
        if try directory.status().mode != metadata.directoryMode { try directory.setMode(metadata.directoryMode) }
    }

    /// What becomes of a file that makes room for another.
    enum Predecessor: Sendable {
        /// An older version of the same; nobody misses it.
        case dropped
        /// Perhaps the only copy of something: into the quarantine.
        case quarantined
    }

    /// Makes a file that is not there yet, in its place: seen half written, and torn by a crash. False if there is
    /// something of that name. For what nobody looks for yet: a message that no index names, any file of a seed.
    func create(_ path: StorePath, _ metadata: Metadata, _ bytes: [UInt8]) throws(SystemError) -> Bool {
        do throws(SystemError) {
            return try make(path, metadata, bytes)
        } catch {
            guard error.call == "openat2", error.errno == .noEntry else { throw error }
            try makeParents(of: path)
            return try make(path, metadata, bytes)
        }
    }

    private func make(_ path: StorePath, _ metadata: Metadata, _ bytes: [UInt8]) throws(SystemError) -> Bool {
        let root = try root(of: path)
        let file: Descriptor
        do throws(SystemError) {
            file = try root.open(path.path, for: .creatingNew, mode: metadata.fileMode)
        } catch {
            guard error.errno == .exists else { throw error }
            return false
        }
        do throws(SystemError) {
            try fill(file, bytes, metadata)
        } catch {
            try? root.unlink(path.path)  // the error that matters is on its way
            throw error
        }
        return true
    }

    private func fill(
        _ file: borrowing Descriptor, _ bytes: [UInt8], _ metadata: Metadata
    ) throws(SystemError) {
        try file.write(bytes, at: 0)
        try setMetadata(of: file, try file.status(), metadata, .ofNewFile)
    }

    /// Puts a file in place, with what `fill` writes into it.
    func replace(
        _ path: StorePath, _ metadata: Metadata, at sequence: SequenceNumber, _ predecessor: Predecessor = .dropped,
        fill: (borrowing Descriptor) throws -> Void
    ) throws {
        let root = try root(of: path)
        let name = newName()
        do {
            let file = try root.open(name, for: .creatingNew, mode: 0o600)
            try fill(file)
            try setMetadata(of: file, metadata)
            try file.close()
            if predecessor == .quarantined { try remove(path, at: sequence) }
            try place(name, at: path, in: root, sequence)
        } catch {
            try? root.unlink(name)  // the error that matters is on its way
            throw error
        }
    }

    /// Writes the bytes that a file has once more, and its length, so that they are flushed. Its times stay.
    func rewrite(_ path: StorePath) throws(SystemError) {
        let file = try root(of: path).open(path.path, for: .updating)
        let status = try file.status()
        try file.copyContent(to: file)
        try file.truncate(to: status.byteCount)
        try file.setTimes(mtimeNanoseconds: status.mtimeNanoseconds)
    }

    /// Writes `extents` over what is there and makes the file `byteCount` long. What is at offset 0 goes last: in Cyrus's
    /// files that is the header, which tells of the rest. `isAgain`: it may have that length already, from a flush that failed.
    func patch(
        _ path: StorePath, _ metadata: Metadata, byteCount: Int, _ extents: [Record.ExtentBytes], isAgain: Bool = false,
        readingBack pages: some Sequence<Int>
    ) throws(SystemError) -> [Int: [UInt8]] {
        let file = try root(of: path).open(path.path, for: .updating)
        for extent in extents where extent.offset != 0 { try file.write(extent.bytes, at: Int64(extent.offset)) }
        let status = try file.status()
        if isAgain || status.byteCount != Int64(byteCount) { try file.truncate(to: Int64(byteCount)) }
        if let first = extents.first, first.offset == 0 { try file.write(first.bytes, at: 0) }
        try setMetadata(of: file, status, metadata)
        var read: [Int: [UInt8]] = [:]
        for page in pages {
            read[page] = try file.read(at: Int64(page * PageTable.pageBytes), count: PageTable.pageBytes)
        }
        return read
    }

    /// Keeps a piece of a content that is to be assembled.
    func writePart(of result: Digest, for path: StorePath, offset: Int, _ bytes: [UInt8]) throws(SystemError) {
        let file = try root(of: path).open(partName(result, path), for: .updatingOrCreating)
        try file.write(bytes, at: Int64(offset))
    }

    /// Puts the parts of `result` in place, if they are that; false if they are not.
    func assemble(
        _ path: StorePath, _ metadata: Metadata, result: Digest, byteCount: Int, at sequence: SequenceNumber,
        _ predecessor: Predecessor = .dropped
    ) throws(SystemError) -> Bool {
        let root = try root(of: path)
        let name = partName(result, path)
        guard try root.status(of: name) != nil else { return false }
        let file = try root.open(name, for: .updating)
        guard try file.status().byteCount >= Int64(byteCount), try file.holeBytes() <= Self.holeBytesMax else {
            try root.unlink(name)
            return false
        }
        try file.truncate(to: Int64(byteCount))
        var table = PageTable()
        try file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in table.append(piece) }
        guard table.digest == result else {
            try root.unlink(name)
            return false
        }
        // Its parts came in batches that are not applied again after a crash.
        try file.flushData()
        try setMetadata(of: file, metadata)
        if predecessor == .quarantined { try remove(path, at: sequence) }
        try place(name, at: path, in: root, sequence)
        return true
    }

    /// Gives the file at `target` another name, or a copy where that cannot be: the two may be on one file system on the primary and on
    /// two here, or a file may have fewer names here. False if there is no such file.
    func link(_ path: StorePath, to target: StorePath, at sequence: SequenceNumber) throws -> Bool {
        do throws(SystemError) {
            return try linkOnly(path, to: target, at: sequence)
        } catch {
            guard error.call == "linkat", error.errno == .crossDevice || error.errno == .tooManyLinks else {
                throw error
            }
        }
        let source = try open(target)
        try replace(path, try metadata(of: source), at: sequence, .quarantined) { try source.copyContent(to: $0) }
        return true
    }

    /// Whether one can be another name of a file of the other.
    func areOnOneFileSystem(_ one: StorePath, _ other: StorePath) throws(SystemError) -> Bool {
        try root(of: one).descriptor.status().device == root(of: other).descriptor.status().device
    }

    private func metadata(of file: borrowing Descriptor) throws(SystemError) -> Metadata {
        let status = try file.status()
        return Metadata(
            mode: status.mode & 0o777, mtimeNanoseconds: status.mtimeNanoseconds,
            owner: status.owner == owner ? nil : status.owner, group: status.group == group ? nil : status.group,
            attributes: try file.extendedAttributes().map { Metadata.Attribute(name: $0.name, value: $0.value) })
    }

    private func linkOnly(
        _ path: StorePath, to target: StorePath, at sequence: SequenceNumber
    ) throws(SystemError) -> Bool {
        let (root, targetRoot) = (try root(of: path), try root(of: target))
        guard let there = try targetRoot.status(of: target.path), there.kind == .file else { return false }
        guard let here = try root.status(of: path.path) else {
            do throws(SystemError) {
                try targetRoot.link(target.path, to: path.path, in: root)
            } catch {
                guard error.errno == .noEntry else { throw error }
                try makeParents(of: path)
                try targetRoot.link(target.path, to: path.path, in: root)
            }
            return true
        }
        if here.inode == there.inode, here.device == there.device { return true }
        // A copy, as it was made before.
        if here.device != there.device, here.kind == .file, try table(of: path) == table(of: target) {
            try setMetadata(of: try root.open(path.path, for: .reading), try metadata(of: try open(target)))
            return true
        }
        try remove(path, at: sequence)
        let name = newName()
        try targetRoot.link(target.path, to: name, in: root)
        try place(name, at: path, in: root, sequence)
        return true
    }

    func symlink(
        _ path: StorePath, _ metadata: Metadata, target: [UInt8], at sequence: SequenceNumber
    ) throws(SystemError) {
        let root = try root(of: path)
        let name = newName()
        try root.symlink(target, at: name)
        if isRoot { try root.setOwner(of: name, to: metadata.owner ?? owner, group: metadata.group ?? group) }
        try root.setTimes(of: name, mtimeNanoseconds: metadata.mtimeNanoseconds)
        try place(name, at: path, in: root, sequence)
    }

    /// False if there is no such file.
    func setMetadata(_ path: StorePath, _ metadata: Metadata) throws(SystemError) -> Bool {
        guard let there = try status(of: path), there.kind == .file else { return false }
        try setMetadata(of: try root(of: path).open(path.path, for: .reading), metadata)
        return true
    }

    /// Moves what is there into the quarantine; nothing happens if there is nothing.
    func remove(_ path: StorePath, at sequence: SequenceNumber) throws(SystemError) {
        let root = try root(of: path)
        guard !path.isRoot, let status = try root.status(of: path.path) else { return }
        try quarantine.take(path, status, from: root, at: sequence)
        root.forgetCached(within: path.path)
    }

    /// What is at `path` is in the quarantine as well then; only files and links, as directories are not replaced.
    func keep(_ path: StorePath, at sequence: SequenceNumber) throws(SystemError) {
        let root = try root(of: path)
        guard !path.isRoot, let status = try root.status(of: path.path), status.kind != .directory else { return }
        try quarantine.keep(path, status, from: root, at: sequence)
    }

    /// On return everything written is on disk (syncfs, once for each root), and what was removed is in the quarantine on its disk.
    func flush() throws(SystemError) {
        try quarantine.flush()
        for root in roots.values { try root.descriptor.syncFileSystem() }
    }

    // MARK: - pieces

    private func newName() -> [UInt8] {
        Self.own + Array("/new-\(nextName.wrappingAdd(1, ordering: .relaxed).newValue)".utf8)
    }

    /// Two files of one content may be on their way at once.
    private func partName(_ result: Digest, _ path: StorePath) -> [UInt8] {
        Self.own + [slash] + Self.partPrefix + Array("\(result)-\(Digest(of: path.path))".utf8)
    }
    private static let partPrefix = Array("part-".utf8)

    private func place(
        _ name: [UInt8], at path: StorePath, in root: Directory, _ sequence: SequenceNumber
    ) throws(SystemError) {
        do throws(SystemError) {
            try root.rename(name, to: path.path)
        } catch {
            switch error.errno {
            case .noEntry, .notDirectory: try makeParents(of: path)
            case .isDirectory, .directoryNotEmpty, .exists: try remove(path, at: sequence)
            default: throw error
            }
            try root.rename(name, to: path.path)
        }
    }

    /// The log tells of directories before what is in them; this is for what came before its directory's record.
    private func makeParents(of path: StorePath) throws(SystemError) {
        try makeParents(ofPath: path.path, in: try root(of: path))
    }

    private func makeParents(ofPath path: [UInt8], in root: Directory) throws(SystemError) {
        guard let cut = path.lastIndex(of: slash) else { return }
        let parent = Array(path[..<cut])
        if let there = try root.status(of: parent), there.kind == .directory { return }
        try makeParents(ofPath: parent, in: root)
        if try root.makeDirectory(parent, mode: 0o700) == .created, isRoot {
            try root.setOwner(of: parent, to: owner, group: group)
        }
    }

    private func setMetadata(of file: borrowing Descriptor, _ metadata: Metadata) throws(SystemError) {
        try setMetadata(of: file, try file.status(), metadata)
    }

    /// Whether a file may have extended attributes that it is not to have.
    private enum Attributes { case ofAnyFile, ofNewFile }

    /// `status`: what the file is now, but for its size and times.
    private func setMetadata(
        of file: borrowing Descriptor, _ status: FileStatus, _ metadata: Metadata, _ old: Attributes = .ofAnyFile
    ) throws(SystemError) {
        try setOwner(of: file, metadata)
        if status.mode != metadata.fileMode { try file.setMode(metadata.fileMode) }
        let attributes = metadata.attributes.filter(\.isHarmless)
        let hasOld = old == .ofAnyFile ? try !file.extendedAttributes().isEmpty : false
        if hasOld || !attributes.isEmpty {
            _ = try file.setExtendedAttributes(attributes.map { ExtendedAttribute(name: $0.name, value: $0.value) })
        }
        try file.setTimes(mtimeNanoseconds: metadata.mtimeNanoseconds)
    }

    /// Only root can give a file away; to anybody else all files are the store's own.
    private func setOwner(of file: borrowing Descriptor, _ metadata: Metadata) throws(SystemError) {
        guard isRoot else { return }
        try file.setOwner(metadata.owner ?? owner, group: metadata.group ?? group)
    }

    private var slash: UInt8 { UInt8(ascii: "/") }
}

extension Metadata {
    /// No mail runs: a file that would run as its owner, whatever the primary says, is a way in.
    fileprivate var fileMode: UInt16 { Metadata.keptMode(ofFile: mode) }
    /// One that shuts its owner out would shut us out, and the seed would fail for it.
    fileprivate var directoryMode: UInt16 { Metadata.keptMode(ofDirectory: mode) }
}

extension Metadata.Attribute {
    /// Labels and what users wrote; no ACLs, which change who may, and no capabilities, which change what.
    fileprivate var isHarmless: Bool {
        name.starts(with: "user.".utf8)
            || name.starts(with: "security.".utf8) && !name.elementsEqual("security.capability".utf8)
    }
}

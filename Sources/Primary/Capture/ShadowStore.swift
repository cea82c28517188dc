import Delta
import Digests
import Formats
import Linux

/// Our own copy of every mutable file, as it was last shipped: the basis of the next delta, to the byte.
///
/// Cyrus rewrites a few hundred bytes of an index, a cache or a database at a time. Against a copy those bytes are
/// found exactly and without asking the replica; hashes alone would tell them to the block. The copies cost about as
/// much disk as the indexes, caches and databases do, one part in ten of a usual store.
///
/// A shadow is believed only while its digest is the one that the catalogue has for the path. Nothing here is flushed:
/// a shadow that a crash tore has another digest, and its file is shipped whole once.
///
/// One thread uses it.
final class ShadowStore {
    private let files: Directory
    /// Tables of the shadows used lately.
    private var tables: [StorePath: Known] = [:]
    private var tableBytes = 0
    private var uses: UInt64 = 0
    /// Shadows used lately, open.
    private var opened: [StorePath: OwnFile] = [:]

    /// Those that the disk does not give.
    private var unreadable: Set<StorePath> = []

    private struct Known {
        var table: PageTable
        var lastUse: UInt64
    }

    /// A file below this has no shadow: it is shipped whole.
    static let fileBytesMin = 1024
    private static let tableBytesMax = 6 << 20
    private static let openedMax = 128

    init(_ directory: String) throws(SystemError) {
        files = try Directory.make(directory)
    }

    /// The table of the shadow of `path`, if there is one and its content is what was shipped.
    func table(of path: StorePath, shippedAs entry: CatalogueEntry?) throws(SystemError) -> PageTable? {
        guard let entry, entry.isUnlikeAny || entry.byteCount >= Self.fileBytesMin else { return nil }
        return try table(of: path, expected: entry.digest)
    }

    /// The table of the shadow of `path`, if there is one and its content is `expected`.
    func table(of path: StorePath, expected: Digest?) throws(SystemError) -> PageTable? {
        guard let expected, !unreadable.contains(path) else { return nil }
        if let known = tables[path] {
            guard known.table.digest == expected else { return nil }
            remember(path, known.table)
            return known.table
        }
        var table = PageTable()
        do throws(SystemError) {
            guard let shadow = try find(path) else { return nil }
            try shadow.file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in table.append(piece) }
        } catch {
            // One that the disk does not give is none: the file is shipped whole.
            guard error.errno == .inputOutput else { throw error }
            return nil
        }
        guard table.digest == expected else { return nil }
        remember(path, table)
        return table
    }

    /// Bytes of the shadow, which `table(of:expected:)` just told to be there. `Errno.busy` if the disk does not give them:
    /// it counts for none then, so that the next try does without.
    func bytes(of path: StorePath, _ range: Range<Int>) throws(SystemError) -> [UInt8] {
        do throws(SystemError) {
            return try read(path, range)
        } catch {
            guard error.errno == .inputOutput else { throw error }
            unreadable.insert(path)
            throw SystemError(call: error.call, path: error.path, errno: .busy)
        }
    }

    private func read(_ path: StorePath, _ range: Range<Int>) throws(SystemError) -> [UInt8] {
        guard let shadow = try find(path) else {
            throw SystemError(call: "open", path: "shadow of \(path)", errno: .noEntry)
        }
        return try shadow.file.read(at: Int64(range.lowerBound), count: range.count)
    }

    /// Makes the shadow of `path` what `version` is, which was shipped; `old` is what the shadow is now, if that is known.
    func update(_ path: StorePath, to version: FileVersion, from old: PageTable?) throws(SystemError) {
        // Written anew, in other blocks perhaps.
        if unreadable.contains(path) { try remove(path) }
        let shadow = try findOrMake(path)
        let table = version.table
        let pages = table.changedPages(against: old ?? PageTable())
        for run in Self.runs(of: pages) {
            let range =
                run.lowerBound * PageTable.pageBytes..<min(run.upperBound * PageTable.pageBytes, table.byteCount)
            let bytes = try version.bytes(range) { (_) throws(SystemError) in
                throw SystemError(call: "read", path: "shadow of \(path)", errno: .invalid)
            }
            try shadow.file.write(bytes, at: Int64(range.lowerBound))
        }
        if old.map({ $0.byteCount > table.byteCount }) ?? true { try shadow.file.truncate(to: Int64(table.byteCount)) }
        remember(path, table)
    }

    /// Neighbouring pages as ranges, of at most 1 MiB.
    private static func runs(of pages: [Int]) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        for page in pages {
            if let last = runs.last, last.upperBound == page, last.count < 256 {
                runs[runs.count - 1] = last.lowerBound..<page + 1
            } else {
                runs.append(page..<page + 1)
            }
        }
        return runs
    }

    func remove(_ path: StorePath) throws(SystemError) {
        forget(path)
        opened[path] = nil
        do throws(SystemError) {
            try files.unlink(name(of: path))
        } catch {
            guard error.errno == .noEntry else { throw error }
        }
        unreadable.remove(path)
    }

    // MARK: - files

    /// Nothing if there is none.
    private func find(_ path: StorePath) throws(SystemError) -> OwnFile? {
        if let known = opened[path] { return known }
        do throws(SystemError) {
            return keep(try files.open(name(of: path), for: .updating), for: path)
        } catch {
            guard error.errno == .noEntry else { throw error }
            return nil
        }
    }

    private func findOrMake(_ path: StorePath) throws(SystemError) -> OwnFile {
        if let found = try find(path) { return found }
        let name = name(of: path)
        _ = try files.makeDirectory(Array(name.prefix(2)))
        return keep(try files.open(name, for: .updatingOrCreating), for: path)
    }

    private func keep(_ file: consuming Descriptor, for path: StorePath) -> OwnFile {
        if opened.count >= Self.openedMax { opened = [:] }
        let file = OwnFile(file)
        opened[path] = file
        return file
    }

    /// `ab/ab…`: by digest of the path, in 256 directories.
    private func name(of path: StorePath) -> [UInt8] {
        let digest = Digest(of: Array(path.root.name.utf8) + [0] + path.path).description
        return Array("\(digest.prefix(2))/\(digest)".utf8)
    }

    // MARK: - tables in memory

    private func remember(_ path: StorePath, _ table: PageTable) {
        forget(path)
        uses += 1
        tables[path] = Known(table: table, lastUse: uses)
        tableBytes += Self.bytes(path, table)
        if tableBytes > Self.tableBytesMax { forgetOldest() }
    }

    private func forget(_ path: StorePath) {
        guard let known = tables.removeValue(forKey: path) else { return }
        tableBytes -= Self.bytes(path, known.table)
    }

    /// The half that was used longest ago.
    private func forgetOldest() {
        let ages = tables.values.map(\.lastUse).sorted()
        let limit = ages[ages.count / 2]
        for (path, known) in tables where known.lastUse <= limit { forget(path) }
    }

    private static func bytes(_ path: StorePath, _ table: PageTable) -> Int {
        path.path.count + table.leaves.count * Digest.byteCount + 200
    }
}

import Digests
import Formats
import Foundation
import GRDB
import Linux
import Synchronization

/// What the log has told of the store so far: one row for each name, on disk, in SQLite.
///
/// It is behind the journal, never ahead: rows are written after their batch was flushed, and committed, with the
/// position they stand at, every second or so. After a crash the batches since that position are read from the
/// journal again (`Primary`). Losing it altogether costs reading the store once.
///
/// One thread reads and writes rows. What it set since the last commit is kept in memory, with some rows that were read, and goes
/// into the database at once: most rows change many times a second, and a call of SQLite costs as much as ten of ours.
/// `CatalogueSnapshot` reads beside it, what was committed.
final class Catalogue: Sendable {
    private let queue: CatalogueQueue
    private let path: String
    private let rows = Mutex(Rows())
    private let durable = Mutex<Position?>(nil)

    /// Rows in memory; a nothing in place of a row: there is none.
    private struct Rows {
        /// Not in the database yet.
        var unwritten: [StorePath: CatalogueEntry?] = [:]
        /// As the database has them.
        var known: [StorePath: CatalogueEntry?] = [:]
        /// Identifiers of directories that the database has.
        var directories: [StorePath: Int64] = [:]

        static let unwrittenMax = 4096
        static let knownMax = 8192

        mutating func know(_ more: [StorePath: CatalogueEntry?]) {
            if known.count + more.count > Self.knownMax { known = [:] }
            known.merge(more) { $1 }
        }

        mutating func know(_ directory: StorePath, _ identifier: Int64) {
            if directories.count >= Self.knownMax { directories = [:] }
            directories[directory] = identifier
        }
    }

    /// KiB of pages that SQLite keeps in memory.
    private static let cacheKibibytes = 8192

    init(path: String) throws {
        self.path = path
        queue = try Self.queue(path, readOnly: false)
        try queue.write { database in
            try database.execute(sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            try Self.dropOtherVersions(in: database)
            try database.execute(sql: Self.schema)
            try database.execute(sql: "BEGIN IMMEDIATE")
        }
    }

    /// One that an older mailsync left is begun anew: it costs reading the store once.
    private static func dropOtherVersions(in database: Database) throws {
        let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        guard version != schemaVersion else { return }
        try database.execute(
            sql: """
                DROP TABLE IF EXISTS file; DROP TABLE IF EXISTS directory; DROP TABLE IF EXISTS standing;
                PRAGMA user_version = \(schemaVersion);
                """)
    }

    private static let schemaVersion = 3

    private static func queue(_ path: String, readOnly: Bool) throws -> CatalogueQueue {
        try CatalogueQueue(path: path, readOnly: readOnly) { database in
            // What SQLite puts aside stays in memory: the daemon may write nowhere but in its state directory.
            try database.execute(sql: "PRAGMA cache_size = -\(cacheKibibytes); PRAGMA temp_store = MEMORY")
        }
    }

    private static let schema = """
        CREATE TABLE IF NOT EXISTS directory (
            id INTEGER PRIMARY KEY, root TEXT NOT NULL, path BLOB NOT NULL, UNIQUE (root, path));
        CREATE TABLE IF NOT EXISTS file (
            directory INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL, inode INTEGER NOT NULL,
            bytes INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, mode INTEGER NOT NULL,
            owner INTEGER NOT NULL, grp INTEGER NOT NULL, digest BLOB, attributes BLOB,
            PRIMARY KEY (directory, name)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS file_inode ON file (inode);
        CREATE TABLE IF NOT EXISTS standing (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER, sequence INTEGER);
        """

    /// Lets go of the database, without what was not committed; whoever still asks gets an error.
    ///
    /// Who holds this value holds the transaction open, and the next `Catalogue` of the same path would wait for it.
    func close() { try? queue.close() }  // it is given up in any case

    // MARK: - position

    /// The batch up to which the rows were told, or nothing for a new catalogue.
    func position() throws -> Position? {
        try queue.read { database in
            guard let row = try Row.fetchOne(database, sql: "SELECT epoch, sequence FROM standing") else { return nil }
            return Position(
                epoch: Epoch(UInt32(row["epoch"] as Int64)), sequence: SequenceNumber(UInt64(row["sequence"] as Int64)))
        }
    }

    /// Commits what was written since the last time, as standing at `position`.
    ///
    /// Survives the end of the process on return, and with `durably` a power cut too, if no reader was in the way:
    /// `durablePosition` tells.
    func commit(at position: Position, durably: Bool = false) throws {
        try write()
        let isDurable = try queue.write { database in
            try database.cachedStatement(sql: "INSERT OR REPLACE INTO standing VALUES (1, ?, ?)")
                .execute(arguments: [Int64(position.epoch.number), Int64(position.sequence.number)])
            try database.execute(sql: "COMMIT")
            // The first column: whether it was in vain (sqlite.org/pragma.html#pragma_wal_checkpoint).
            let isBusy = durably ? try Int.fetchOne(database, sql: "PRAGMA wal_checkpoint(TRUNCATE)") : nil
            try database.execute(sql: "BEGIN IMMEDIATE")
            return isBusy == 0
        }
        if isDurable { durable.withLock { $0 = position } }
    }

    /// What would be there after a power cut now, as far as this process knows.
    var durablePosition: Position? { durable.withLock { $0 } }

    // MARK: - rows

    func entry(_ path: StorePath) throws -> CatalogueEntry? {
        if let row = rows.withLock({ $0.unwritten[path] ?? $0.known[path] }) { return row }
        let parent = path.parent
        let knownDirectory = rows.withLock { $0.directories[parent] }
        let row = try queue.read { database -> CatalogueEntry? in
            guard let directory = try knownDirectory ?? Self.directoryID(parent, in: database) else { return nil }
            let statement = try database.cachedStatement(
                sql: "SELECT \(Self.columns) FROM file WHERE directory = ? AND name = ?")
            return try Row.fetchOne(statement, arguments: [directory, Data(path.name)]).map(Self.entry)
        }
        rows.withLock { $0.know([path: row]) }
        return row
    }

    /// By name, in order.
    func entries(of directory: StorePath) throws -> [(name: [UInt8], entry: CatalogueEntry)] {
        try write()
        return try queue.read { try Self.entries(of: directory, in: $0) }
    }

    /// The names in `directory` alone, in no order.
    func names(of directory: StorePath) throws -> Set<[UInt8]> {
        try write()
        return try queue.read { database in
            guard let id = try Self.directoryID(directory, in: database) else { return [] }
            let statement = try database.cachedStatement(sql: "SELECT name FROM file WHERE directory = ?")
            return Set(try Data.fetchAll(statement, arguments: [id]).map { Array($0) })
        }
    }

    /// Names of the directories in `directory`, in order.
    func subdirectories(of directory: StorePath) throws -> [[UInt8]] {
        try write()
        return try queue.read { database in
            guard let id = try Self.directoryID(directory, in: database) else { return [] }
            let statement = try database.cachedStatement(
                sql: "SELECT name FROM file WHERE directory = ? AND kind = 1 ORDER BY name")
            return try Data.fetchAll(statement, arguments: [id]).map { Array($0) }
        }
    }

    /// Names of the file with this inode: candidates for a hard link, to be checked.
    func paths(ofInode inode: UInt64, countMax: Int = 8) throws -> [StorePath] {
        try write()
        return try queue.read { database in
            let statement = try database.cachedStatement(
                sql: """
                    SELECT root, path, name FROM file JOIN directory ON directory.id = file.directory
                    WHERE inode = ? LIMIT ?
                    """)
            return try Row.fetchAll(statement, arguments: [Int64(bitPattern: inode), countMax]).compactMap { row in
                StorePath(root: RootName(row["root"]), path: Array(row["path"] as Data))?
                    .appending(Array(row["name"] as Data))
            }
        }
    }

    func set(_ path: StorePath, _ entry: CatalogueEntry) throws {
        try note(path, entry)
    }

    private func note(_ path: StorePath, _ row: CatalogueEntry?) throws {
        let isFull = rows.withLock { rows in
            rows.unwritten[path] = .some(row)
            return rows.unwritten.count >= Rows.unwrittenMax
        }
        if isFull { try write() }
    }

    /// Forgets `path` and, if it was a directory, all below it.
    func remove(_ path: StorePath) throws {
        // A row without an inode says what was shipped, or is to be, and not what there is.
        if let entry = try entry(path), entry.kind != .directory, entry.inode != 0 {
            return try note(path, nil)
        }
        try write()
        rows.withLock { rows in
            rows.known = [:]
            rows.directories = [:]
        }
        try queue.write { database in
            try Self.delete(path, in: database)
            for directory in try Self.directories(within: path, in: database) {
                try database.cachedStatement(sql: "DELETE FROM file WHERE directory = ?").execute(arguments: [directory]
                )
                try database.cachedStatement(sql: "DELETE FROM directory WHERE id = ?").execute(arguments: [directory])
            }
        }
    }

    /// How many names there are.
    func fileCount() throws -> Int {
        try write()
        return try queue.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM file") ?? 0 }
    }

    /// A reader of what is committed, for another thread.
    func snapshot() throws -> CatalogueSnapshot { try CatalogueSnapshot(path: path) }

    // MARK: - SQL

    /// Brings the database up to date, within its open transaction.
    private func write() throws {
        let unwritten = rows.withLock { $0.unwritten }
        guard !unwritten.isEmpty else { return }
        try queue.write { database in
            for (path, row) in unwritten {
                guard let row else {
                    try Self.delete(path, in: database)
                    continue
                }
                let parent = path.parent
                let known = rows.withLock { $0.directories[parent] }
                let directory = try known ?? Self.makeDirectoryID(parent, in: database)
                if known == nil { rows.withLock { $0.know(parent, directory) } }
                try Self.insert(path.name, row, in: directory, database)
            }
        }
        rows.withLock { rows in
            rows.unwritten = [:]
            rows.know(unwritten)
        }
    }

    private static func insert(
        _ name: ArraySlice<UInt8>, _ entry: CatalogueEntry, in directory: Int64, _ database: Database
    ) throws {
        let statement = try database.cachedStatement(
            sql: "INSERT OR REPLACE INTO file (directory, name, \(columns)) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")
        let kind: Int64 =
            switch entry.kind {
            case .file: 0
            case .directory: 1
            case .symlink: 2
            case .other: 3
            }
        try statement.execute(
            arguments: [
                directory, Data(name), kind, Int64(bitPattern: entry.inode), entry.byteCount, entry.mtimeNanoseconds,
                entry.ctimeNanoseconds, Int64(entry.mode), Int64(entry.owner), Int64(entry.group),
                entry.digest.map(data), entry.attributesDigest.map(data),
            ])
    }

    private static func delete(_ path: StorePath, in database: Database) throws {
        guard let parent = try directoryID(path.parent, in: database) else { return }
        try database.cachedStatement(sql: "DELETE FROM file WHERE directory = ? AND name = ?")
            .execute(arguments: [parent, Data(path.name)])
    }

    private static let columnNames = [
        "kind", "inode", "bytes", "mtime", "ctime", "mode", "owner", "grp", "digest", "attributes",
    ]
    private static let columns = columnNames.joined(separator: ", ")

    fileprivate static func entries(
        of directory: StorePath, in database: Database
    ) throws -> [(name: [UInt8], entry: CatalogueEntry)] {
        guard let id = try directoryID(directory, in: database) else { return [] }
        let statement = try database.cachedStatement(
            sql: "SELECT \(columns), name FROM file WHERE directory = ? ORDER BY name")
        let rows = try Row.fetchCursor(statement, arguments: [id])
        var entries: [(name: [UInt8], entry: CatalogueEntry)] = []
        while let row = try rows.next() {
            entries.append((Array(row[columnNames.count] as Data), entry(row)))
        }
        return entries
    }

    private static func directoryID(_ directory: StorePath, in database: Database) throws -> Int64? {
        let statement = try database.cachedStatement(sql: "SELECT id FROM directory WHERE root = ? AND path = ?")
        return try Int64.fetchOne(statement, arguments: [directory.root.name, Data(directory.path)])
    }

    private static func makeDirectoryID(_ directory: StorePath, in database: Database) throws -> Int64 {
        if let id = try directoryID(directory, in: database) { return id }
        try database.cachedStatement(sql: "INSERT INTO directory (root, path) VALUES (?, ?)")
            .execute(arguments: [directory.root.name, Data(directory.path)])
        return database.lastInsertedRowID
    }

    /// `path` itself and the directories below it: their paths begin with it and a slash, and `0` follows `/`.
    private static func directories(within path: StorePath, in database: Database) throws -> [Int64] {
        try Int64.fetchAll(
            database,
            sql: "SELECT id FROM directory WHERE root = ? AND (path = ? OR (path >= ? AND path < ?))",
            arguments: [
                path.root.name, Data(path.path), Data(path.path + [UInt8(ascii: "/")]),
                Data(path.path + [UInt8(ascii: "0")]),
            ])
    }

    /// By the places in `columnNames`: to look for names costs more than all else here.
    private static func entry(_ row: Row) -> CatalogueEntry {
        var entry = CatalogueEntry(shipped: (row[8] as Data?).map(digest), kind: .other)
        entry.kind =
            switch row[0] as Int64 {
            case 0: .file
            case 1: .directory
            case 2: .symlink
            default: .other
            }
        entry.inode = UInt64(bitPattern: row[1])
        entry.byteCount = row[2]
        entry.mtimeNanoseconds = row[3]
        entry.ctimeNanoseconds = row[4]
        entry.mode = UInt16(truncatingIfNeeded: row[5] as Int64)
        entry.owner = UInt32(truncatingIfNeeded: row[6] as Int64)
        entry.group = UInt32(truncatingIfNeeded: row[7] as Int64)
        entry.attributesDigest = (row[9] as Data?).map(digest)
        return entry
    }

    private static func data(_ digest: Digest) -> Data {
        var writer = ByteWriter()
        writer.write(digest)
        return Data(writer.bytes)
    }

    private static func digest(_ data: Data) -> Digest {
        var reader = ByteReader(Array(data))
        return (try? reader.readDigest("digest")) ?? .empty  // SQLite keeps what we wrote; another digest is no basis
    }

    fileprivate static func readOnlyQueue(_ path: String) throws -> CatalogueQueue { try queue(path, readOnly: true) }
}

/// Reads a catalogue beside its writer: what was committed, a second or so behind.
final class CatalogueSnapshot: Sendable {
    private let queue: CatalogueQueue

    fileprivate init(path: String) throws { queue = try Catalogue.readOnlyQueue(path) }

    /// By name, in order.
    func entries(of directory: StorePath) throws -> [(name: [UInt8], entry: CatalogueEntry)] {
        try queue.read { try Catalogue.entries(of: directory, in: $0) }
    }

    /// Of all files; reads the whole table.
    func totals() throws -> (files: Int, bytes: Int64) {
        try queue.read { database in
            let row = try Row.fetchOne(database, sql: "SELECT count(*), total(max(bytes, 0)) FROM file WHERE kind = 0")
            guard let row else { return (0, 0) }
            return (row[0] as Int, Int64(row[1] as Double))
        }
    }
}

import GRDB
import GRDBSQLite
import Linux

/// A connection to a database, whose errors name the file and what the kernel said of it.
struct CatalogueQueue: Sendable {
    private let queue: DatabaseQueue
    private let path: String

    /// `prepare` is called with the new connection.
    init(path: String, readOnly: Bool, prepare: @escaping @Sendable (Database) throws -> Void) throws {
        var configuration = Configuration()
        configuration.readonly = readOnly
        // The writer keeps one transaction open over many calls, which GRDB takes for a mistake unless told.
        configuration.allowsUnsafeTransactions = true
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { database in try Self.named(path, database, prepare) }
        self.path = path
        do {
            queue = try DatabaseQueue(path: path, configuration: configuration)
        } catch let error as DatabaseError {
            throw CatalogueError(path, error, nil)
        }
    }

    /// Without a transaction of its own, as all here.
    func read<Result>(_ body: (Database) throws -> Result) throws -> Result {
        try queue.unsafeRead { database in try Self.named(path, database, body) }
    }

    func write<Result>(_ body: (Database) throws -> Result) throws -> Result {
        try queue.writeWithoutTransaction { database in try Self.named(path, database, body) }
    }

    func close() throws { try queue.close() }

    private static func named<Result>(
        _ path: String, _ database: Database, _ body: (Database) throws -> Result
    ) throws -> Result {
        // SQLite keeps no number for a commit that failed; the kernel's is the thread's until another call fails.
        Errno.current = Errno(rawValue: 0)
        do {
            return try body(database)
        } catch let error as DatabaseError {
            let last = Errno.current
            let kept = database.sqliteConnection.map { sqlite3_system_errno($0) } ?? 0
            throw CatalogueError(path, error, kept != 0 ? Errno(rawValue: kept) : last)
        }
    }
}

/// What SQLite could not do.
struct CatalogueError: Error, CustomStringConvertible {
    let description: String
    /// Where that is for want of something that may be there again.
    let shortage: SystemError?

    /// `errno` is of the last call of the kernel's that failed for SQLite, be it of another file beside this.
    init(_ path: String, _ error: DatabaseError, _ errno: Errno?) {
        let known: Errno? =
            switch error.resultCode {
            case .SQLITE_FULL: .noSpace
            case .SQLITE_IOERR: errno.flatMap { $0.rawValue == 0 ? nil : $0 }
            // It has tried to open it in other ways since, for which the errors are others.
            case .SQLITE_CANTOPEN: Self.whyClosed(path)
            default: nil
            }
        description = "catalogue: \(path): \(known.map { "\($0): " } ?? "")\(error)"
        let system = known.map { SystemError(call: "sqlite", path: path, errno: $0) }
        shortage = system.flatMap { $0.isShortage ? $0 : nil }
    }

    /// Nothing if nothing is in the way by now. The database itself is not opened: closing it would drop SQLite's locks of it.
    private static func whyClosed(_ path: String) -> Errno? {
        do throws(SystemError) {
            try Descriptor.open("/dev/null", for: .reading).close()
            return try FileStatus.of(path) == nil ? .noEntry : nil
        } catch {
            return error.errno
        }
    }
}

/// The first 48 bytes of a skiplist database.
///
///     0 magic 20 (A1 02 8B 0D "skiplist file" 00 00 00) | 20 version 4 (1) | 24 minor 4 (2)
///     28 maxlevel 4 (20) | 32 curlevel 4 | 36 listsize 4 | 40 logstart 4 | 44 last_recovery 4
package struct SkiplistHeader: Equatable, Sendable {
    package let levelMax: Int
    package let levelCurrent: Int
    /// Live pairs. It is not brought up to date with every change.
    package let recordCount: Int
    package let logStart: Int
    /// Seconds since 1970. Cyrus recovers a database that is older than its db/skipstamp when it opens it.
    package let lastRecovery: UInt32

    package static let byteCount = 48
    package static let magic = cyrusMagic + Array("skiplist file\0\0\0".utf8)
    static let levelCountMax = 20
    /// Of the type and offset that end a log: COMMIT, and what an interrupted recovery has left.
    private static let (commit, nothing): (UInt32, UInt32) = (255, 0)

    /// Reads the header at the beginning of `bytes`.
    package init(decoding bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }

    init(_ image: FileImage) throws(MalformedBytes) {
        guard image.holds(Self.byteCount, at: 0) else {
            throw MalformedBytes("skiplist", at: image.byteCount, "\(image.byteCount) bytes hold no header")
        }
        guard image.starts(with: Self.magic) else { throw MalformedBytes("skiplist", at: 0, "not its magic bytes") }
        let version: UInt32 = image.integer(at: 20)
        guard version == 1 else { throw MalformedBytes("skiplist", at: 20, "version \(version) is not known") }
        levelMax = Int(image.integer(UInt32.self, at: 28))
        levelCurrent = Int(image.integer(UInt32.self, at: 32))
        recordCount = Int(image.integer(UInt32.self, at: 36))
        logStart = Int(image.integer(UInt32.self, at: 40))
        lastRecovery = image.integer(at: 44)
        guard levelMax <= Self.levelCountMax, levelCurrent <= levelMax else {
            throw MalformedBytes("skiplist", at: 28, "level \(levelCurrent) of \(levelMax)")
        }
    }

    /// Whether a file of that length ends where its list or a transaction does, by its last four bytes. Then no transaction is
    /// under way, and none was interrupted.
    package func isClean(fileByteCount: Int, last: [UInt8]) -> Bool {
        guard fileByteCount % 4 == 0, fileByteCount >= logStart else { return false }
        let type = last.reduce(0) { $0 << 8 | UInt32($1) }
        return fileByteCount == logStart || type == Self.commit || type == Self.nothing
    }
}

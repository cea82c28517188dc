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
    /// Of records.
    private static let (delete, commit, end): (UInt32, UInt32, UInt32) = (4, 255, .max)

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

    /// Bytes of the end that `isClean` looks at.
    package static let lastByteCount = 12

    /// Whether a file of that length ends with its list or with a whole transaction, by its last bytes: then no transaction is under way,
    /// and none was interrupted (lib/cyrusdb_skiplist.c, SAFE_TO_APPEND).
    package func isClean(fileByteCount: Int, last: [UInt8]) -> Bool {
        guard fileByteCount % 4 == 0, fileByteCount >= logStart, last.count == Self.lastByteCount else { return false }
        let words = (0..<3).map { word in last[4 * word..<4 * word + 4].reduce(0) { $0 << 8 | UInt32($1) } }
        if fileByteCount == logStart { return words[2] == Self.end }
        return words[2] == Self.commit && (words[1] == Self.end || words[0] == Self.delete)
    }
}

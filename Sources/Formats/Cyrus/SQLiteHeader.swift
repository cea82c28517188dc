/// The first bytes of an SQLite database (dav.db, caldav_alarm.sqlite3): enough to see that a copy is whole.
///
///     0 "SQLite format 3" 00 | 16 page size 2 (1 is 65536) | 18 write version 1, 19 read version 1 (2: WAL)
///     24 change counter 4 | 28 pages 4 | 92 version-valid-for 4        https://www.sqlite.org/fileformat.html
///
/// Pages are counted by the header only if version-valid-for equals the change counter. A file of no bytes is an
/// empty database.
package struct SQLiteHeader: Equatable, Sendable {
    package let pageByteCount: Int
    package let changeCounter: UInt32
    /// Nothing if the last writer didn't keep it.
    package let pageCount: Int?
    /// Changes may lie in a file `-wal` beside it. Cyrus doesn't use that.
    package let isWriteAheadLogged: Bool

    package static let byteCount = 100
    package static let magic = Array("SQLite format 3\0".utf8)

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        let image = FileImage(bytes)
        guard image.holds(Self.byteCount, at: 0) else {
            throw MalformedBytes("sqlite", at: bytes.count, "\(bytes.count) bytes hold no header")
        }
        guard image.starts(with: Self.magic) else { throw MalformedBytes("sqlite", at: 0, "not its magic bytes") }
        let page: UInt16 = image.integer(at: 16)
        pageByteCount = page == 1 ? 65536 : Int(page)
        guard pageByteCount >= 512, pageByteCount & (pageByteCount - 1) == 0 else {
            throw MalformedBytes("sqlite", at: 16, "pages of \(pageByteCount) bytes")
        }
        isWriteAheadLogged = bytes[18] == 2 || bytes[19] == 2
        changeCounter = image.integer(at: 24)
        let pages: UInt32 = image.integer(at: 28)
        pageCount = pages > 0 && image.integer(UInt32.self, at: 92) == changeCounter ? Int(pages) : nil
    }

    /// Whether a file of that length holds all pages.
    package func isWhole(fileByteCount: Int) -> Bool {
        guard fileByteCount % pageByteCount == 0 else { return false }
        return pageCount.map { fileByteCount >= $0 * pageByteCount } ?? (fileByteCount > 0)
    }
}

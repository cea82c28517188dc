import Delta
import Digests
import Formats
import Linux

/// Keeps what Cyrus itself would find broken from being shipped over a copy that is whole.
///
/// Looks at what is cheap: the heads of all files that have checksums, and of an index the records that changed.
enum PoisonGate {
    /// What is wrong, for the operator; nothing if nothing is.
    ///
    /// `version` of `path` was read under its lock; `shadow` gives the bytes that did not change.
    static func finding(
        _ role: FileRole, _ version: FileVersion, since old: PageTable?, mailboxHeader: [UInt8]? = nil,
        unchanged shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        switch role {
        case .index:
            return try indexFinding(version, mailboxHeader, shadow) ?? damagedRecord(version, since: old)
        case .annotations, .database(.twoskip):
            return try twoskipFinding(version, shadow)
        case .database(.sqlite):
            return try sqliteFinding(version, shadow)
        default:
            return nil
        }
    }

    private static func twoskipFinding(
        _ version: FileVersion, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        let byteCount = version.table.byteCount
        guard byteCount >= TwoskipHeader.byteCount else { return byteCount == 0 ? nil : "cut off within its header" }
        let head = try version.bytes(0..<TwoskipHeader.byteCount, unchanged: shadow)
        do throws(MalformedBytes) {
            let header = try TwoskipHeader(decoding: head)
            guard header.isCRCRight else { return "header checksum mismatch" }
            // Nobody holds the write lock, so a writer died in the middle: Cyrus recovers it when it opens it next.
            guard header.isClean(fileByteCount: byteCount) else {
                return "left by a writer that died; waiting for Cyrus to recover it"
            }
            return nil
        } catch {
            return "\(error)"
        }
    }

    private static func sqliteFinding(
        _ version: FileVersion, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        let byteCount = version.table.byteCount
        guard byteCount > 0 else { return nil }
        guard byteCount >= SQLiteHeader.byteCount else { return "cut off within its header" }
        do throws(MalformedBytes) {
            let header = try SQLiteHeader(decoding: try bytes(version, 0..<SQLiteHeader.byteCount, shadow))
            return header.isWhole(fileByteCount: byteCount) ? nil : "its length is not that told by its header"
        } catch {
            return "\(error)"
        }
    }

    private static func bytes(
        _ version: FileVersion, _ range: Range<Int>, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(MalformedBytes) -> [UInt8] {
        do throws(SystemError) {
            return try version.bytes(range, unchanged: shadow)
        } catch {
            throw MalformedBytes("read", at: range.lowerBound, "\(error)")
        }
    }

    /// Of the records that changed; nothing for an index that is too large to be in memory.
    private static func damagedRecord(_ version: FileVersion, since old: PageTable?) -> String? {
        // One that is no index at all was found out before.
        guard case .whole(let bytes) = version.content, let index = try? IndexImage(bytes) else { return nil }
        var next = 0
        for page in version.table.changedPages(against: old ?? PageTable()) {
            let range = page * PageTable.pageBytes..<min((page + 1) * PageTable.pageBytes, bytes.count)
            let records = index.records(coveringBytes: range)
            let fresh = max(next, records.lowerBound)..<max(next, records.upperBound)
            if let damage = index.findings(records: fresh, max: 10).first(where: \.isDamage) {
                return damage.description
            }
            next = fresh.upperBound
        }
        return nil
    }

    private static func indexFinding(
        _ version: FileVersion, _ mailboxHeader: [UInt8]?, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        do throws(MalformedBytes) {
            let head = try bytes(version, 0..<min(IndexHeader.byteCountMax, version.table.byteCount), shadow)
            let header = try IndexHeader(decoding: head)
            guard header.isCRCRight else { return "header checksum mismatch" }
            guard header.indexByteCount <= version.table.byteCount else {
                return "\(header.recordCount) records told by its header, room for fewer"
            }
            if let expected = header.headerFileCRC, let mailboxHeader, expected != 0, crc32(mailboxHeader) != expected {
                return "cyrus.header is not the one it was written with"
            }
            return nil
        } catch {
            return "\(error)"
        }
    }
}

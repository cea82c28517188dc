import Delta
import Digests
import Formats
import Linux

/// Keeps what Cyrus itself would find broken from being shipped over a copy that is whole.
///
/// Looks at what is cheap: the heads of databases and whether a writer has died in them, an index's header, its records that changed,
/// and a mailbox's header.
enum PoisonGate {
    /// What is wrong, for the operator; nothing if nothing is.
    ///
    /// `version` was read under its lock; `shadow` gives the bytes that did not change. `headerCRC`: of a cyrus.header that is the
    /// file it was when it was shipped, as its index has it.
    static func finding(
        _ role: FileRole, _ version: FileVersion, since old: PageTable?, headerCRC: UInt32? = nil,
        unchanged shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        switch role {
        case .index:
            return try indexFinding(version, shadow) ?? damagedRecord(version, since: old)
        case .header:
            return try headerFinding(version, headerCRC, shadow)
        case .annotations, .database(.twoskip):
            return try twoskipFinding(version, shadow)
        case .database(.skiplist):
            return try skiplistFinding(version, shadow)
        case .database(.sqlite):
            return try sqliteFinding(version, shadow)
        default:
            return nil
        }
    }

    /// Cyrus never writes into one (imap/mailbox.c, mailbox_commit_header): one that was changed in place and is not its index's is
    /// damaged, and the index goes on without it. Another file that is not its index's was left by a Cyrus that died between the two, and goes: the
    /// next one warns of such a mailbox and serves it, with the keywords that this header names (mailbox_lock_index_internal).
    private static func headerFinding(
        _ version: FileVersion, _ headerCRC: UInt32?, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        guard version.table.byteCount <= headerBytesMax else { return "\(version.table.byteCount) bytes are no header" }
        do throws(MalformedBytes) {
            let header = try MailboxHeader(decoding: try bytes(version, 0..<version.table.byteCount, shadow))
            guard let headerCRC, headerCRC != header.fileCRC else { return nil }
            return "changed in place, and not as cyrus.index has it"
        } catch {
            return "\(error)"
        }
    }

    private static let headerBytesMax = 1 << 20

    private static func skiplistFinding(
        _ version: FileVersion, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        let byteCount = version.table.byteCount
        guard byteCount > 0 else { return nil }
        guard byteCount >= SkiplistHeader.byteCount else { return "cut off within its header" }
        do throws(MalformedBytes) {
            let header = try SkiplistHeader(decoding: try bytes(version, 0..<SkiplistHeader.byteCount, shadow))
            let last = try bytes(version, byteCount - SkiplistHeader.lastByteCount..<byteCount, shadow)
            return header.isClean(fileByteCount: byteCount, last: last) ? nil : unclean
        } catch {
            return "\(error)"
        }
    }

    /// Nobody holds the write lock, so a writer died in the middle: Cyrus recovers it when it opens it next.
    private static let unclean = "left by a writer that died; waiting for Cyrus to recover it"

    private static func twoskipFinding(
        _ version: FileVersion, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        let byteCount = version.table.byteCount
        guard byteCount >= TwoskipHeader.byteCount else { return byteCount == 0 ? nil : "cut off within its header" }
        let head = try version.bytes(0..<TwoskipHeader.byteCount, unchanged: shadow)
        do throws(MalformedBytes) {
            let header = try TwoskipHeader(decoding: head)
            guard header.isCRCRight else { return "header checksum mismatch" }
            return header.isClean(fileByteCount: byteCount) ? nil : unclean
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
        _ version: FileVersion, _ shadow: (Range<Int>) throws(SystemError) -> [UInt8]
    ) throws(SystemError) -> String? {
        do throws(MalformedBytes) {
            let head = try bytes(version, 0..<min(IndexHeader.byteCountMax, version.table.byteCount), shadow)
            let header = try IndexHeader(decoding: head)
            guard header.isCRCRight else { return "header checksum mismatch" }
            guard header.indexByteCount <= version.table.byteCount else {
                return "\(header.recordCount) records told by its header, room for fewer"
            }
            return nil
        } catch {
            return "\(error)"
        }
    }
}

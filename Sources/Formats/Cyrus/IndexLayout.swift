/// Where things are in a cyrus.index of one version: imap/mailbox.h of each release, imap/index_file.c since 3.13.
///
///     file = header (headerByteCount) | record 1 | record 2 | …        each recordByteCount long
///
/// The CRC-32 of a header or record, where the version has one, is its last four bytes and covers all before them.
/// Bytes behind the last counted record are what an interrupted append left; Cyrus ignores them.
///
///     version   Cyrus            header  record   of note
///     6, 7, 8   2.1 - 2.2        76, 76, 92   60, 72, 80
///     9, 10     2.3              96      80, 88   GUID of 20 bytes and modseq since 10
///     12        2.4              128     96       checksums
///     13        2.5, 3.0         128     104      thread id
///     14, 15    (development)    160     104
///     16 - 18   3.2 - 3.8        160     112
///     19        3.10, 3.12       160     112      header re-ordered
///     20        3.13             192     144      times in nanoseconds, sizes of 64 bits
package struct IndexLayout: Sendable {
    package let version: Int
    package let headerByteCount: Int
    package let recordByteCount: Int
    package let time: TimeUnit
    let header: HeaderFields
    let record: RecordFields

    package enum TimeUnit: Sendable {
        case seconds, nanoseconds

        func seconds(_ value: UInt64) -> Int64 {
            switch self {
            case .seconds: Int64(truncatingIfNeeded: value)
            case .nanoseconds: Int64(bitPattern: value) / 1_000_000_000
            }
        }
    }

    /// A field that the version doesn't have reads as 0.
    struct Field: Sendable {
        let offset: UInt8
        let byteCount: UInt8

        static let absent = Field(offset: 0, byteCount: 0)
        static func word(_ offset: UInt8) -> Field { Field(offset: offset, byteCount: 4) }
        static func long(_ offset: UInt8) -> Field { Field(offset: offset, byteCount: 8) }
        var isPresent: Bool { byteCount != 0 }
    }

    struct HeaderFields: Sendable {
        var generation = Field.word(0), startOffset = Field.word(12), recordSize = Field.word(16)
        var recordCount = Field.word(20), lastAppendDate = Field.word(24), lastUID = Field.word(28)
        var quotaMailboxUsed = Field.long(32), pop3LastLogin = Field.word(40), uidValidity = Field.word(44)
        var deleted = Field.word(48), answered = Field.word(52), flagged = Field.word(56)
        var options = Field.word(60), leakedCache = Field.word(64)
        var highestModseq = Field.absent, deletedModseq = Field.absent, exists = Field.absent
        var firstExpunged = Field.absent, lastRepackTime = Field.absent, headerFileCRC = Field.absent
        var syncCRCBasic = Field.absent, recentUID = Field.absent, recentTime = Field.absent
        var pop3ShowAfter = Field.absent, quotaAnnotationsUsed = Field.absent, syncCRCAnnotations = Field.absent
        var unseen = Field.absent, createdModseq = Field.absent, changesEpoch = Field.absent
        var quotaDeletedUsed = Field.absent, quotaExpungedUsed = Field.absent
        var crc = Field.absent
    }

    struct RecordFields: Sendable {
        var uid = Field.word(0), internalDate = Field.word(4), sentDate = Field.word(8), size = Field.word(12)
        var headerSize = Field.word(16), cacheOffset = Field.word(24), lastUpdated = Field.word(28)
        var flags = Field.word(32), userFlags: UInt8 = 36, saveDate = Field.absent, cacheVersion = Field.absent
        var guid: UInt8 = 0, modseq = Field.absent, threadID = Field.absent, createdModseq = Field.absent
        var cacheCRC = Field.absent, crc = Field.absent

        var hasGUID: Bool { guid != 0 }
    }
}

extension IndexLayout {
    /// Nothing for a version that no supported Cyrus writes.
    package static func of(version: UInt32) -> IndexLayout? { version < table.count ? table[Int(version)] : nil }

    /// 3.13 may find headers of version 19 in front of records of version 20, and reads them (imap/mailbox.c).
    static let nineteenWithLongRecords = IndexLayout(
        version: 19, headerByteCount: 160, recordByteCount: 144, time: .seconds, header: v19Header, record: v20Record)

    private static let table: [IndexLayout?] = {
        let layouts = [
            layout(6, 76, 60, v6Header, v6Record), layout(7, 76, 72, v6Header, v7Record),
            layout(8, 92, 80, v8Header, v8Record), layout(9, 96, 80, v8Header, v8Record),
            layout(10, 96, 88, v8Header, v10Record),
            layout(12, 128, 96, v12Header, v12Record), layout(13, 128, 104, v13Header, v13Record),
            layout(14, 160, 104, v14Header, v13Record), layout(15, 160, 104, v14Header, v15Record),
            layout(16, 160, 112, v16Header, v16Record), layout(17, 160, 112, v17Header, v16Record),
            layout(18, 160, 112, v18Header, v16Record), layout(19, 160, 112, v19Header, v16Record),
            layout(20, 192, 144, v20Header, v20Record, .nanoseconds),
        ]
        var table = [IndexLayout?](repeating: nil, count: 21)
        for layout in layouts { table[layout.version] = layout }
        return table
    }()

    private static func layout(
        _ version: Int, _ header: Int, _ record: Int, _ headerFields: HeaderFields, _ recordFields: RecordFields,
        _ time: TimeUnit = .seconds
    ) -> IndexLayout {
        IndexLayout(
            version: version, headerByteCount: header, recordByteCount: record, time: time, header: headerFields,
            record: recordFields)
    }

    private static func changed<Fields>(_ fields: Fields, _ change: (inout Fields) -> Void) -> Fields {
        var fields = fields
        change(&fields)
        return fields
    }

    private static let v6Header = HeaderFields()
    private static let v8Header = changed(v6Header) { $0.highestModseq = .long(68) }
    private static let v12Header = changed(v8Header) {
        $0.deletedModseq = .long(76)
        $0.exists = .word(84)
        $0.firstExpunged = .word(88)
        $0.lastRepackTime = .word(92)
        $0.headerFileCRC = .word(96)
        $0.syncCRCBasic = .word(100)
        $0.recentUID = .word(104)
        $0.recentTime = .word(108)
        $0.crc = .word(124)
    }
    private static let v13Header = changed(v12Header) {
        $0.pop3ShowAfter = .word(112)
        $0.quotaAnnotationsUsed = .word(116)
        $0.syncCRCAnnotations = .word(120)
    }
    private static let v14Header = changed(v13Header) {
        $0.unseen = .word(124)
        $0.crc = .word(156)
    }
    private static let v16Header = changed(v14Header) { $0.createdModseq = .long(128) }
    private static let v17Header = changed(v16Header) { $0.changesEpoch = .word(136) }
    private static let v18Header = changed(v17Header) {
        $0.quotaDeletedUsed = .long(140)
        $0.quotaExpungedUsed = .long(148)
    }
    private static let v19Header = changed(v18Header) {
        $0.exists = .word(60)
        $0.options = .word(64)
        $0.leakedCache = .word(68)
        $0.highestModseq = .long(72)
        $0.deletedModseq = .long(80)
        $0.quotaDeletedUsed = .long(136)
        $0.quotaExpungedUsed = .long(144)
        $0.changesEpoch = .word(152)
    }
    private static let v20Header = changed(v19Header) {
        $0.lastAppendDate = .long(24)
        $0.pop3LastLogin = .long(40)
        $0.lastUID = .word(88)
        $0.uidValidity = .word(92)
        $0.recentTime = .long(104)
        $0.pop3ShowAfter = .long(112)
        $0.quotaAnnotationsUsed = .long(152)
        $0.changesEpoch = .long(160)
        $0.firstExpunged = .long(168)
        $0.lastRepackTime = .long(176)
        $0.recentUID = .word(184)
        $0.crc = .word(188)
    }

    private static let v6Record = RecordFields()
    private static let v7Record = changed(v6Record) { $0.cacheVersion = .word(56) }
    /// The 12 bytes of 2.2's UUID at 60 are no digest of the message.
    private static let v8Record = changed(v7Record) { $0.modseq = .long(72) }
    private static let v10Record = changed(v7Record) {
        $0.guid = 60
        $0.modseq = .long(80)
    }
    private static let v12Record = changed(v10Record) {
        $0.cacheCRC = .word(88)
        $0.crc = .word(92)
    }
    private static let v13Record = changed(v10Record) {
        $0.threadID = .long(88)
        $0.cacheCRC = .word(96)
        $0.crc = .word(100)
    }
    private static let v15Record = changed(v13Record) { $0.saveDate = .word(52) }
    private static let v16Record = changed(v15Record) {
        $0.createdModseq = .long(96)
        $0.cacheCRC = .word(104)
        $0.crc = .word(108)
    }
    private static let v20Record = changed(v16Record) {
        $0.cacheOffset = .word(4)
        $0.internalDate = .long(8)
        $0.sentDate = .long(16)
        $0.size = .long(24)
        $0.headerSize = .word(32)
        $0.flags = .word(36)
        $0.userFlags = 40
        $0.lastUpdated = .long(112)
        $0.saveDate = .long(120)
        $0.cacheCRC = .word(136)
        $0.crc = .word(140)
    }
}

/// The beginning of a cyrus.index. Cyrus writes it last, and by it every change of the mailbox takes effect
/// (imap/mailbox.c, mailbox_commit); fields in `IndexLayout`.
package struct IndexHeader: Sendable {
    package let layout: IndexLayout
    /// One more at each rewrite of index and cache; the cache begins with the same number.
    package let generation: UInt32
    package let startOffset: Int
    package let recordByteCount: Int
    package let recordCount: Int
    package let lastUID: UInt32
    package let uidValidity: UInt32
    package let options: Options
    package let highestModseq: UInt64
    package let deletedModseq: UInt64
    package let createdModseq: UInt64
    /// Sum of the sizes of messages that are not expunged, which is also what `exists` and the next four count.
    package let quotaMailboxUsed: UInt64
    package let quotaAnnotationsUsed: UInt64
    package let exists: UInt32
    package let deleted: UInt32
    package let answered: UInt32
    package let flagged: UInt32
    package let unseen: UInt32
    package let recentUID: UInt32
    /// In seconds since 1970, in this and all that follow.
    package let recentTime: Int64
    package let lastAppendDate: Int64
    /// Of the oldest expunged message that is still kept.
    package let firstExpunged: Int64
    package let lastRepackTime: Int64
    /// CRC-32 that the file cyrus.header should have; nothing before version 12.
    package let headerFileCRC: UInt32?
    /// What Cyrus's own replication compares; nothing before version 12.
    package let syncCRCBasic: UInt32?
    /// Nothing before version 13.
    package let syncCRCAnnotations: UInt32?
    /// Of the header: as stored, and as it should be. Nothing before version 12.
    package let crc: (stored: UInt32, computed: UInt32)?

    package var version: Int { layout.version }
    package var isCRCRight: Bool { crc.map { $0.stored == $0.computed } ?? true }
    /// Bytes that header and counted records take.
    package var indexByteCount: Int { startOffset + recordCount * recordByteCount }

    /// Enough to read any version's header.
    package static let byteCountMax = 192

    package struct Options: OptionSet, Hashable, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let pop3NewUIDL = Options(rawValue: 1)
        package static let sharedSeen = Options(rawValue: 1 << 2)
        package static let duplicateDelivery = Options(rawValue: 1 << 3)
        package static let hasAlarms = Options(rawValue: 1 << 4)
        package static let needsUnlink = Options(rawValue: 1 << 29)
        package static let needsRepack = Options(rawValue: 1 << 30)
        /// The mailbox waits for its removal.
        package static let deleted = Options(rawValue: 1 << 31)
    }

    /// Reads the header at the beginning of `bytes`, which may end with it. A wrong checksum is not an error here;
    /// ask `isCRCRight`.
    package init(decoding bytes: ArraySlice<UInt8>) throws(MalformedBytes) { try self.init(FileImage(bytes)) }
    package init(decoding bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }

    init(_ image: FileImage) throws(MalformedBytes) {
        layout = try Self.layout(of: image)
        let fields = layout.header
        func long(_ field: IndexLayout.Field) -> UInt64 { image.value(of: field, base: 0) }
        func word(_ field: IndexLayout.Field) -> UInt32 { UInt32(truncatingIfNeeded: long(field)) }
        func optional(_ field: IndexLayout.Field) -> UInt32? { field.isPresent ? word(field) : nil }
        func time(_ field: IndexLayout.Field, _ unit: IndexLayout.TimeUnit) -> Int64 { unit.seconds(long(field)) }
        generation = word(fields.generation)
        startOffset = Int(word(fields.startOffset))
        recordByteCount = Int(word(fields.recordSize))
        recordCount = Int(word(fields.recordCount))
        lastUID = word(fields.lastUID)
        uidValidity = word(fields.uidValidity)
        options = Options(rawValue: word(fields.options))
        highestModseq = long(fields.highestModseq)
        deletedModseq = long(fields.deletedModseq)
        createdModseq = long(fields.createdModseq)
        quotaMailboxUsed = long(fields.quotaMailboxUsed)
        quotaAnnotationsUsed = long(fields.quotaAnnotationsUsed)
        exists = fields.exists.isPresent ? word(fields.exists) : UInt32(recordCount)
        deleted = word(fields.deleted)
        answered = word(fields.answered)
        flagged = word(fields.flagged)
        unseen = word(fields.unseen)
        recentUID = word(fields.recentUID)
        recentTime = time(fields.recentTime, layout.time)
        lastAppendDate = time(fields.lastAppendDate, layout.time)
        firstExpunged = time(fields.firstExpunged, layout.time)
        lastRepackTime = time(fields.lastRepackTime, layout.time)
        headerFileCRC = optional(fields.headerFileCRC)
        syncCRCBasic = optional(fields.syncCRCBasic)
        syncCRCAnnotations = optional(fields.syncCRCAnnotations)
        crc =
            fields.crc.isPresent
            ? (word(fields.crc), image.checksum(of: 0..<Int(fields.crc.offset))) : nil
    }

    /// By version, and by the sizes that the header says it has: Cyrus opens no others.
    private static func layout(of image: FileImage) throws(MalformedBytes) -> IndexLayout {
        guard image.holds(24, at: 0) else {
            throw MalformedBytes("cyrus.index", at: image.byteCount, "\(image.byteCount) bytes hold no header")
        }
        let version: UInt32 = image.integer(at: 8)
        guard var layout = IndexLayout.of(version: version) else {
            throw MalformedBytes("cyrus.index", at: 8, "version \(version) is not known")
        }
        let start: UInt32 = image.integer(at: 12)
        let record: UInt32 = image.integer(at: 16)
        if version == 19, Int(record) == IndexLayout.nineteenWithLongRecords.recordByteCount {
            layout = .nineteenWithLongRecords
        }
        guard start == layout.headerByteCount, record == layout.recordByteCount else {
            throw MalformedBytes(
                "cyrus.index", at: 12,
                "header of \(start) and records of \(record) bytes, not \(layout.headerByteCount) and "
                    + "\(layout.recordByteCount) as version \(version) has")
        }
        guard image.holds(layout.headerByteCount, at: 0) else {
            throw MalformedBytes(
                "cyrus.index", at: image.byteCount, "the header is cut short: \(layout.headerByteCount) bytes needed")
        }
        return layout
    }
}

extension FileImage {
    /// 0 for a field that isn't there; `base` plus the field must be within the bytes.
    @inline(__always)
    func value(of field: IndexLayout.Field, base: Int) -> UInt64 {
        switch field.byteCount {
        case 4: UInt64(integer(UInt32.self, at: base + Int(field.offset)))
        case 8: integer(UInt64.self, at: base + Int(field.offset))
        default: 0
        }
    }
}

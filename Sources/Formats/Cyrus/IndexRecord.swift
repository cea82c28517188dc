package import Digests

/// One message's entry in a cyrus.index: a view that reads a field when it's asked for.
package struct IndexRecord: Sendable {
    let image: FileImage
    let base: Int
    let fields: IndexLayout.RecordFields
    let time: IndexLayout.TimeUnit
    let byteCount: Int

    package var uid: UInt32 { word(fields.uid) }
    /// Seconds since 1970; the message file's modification time is the same.
    package var internalDate: Int64 { time.seconds(long(fields.internalDate)) }
    package var sentDate: Int64 { time.seconds(long(fields.sentDate)) }
    package var lastUpdated: Int64 { time.seconds(long(fields.lastUpdated)) }
    package var saveDate: Int64 { time.seconds(long(fields.saveDate)) }
    /// Bytes of the message file.
    package var size: UInt64 { long(fields.size) }
    package var headerSize: UInt32 { word(fields.headerSize) }
    package var flags: Flags { Flags(rawValue: word(fields.flags)) }
    package var modseq: UInt64 { long(fields.modseq) }
    package var createdModseq: UInt64 { long(fields.createdModseq) }
    package var threadID: UInt64 { long(fields.threadID) }

    /// Where its record in cyrus.cache begins; 0 is none. Of 48 bits, the upper ones beside the cache's version.
    package var cacheOffset: Int {
        guard time == .seconds else { return Int(word(fields.cacheOffset)) }
        return Int(word(fields.cacheOffset)) | Int(word(fields.cacheVersion) & 0xffff_0000) << 16
    }

    package var cacheVersion: UInt32 { word(fields.cacheVersion) & 0xffff }
    /// 0 for cache records from before 2.4, of which nothing is known, and where the version has none.
    package var cacheCRC: UInt32 { word(fields.cacheCRC) }

    /// SHA-1 of the message; nothing before version 10, or if Cyrus has none.
    package var guid: MessageGUID? {
        guard fields.hasGUID else { return nil }
        let start = base + Int(fields.guid)
        let guid = MessageGUID(bytes: Array(image.slice(start..<start + MessageGUID.byteCount)))
        return guid.isNull ? nil : guid
    }

    /// Whether the message has flag `number` of `MailboxHeader.userFlags`.
    package func hasUserFlag(_ number: Int) -> Bool {
        guard (0..<128).contains(number) else { return false }
        return userFlagWord(number / 32) >> UInt32(number % 32) & 1 == 1
    }

    /// 32 user flags at a time: words 0 to 3.
    package func userFlagWord(_ index: Int) -> UInt32 { image.integer(at: base + Int(fields.userFlags) + 4 * index) }

    /// As stored, and as it should be; nothing before version 12.
    package var crc: (stored: UInt32, computed: UInt32)? {
        guard fields.crc.isPresent else { return nil }
        return (word(fields.crc), image.checksum(of: base..<base + Int(fields.crc.offset)))
    }

    package var isCRCRight: Bool { crc.map { $0.stored == $0.computed } ?? true }

    /// The message file should be there.
    package var hasFile: Bool { !flags.contains(.unlinked) }
    package var isExpunged: Bool { flags.contains(.expunged) }
    /// The message file is in the archive partition.
    package var isArchived: Bool { flags.contains(.archived) }

    /// What `bytes`, so many as a record has, were in its place.
    package func replaced(by bytes: ArraySlice<UInt8>) -> IndexRecord {
        precondition(bytes.count == byteCount, "\(bytes.count) of \(byteCount) bytes")
        return IndexRecord(image: FileImage(bytes), base: 0, fields: fields, time: time, byteCount: byteCount)
    }

    /// Its bytes, checksum included.
    package var bytes: ArraySlice<UInt8> { image.slice(base..<base + byteCount) }

    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let answered = Flags(rawValue: 1)
        package static let flagged = Flags(rawValue: 2)
        package static let deleted = Flags(rawValue: 4)
        package static let draft = Flags(rawValue: 8)
        /// The owner's, or everybody's in a mailbox with the option `sharedSeen`.
        package static let seen = Flags(rawValue: 16)
        package static let snoozed = Flags(rawValue: 1 << 26)
        package static let splitConversation = Flags(rawValue: 1 << 27)
        package static let needsCleanup = Flags(rawValue: 1 << 28)
        package static let archived = Flags(rawValue: 1 << 29)
        /// The message file is removed or about to be.
        package static let unlinked = Flags(rawValue: 1 << 30)
        /// No longer a message of the mailbox; record and file may be kept for a while.
        package static let expunged = Flags(rawValue: 1 << 31)
    }

    private func long(_ field: IndexLayout.Field) -> UInt64 { image.value(of: field, base: base) }
    private func word(_ field: IndexLayout.Field) -> UInt32 { UInt32(truncatingIfNeeded: long(field)) }
}

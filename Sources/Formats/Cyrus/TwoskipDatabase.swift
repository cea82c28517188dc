/// A twoskip database (lib/cyrusdb_twoskip.c), read only: mailboxes.db, annotations.db, deliver.db, seen.db….
///
///     file    header (64, `TwoskipHeader`) | record | record | …             records begin at multiples of 8
///     record  type 1 | level 1 | keylen 2 | vallen 4                         FFFF, FFFFFFFF: the length follows
///             [keylen 8] [vallen 8]
///             next (8) × (level + 1)
///             crc32_head 4 | crc32_tail 4                                    of all before; of all behind
///             key | value | zeros up to a multiple of 8
///     type    = dummy, the first one, of level 31     + record     - deletion     $ end of a transaction
///
/// Records are a linked list in the order of keys, with express lanes above it. The lowest lane has two pointers
/// per record, next[0] and next[1], used in turn: the higher one below `committedByteCount` holds, so an unfinished
/// transaction cannot be seen. Lane i above it is next[i + 1]. A deletion's next[0] is the next live record.
///
/// Bytes of any kind may be read: every offset is checked, and no walk takes more steps than the file has records.
package struct TwoskipDatabase: Sendable {
    package let header: TwoskipHeader
    let image: FileImage
    /// End of what may be read.
    let end: Int

    /// Throws if there is no twoskip header. What else is wrong with it, `findings` tells.
    package init(_ bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }
    package init(copying bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        try self.init(FileImage(copying: bytes))
    }

    init(_ image: FileImage) throws(MalformedBytes) {
        self.image = image
        header = try TwoskipHeader(image)
        end = min(Int(clamping: header.committedByteCount), image.byteCount)
    }

    /// For a file of this length: as Cyrus would find it.
    package var isClean: Bool { header.isClean(fileByteCount: image.byteCount) }

    /// Live pairs in the order of their keys, as of the last whole transaction.
    package func cursor() -> TwoskipCursor { TwoskipCursor(self) }

    /// All live pairs, at once.
    package func entries() throws(MalformedBytes) -> [DatabaseEntry] {
        var entries: [DatabaseEntry] = []
        entries.reserveCapacity(min(Int(clamping: header.recordCount), image.byteCount / 24))
        var cursor = cursor()
        while let entry = try cursor.next() { entries.append(entry) }
        return entries
    }

    /// The value of `key`; its checksum is verified. Keys must be sorted by `order`.
    package func value(
        of key: some Collection<UInt8>, order: KeyOrder = .raw
    ) throws(MalformedBytes) -> ArraySlice<UInt8>? {
        let wanted = Array(key)[...]
        var record = try record(at: Self.dummyOffset)
        var lane = Self.levelMax
        while lane > 0 {
            guard let next = try live(at: pointer(of: record, lane: lane - 1)) else {
                lane -= 1
                continue
            }
            if self.key(of: next) == wanted {
                try checkTail(of: next)
                return value(of: next)
            }
            guard order.precedes(self.key(of: next), wanted) else {
                lane -= 1
                continue
            }
            guard record.type == .dummy || order.precedes(self.key(of: record), self.key(of: next)) else {
                throw MalformedBytes("twoskip", at: next.offset, "its key is not above the one before")
            }
            record = next
        }
        return nil
    }

    /// What is wrong with the whole file, at most `max` findings: all that Cyrus's own check looks at, and the
    /// checksum of every key and value. After a damaged record nothing more can be reached.
    package func findings(max: Int = 100, order: KeyOrder = .raw) -> [DatabaseFinding] {
        var findings: [DatabaseFinding] = []
        if !header.isCRCRight {
            findings.append(.wrongHeaderCRC(stored: header.storedCRC, computed: header.computedCRC))
        }
        let committed = Int(clamping: header.committedByteCount)
        if committed > image.byteCount {
            findings.append(.truncated(committedByteCount: committed, fileByteCount: image.byteCount))
        } else if header.isDirty || committed < image.byteCount {
            findings.append(.unfinished(committedByteCount: committed, fileByteCount: image.byteCount))
        }
        findings += linkFindings(max: max, order: order)
        return Array(findings.prefix(max))
    }

    private func linkFindings(max: Int, order: KeyOrder) -> [DatabaseFinding] {
        var findings: [DatabaseFinding] = []
        do throws(MalformedBytes) {
            let dummy = try record(at: Self.dummyOffset)
            try checkTail(of: dummy)
            var expected = (0..<Self.levelMax).map { pointer(of: dummy, lane: $0) }
            var cursor = TwoskipCursor(self)
            var previous: ArraySlice<UInt8>?
            var count = 0
            while let record = try cursor.nextRecord(), findings.count < max {
                try checkTail(of: record)
                let key = key(of: record)
                if let previous, !order.precedes(previous, key) {
                    findings.append(.keyNotAscending(offset: record.offset))
                }
                for lane in 1..<Swift.max(1, record.level) where expected[lane] != record.offset {
                    findings.append(.brokenLink(offset: record.offset, level: lane))
                }
                for lane in 0..<record.level { expected[lane] = pointer(of: record, lane: lane) }
                previous = key
                count += 1
            }
            guard findings.count < max else { return findings }
            for lane in 1..<Self.levelMax where expected[lane] != 0 {
                findings.append(.brokenLink(offset: expected[lane], level: lane))
            }
            if UInt64(count) != header.recordCount {
                findings.append(.wrongCount(stored: Int(clamping: header.recordCount), computed: count))
            }
        } catch {
            findings.append(.damagedRecord(offset: error.offset, why: error.why))
        }
        return findings
    }

    /// The first record, of those in use and those that were replaced, that is not what was written. All that was ever
    /// committed stays as it is until a repack, but for pointers, of which the head's checksum is made anew.
    package func firstDamagedRecord() -> DatabaseFinding? {
        var offset = Self.dummyOffset
        do throws(MalformedBytes) {
            while offset < end {
                if image.holds(8, at: offset), image.integer(UInt64.self, at: offset) == Self.filler {
                    offset += 8
                    continue
                }
                let record = try record(at: offset)
                try checkTail(of: record)
                offset = record.end
            }
            return nil
        } catch {
            return .damagedRecord(offset: error.offset, why: error.why)
        }
    }

    /// " BLANK" 07 A0: in front of a record whose head would reach over a multiple of 512.
    private static let filler: UInt64 = 0x2042_4c41_4e4b_07a0
    static let levelMax = 31
    static let dummyOffset = TwoskipHeader.byteCount
    static let recordByteCountMin = 24
    /// Of any walk: no two records overlap in a sound file.
    var stepCountMax: Int { end / Self.recordByteCountMin + 1 }
}

// MARK: records

struct TwoskipRecord {
    enum Kind: UInt8 {
        case dummy = 0x3d
        case pair = 0x2b
        case deletion = 0x2d
        case commit = 0x24
    }
    let offset: Int
    let type: Kind
    let level: Int
    /// Of next[0].
    let pointers: Int
    let storedTailCRC: UInt32
    let key: Range<Int>
    let value: Range<Int>
    let end: Int
}

extension TwoskipDatabase {
    /// The record at `offset`, whose head has the right checksum.
    func record(at offset: Int) throws(MalformedBytes) -> TwoskipRecord {
        guard offset >= Self.dummyOffset, offset % 8 == 0, offset <= end - Self.recordByteCountMin else {
            throw MalformedBytes("twoskip", at: offset, "no record can begin there")
        }
        guard let type = TwoskipRecord.Kind(rawValue: image.integer(at: offset)) else {
            throw MalformedBytes("twoskip", at: offset, "not a type of record")
        }
        let level = Int(image.integer(UInt8.self, at: offset + 1))
        guard level <= Self.levelMax else { throw MalformedBytes("twoskip", at: offset, "level \(level)") }
        var position = offset + 8
        var keyCount = UInt64(image.integer(UInt16.self, at: offset + 2))
        var valueCount = UInt64(image.integer(UInt32.self, at: offset + 4))
        if keyCount == UInt64(UInt16.max) { keyCount = try long(at: &position, of: offset) }
        if valueCount == UInt64(UInt32.max) { valueCount = try long(at: &position, of: offset) }
        let pointers = position
        position += 8 * (level + 1)
        let room = UInt64(Swift.max(0, end - position - 8))
        guard position + 8 <= end, keyCount <= room, valueCount <= room - keyCount else {
            throw MalformedBytes("twoskip", at: offset, "a record longer than the file")
        }
        let key = position + 8..<position + 8 + Int(keyCount)
        let value = key.upperBound..<key.upperBound + Int(valueCount)
        let padded = key.lowerBound + (value.upperBound - key.lowerBound + 7) & ~7
        guard padded <= end else { throw MalformedBytes("twoskip", at: offset, "a record longer than the file") }
        guard image.checksum(of: offset..<position) == image.integer(UInt32.self, at: position) else {
            throw MalformedBytes("twoskip", at: offset, "checksum mismatch in the head of a record")
        }
        return TwoskipRecord(
            offset: offset, type: type, level: level, pointers: pointers,
            storedTailCRC: image.integer(at: position + 4), key: key, value: value, end: padded)
    }

    private func long(at position: inout Int, of offset: Int) throws(MalformedBytes) -> UInt64 {
        guard position + 8 <= end else { throw MalformedBytes("twoskip", at: offset, "a record longer than the file") }
        defer { position += 8 }
        return image.integer(at: position)
    }

    /// Where the record after this one in `lane` is, 0 if it's the last.
    func pointer(of record: TwoskipRecord, lane: Int) -> Int {
        func next(_ index: Int) -> UInt64 {
            index <= record.level ? image.integer(UInt64.self, at: record.pointers + 8 * index) : 0
        }
        guard lane == 0 else { return Int(clamping: next(lane + 1)) }
        let (one, other) = (next(0), next(1))
        if one >= header.committedByteCount { return Int(clamping: other) }
        if other >= header.committedByteCount { return Int(clamping: one) }
        return Int(clamping: Swift.max(one, other))
    }

    func live(at offset: Int) throws(MalformedBytes) -> TwoskipRecord? {
        var stepsLeft = stepCountMax
        return try live(at: offset, &stepsLeft)
    }

    /// The record at `offset`, or the one that a deletion there leads to; nothing at the end of the list. Each takes one
    /// of `stepsLeft`, so that a walk whose every step is a long one ends, too.
    func live(at offset: Int, _ stepsLeft: inout Int) throws(MalformedBytes) -> TwoskipRecord? {
        var offset = offset
        while offset != 0, stepsLeft > 0 {
            stepsLeft -= 1
            let record = try record(at: offset)
            guard record.type == .deletion else {
                guard record.type == .pair else { throw MalformedBytes("twoskip", at: offset, "linked, but no pair") }
                return record
            }
            offset = Int(clamping: image.integer(UInt64.self, at: record.pointers))
        }
        guard offset == 0 else { throw MalformedBytes("twoskip", at: offset, "the list has no end") }
        return nil
    }

    func key(of record: TwoskipRecord) -> ArraySlice<UInt8> { image.slice(record.key) }
    func value(of record: TwoskipRecord) -> ArraySlice<UInt8> { image.slice(record.value) }

    func checkTail(of record: TwoskipRecord) throws(MalformedBytes) {
        guard image.checksum(of: record.key.lowerBound..<record.end) == record.storedTailCRC else {
            throw MalformedBytes("twoskip", at: record.offset, "checksum mismatch in a key or value")
        }
    }
}

/// Goes through the live pairs of a database in the order of their keys; checks each head, not the tails.
package struct TwoskipCursor: Sendable {
    private let database: TwoskipDatabase
    /// Of the next record; 0 at the end, nothing before the beginning.
    private var upcoming: Int?
    private var stepsLeft: Int

    init(_ database: TwoskipDatabase) {
        self.database = database
        stepsLeft = database.stepCountMax
    }

    /// Nothing at the end. After it has thrown, don't ask again.
    package mutating func next() throws(MalformedBytes) -> DatabaseEntry? {
        guard let record = try nextRecord() else { return nil }
        return DatabaseEntry(
            key: database.key(of: record), value: database.value(of: record), offset: record.offset)
    }

    mutating func nextRecord() throws(MalformedBytes) -> TwoskipRecord? {
        let offset: Int
        if let upcoming {
            offset = upcoming
        } else {
            let dummy = try database.record(at: TwoskipDatabase.dummyOffset)
            guard dummy.type == .dummy, dummy.level == TwoskipDatabase.levelMax else {
                throw MalformedBytes("twoskip", at: dummy.offset, "the first record is not the dummy")
            }
            offset = database.pointer(of: dummy, lane: 0)
        }
        guard let record = try database.live(at: offset, &stepsLeft) else {
            upcoming = 0
            return nil
        }
        upcoming = database.pointer(of: record, lane: 0)
        return record
    }
}

/// A skiplist database (lib/cyrusdb_skiplist.c), read only: conversations.db, and most databases before 2.5.
///
///     header  48, see `SkiplistHeader`
///     record  type 4: 1 INORDER, 2 ADD, 257 DUMMY (the first one, of level maxlevel)
///               | keylen 4 | key, padded to 4 | datalen 4 | data, padded to 4 | next (4) × level | FFFFFFFF
///             type 4: 4 DELETE | offset of the deleted record 4
///             type 4: 255 COMMIT
///
/// Up to logstart lie records in the order of keys, from then on a log of transactions, each ending in COMMIT; what
/// follows the last COMMIT is unfinished. Live pairs are the lowest list of pointers. There are no checksums, and
/// pointers are changed in place: only a copy read under the file's lock is right.
package struct SkiplistDatabase: Sendable {
    package let header: SkiplistHeader
    let image: FileImage

    /// Throws if the header or the dummy behind it is not sound.
    package init(_ bytes: [UInt8]) throws(MalformedBytes) { try self.init(FileImage(bytes)) }
    package init(copying bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        try self.init(FileImage(copying: bytes))
    }

    init(_ image: FileImage) throws(MalformedBytes) {
        self.image = image
        header = try SkiplistHeader(image)
        let dummy = try record(at: SkiplistHeader.byteCount)
        guard dummy.type == .dummy, dummy.key.isEmpty, dummy.value.isEmpty, dummy.level == header.levelMax else {
            throw MalformedBytes("skiplist", at: SkiplistHeader.byteCount, "the first record is not the dummy")
        }
        guard header.logStart >= dummy.end, header.logStart <= image.byteCount, header.logStart % 4 == 0 else {
            throw MalformedBytes("skiplist", at: 40, "the log begins at \(header.logStart) of \(image.byteCount) bytes")
        }
    }

    /// Live pairs in the order of their keys.
    package func cursor() -> SkiplistCursor { SkiplistCursor(self) }

    /// All live pairs, at once.
    package func entries() throws(MalformedBytes) -> [DatabaseEntry] {
        var entries: [DatabaseEntry] = []
        var cursor = cursor()
        while let entry = try cursor.next() { entries.append(entry) }
        return entries
    }

    /// End of the last whole transaction; throws if the log cannot be read up to the end of the file, but for an
    /// unfinished record at the very end.
    package func committedByteCount() throws(MalformedBytes) -> Int {
        var position = header.logStart
        var committed = header.logStart
        while image.holds(4, at: position) {
            let type: UInt32 = image.integer(at: position)
            switch SkiplistRecord.Kind(rawValue: type) {
            case .commit:
                position += 4
                committed = position
            case .delete:
                position += 8
            case .add, .inOrder, .dummy:
                guard let record = try? record(at: position) else { return committed }  // the torn end of the log
                position = record.end
            case nil:
                // Interrupted recoveries have left zeros; Cyrus skips them (recovery).
                guard type == 0 else { throw MalformedBytes("skiplist", at: position, "\(type) is no type of record") }
                position += 4
            }
        }
        return committed
    }

    package func findings(max: Int = 100, order: KeyOrder = .raw) -> [DatabaseFinding] {
        var findings: [DatabaseFinding] = []
        do throws(MalformedBytes) {
            let committed = try committedByteCount()
            if committed != image.byteCount {
                findings.append(.unfinished(committedByteCount: committed, fileByteCount: image.byteCount))
            }
            var expected = try pointers(of: record(at: SkiplistHeader.byteCount))
            var cursor = cursor()
            var previous: ArraySlice<UInt8>?
            while let record = try cursor.nextRecord(), findings.count < max {
                let key = image.slice(record.key)
                if let previous, !order.precedes(previous, key) {
                    findings.append(.keyNotAscending(offset: record.offset))
                }
                for (lane, next) in pointers(of: record).enumerated() where lane < expected.count {
                    if expected[lane] != record.offset {
                        findings.append(.brokenLink(offset: record.offset, level: lane))
                    }
                    expected[lane] = next
                }
                previous = key
            }
        } catch {
            findings.append(.damagedRecord(offset: error.offset, why: error.why))
        }
        return Array(findings.prefix(max))
    }
}

struct SkiplistRecord {
    enum Kind: UInt32 {
        case inOrder = 1
        case add = 2
        case delete = 4
        case commit = 255
        case dummy = 257
    }
    let offset: Int
    let type: Kind
    let key: Range<Int>
    let value: Range<Int>
    let pointers: Int
    let level: Int
    var end: Int { pointers + 4 * level + 4 }
}

extension SkiplistDatabase {
    /// The pair or dummy at `offset`.
    func record(at offset: Int) throws(MalformedBytes) -> SkiplistRecord {
        guard offset >= SkiplistHeader.byteCount, offset % 4 == 0, image.holds(16, at: offset) else {
            throw MalformedBytes("skiplist", at: offset, "no record can begin there")
        }
        guard let type = SkiplistRecord.Kind(rawValue: image.integer(at: offset)), type != .commit, type != .delete
        else { throw MalformedBytes("skiplist", at: offset, "no key and value there") }
        let key = try string(at: offset + 4, of: offset)
        let value = try string(at: key.lowerBound + padded(key.count), of: offset)
        let pointers = value.lowerBound + padded(value.count)
        var level = 0
        while true {
            guard level <= SkiplistHeader.levelCountMax, image.holds(4, at: pointers + 4 * level) else {
                throw MalformedBytes("skiplist", at: offset, "pointers without an end")
            }
            if image.integer(UInt32.self, at: pointers + 4 * level) == .max { break }
            level += 1
        }
        guard level > 0 else { throw MalformedBytes("skiplist", at: offset, "no pointers") }
        return SkiplistRecord(offset: offset, type: type, key: key, value: value, pointers: pointers, level: level)
    }

    /// The bytes behind their count at `position`.
    private func string(at position: Int, of offset: Int) throws(MalformedBytes) -> Range<Int> {
        guard image.holds(4, at: position) else { throw MalformedBytes("skiplist", at: offset, "a record cut short") }
        let count = Int(image.integer(UInt32.self, at: position))
        guard image.holds(padded(count), at: position + 4) else {
            throw MalformedBytes("skiplist", at: offset, "a record longer than the file")
        }
        return position + 4..<position + 4 + count
    }

    private func padded(_ count: Int) -> Int { (count + 3) & ~3 }

    func pointers(of record: SkiplistRecord) -> [Int] {
        (0..<record.level).map { Int(image.integer(UInt32.self, at: record.pointers + 4 * $0)) }
    }
}

/// Goes through the live pairs of a database in the order of their keys.
package struct SkiplistCursor: Sendable {
    private let database: SkiplistDatabase
    /// Of the next record; 0 at the end, nothing before the beginning.
    private var upcoming: Int?
    private var stepsLeft: Int

    init(_ database: SkiplistDatabase) {
        self.database = database
        stepsLeft = database.image.byteCount / 16 + 1
    }

    /// Nothing at the end. After it has thrown, don't ask again.
    package mutating func next() throws(MalformedBytes) -> DatabaseEntry? {
        guard let record = try nextRecord() else { return nil }
        return DatabaseEntry(
            key: database.image.slice(record.key), value: database.image.slice(record.value), offset: record.offset)
    }

    mutating func nextRecord() throws(MalformedBytes) -> SkiplistRecord? {
        let offset: Int
        if let upcoming { offset = upcoming } else { offset = try first() }
        guard offset != 0 else {
            upcoming = 0
            return nil
        }
        guard stepsLeft > 0 else { throw MalformedBytes("skiplist", at: offset, "the list has no end") }
        stepsLeft -= 1
        let record = try database.record(at: offset)
        guard record.type != .dummy else { throw MalformedBytes("skiplist", at: offset, "linked, but no pair") }
        upcoming = Int(database.image.integer(UInt32.self, at: record.pointers))
        return record
    }

    private func first() throws(MalformedBytes) -> Int {
        let dummy = try database.record(at: SkiplistHeader.byteCount)
        return Int(database.image.integer(UInt32.self, at: dummy.pointers))
    }
}

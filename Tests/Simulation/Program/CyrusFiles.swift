import Digests
import Formats

// The files of a mailbox, as Cyrus 3.6 writes them (cyrus.index 17, cache 11, uuid directories), from what they say.

/// A mailbox, and what its files say.
struct ModelMailbox {
    let user: String
    /// Internal: `user.alice.Sent`.
    var name: String
    let uniqueID: String
    let uidValidity: UInt32
    var messages: [ModelMessage] = []
    var lastUID: UInt32 = 0
    var modseq: UInt64 = 1
    var flags: [String] = []
    /// Bytes of the mailbox's own annotations, which are in annotations.db.
    var annotationByteCount = 0
    var generation: UInt32 = 1
    /// The bytes of cyrus.cache.
    var cache: [UInt8]

    init(user: String, name: String, uniqueID: String, uidValidity: UInt32) {
        self.user = user
        self.name = name
        self.uniqueID = uniqueID
        self.uidValidity = uidValidity
        cache = []
        cache.add(generation)
    }

    var directory: [UInt8] { MailboxPath.directory(uniqueID: uniqueID.utf8) ?? [] }

    var header: [UInt8] {
        let names = flags.isEmpty ? "" : " U (\(flags.joined(separator: " ")))"
        return MailboxHeader.magic
            + Array("%(T e N \(name) I \(uniqueID) A %(\(user) lrswipkxtecdan)\(names))\n".utf8)
    }

    /// The first 160 bytes of cyrus.index.
    var indexHeader: [UInt8] {
        let live = messages.filter { !$0.isExpunged }
        func count(_ flag: UInt32) -> UInt32 { UInt32(live.count { $0.systemFlags & flag != 0 }) }
        var bytes = [UInt8](repeating: 0, count: 160)
        bytes.put(generation, at: 0)
        bytes.put(UInt32(17), at: 8)
        bytes.put(UInt32(160), at: 12)
        bytes.put(UInt32(112), at: 16)
        bytes.put(UInt32(messages.count), at: 20)
        bytes.put(messages.last?.date ?? 0, at: 24)
        bytes.put(lastUID, at: 28)
        bytes.put(live.reduce(0) { $0 + UInt64($1.byteCount) }, at: 32)
        bytes.put(uidValidity, at: 44)
        bytes.put(count(4), at: 48)
        bytes.put(count(1), at: 52)
        bytes.put(count(2), at: 56)
        bytes.put(modseq, at: 68)
        bytes.put(UInt32(live.count), at: 84)
        bytes.put(crc32(header), at: 96)
        bytes.put(live.reduce(0) { $0 ^ $1.syncCRC(flags) }, at: 100)
        bytes.put(UInt32(annotationByteCount), at: 116)
        bytes.put(UInt32(12_345_678), at: 120)
        bytes.put(UInt32(live.count) - count(16), at: 124)
        bytes.put(crc32(bytes[..<156]), at: 156)
        return bytes
    }

    var index: [UInt8] { indexHeader + messages.flatMap(\.record) }

    func offset(ofRecord number: Int) -> Int { 160 + 112 * number }

    /// Without what nobody refers to any more.
    mutating func repack() {
        generation += 1
        messages.removeAll(where: \.isUnlinked)
        let old = cache
        cache = []
        cache.add(generation)
        for index in messages.indices {
            let offset = messages[index].cacheOffset
            messages[index].cacheOffset = cache.count
            cache += old[offset..<offset + messages[index].cacheByteCount]
        }
    }
}

/// A message's record in cyrus.index.
struct ModelMessage {
    let uid: UInt32
    let date: UInt32
    let byteCount: Int
    let guid: MessageGUID
    var cacheOffset: Int
    let cacheByteCount: Int
    let cacheCRC: UInt32
    var systemFlags: UInt32 = 0
    var userFlags: UInt32 = 0
    var modseq: UInt64
    var lastUpdated: UInt32

    static let expunged: UInt32 = 1 << 31
    static let unlinked: UInt32 = 1 << 30
    var isExpunged: Bool { systemFlags & Self.expunged != 0 }
    var isUnlinked: Bool { systemFlags & Self.unlinked != 0 }

    var record: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 112)
        bytes.put(uid, at: 0)
        bytes.put(date, at: 4)
        bytes.put(date, at: 8)
        bytes.put(UInt32(byteCount), at: 12)
        bytes.put(UInt32(cacheOffset), at: 24)
        bytes.put(lastUpdated, at: 28)
        bytes.put(systemFlags, at: 32)
        bytes.put(userFlags, at: 36)
        bytes.put(UInt32(11), at: 56)
        bytes.replaceSubrange(60..<80, with: guid.bytes)
        bytes.put(modseq, at: 80)
        bytes.put(cacheCRC, at: 104)
        bytes.put(crc32(bytes[..<108]), at: 108)
        return bytes
    }

    /// What Cyrus's own replication sums up (imap/mailbox.c, crc_basic).
    func syncCRC(_ names: [String]) -> UInt32 {
        var sum: UInt32 = 0
        for (flag, name) in [(4, "\\deleted"), (1, "\\answered"), (2, "\\flagged"), (8, "\\draft"), (16, "\\seen")]
        where systemFlags & UInt32(flag) != 0 {
            sum ^= crc32(Array(name.utf8))
        }
        for (number, name) in names.enumerated() where userFlags >> UInt32(number) & 1 == 1 {
            sum ^= crc32(Array(name.lowercased().utf8))
        }
        return crc32(Array("\(uid) \(modseq) \(lastUpdated) (\(sum)) \(date) \(guid)".utf8))
    }
}

/// A record of cyrus.cache: ten items.
func cacheRecord(_ subject: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    for number in 0..<10 {
        let item = number == 9 ? subject : [UInt8](repeating: UInt8(ascii: "a") + UInt8(number), count: 3 * number)
        bytes.add(UInt32(item.count))
        bytes += item + [UInt8](repeating: 0, count: (4 - item.count % 4) % 4)
    }
    return bytes
}

/// mailboxes.db: a twoskip database of these mailboxes, as after a repack.
func mailboxesDatabase(_ mailboxes: [ModelMailbox], generation: UInt64) -> [UInt8] {
    var pairs: [(key: [UInt8], value: [UInt8])] = []
    for mailbox in mailboxes {
        let name = MailboxName(internalName: mailbox.name.utf8).databaseName()
        let tail = " P default V \(mailbox.uidValidity) C 1 F 1 M 1000000000 A %(\(mailbox.user) lrswipkxtecdan)"
        pairs.append(([UInt8(ascii: "N")] + name, Array("%(T e I \(mailbox.uniqueID)\(tail))".utf8)))
        pairs.append(
            (
                Array("I\(mailbox.uniqueID)".utf8), Array("%(T e N ".utf8) + name + Array("\(tail) H ())".utf8)
            ))
    }
    pairs.sort { $0.key.lexicographicallyPrecedes($1.key) }
    return twoskip(pairs, generation: generation)
}

/// annotations.db, with one annotation of each mailbox that has any.
func annotationsDatabase(_ byteCounts: [String: Int], generation: UInt64) -> [UInt8] {
    let pairs = byteCounts.sorted { $0.key < $1.key }.map { id, byteCount in
        (key: annotationKey(id), value: [UInt8](repeating: UInt8(ascii: "x"), count: byteCount))
    }
    return twoskip(pairs, generation: generation)
}

/// deliver.db (imap/duplicate.c), with the content's digest for a message id.
func deliveriesDatabase(_ deliveries: [(guid: MessageGUID, mailbox: String)], generation: UInt64) -> [UInt8] {
    let pairs = deliveries.map {
        (key: Array("\($0.guid)\0\($0.mailbox)\0\0".utf8), value: [UInt8](repeating: 0, count: 16))
    }
    return twoskip(pairs.sorted { $0.key.lexicographicallyPrecedes($1.key) }, generation: generation)
}

func annotationKey(_ uniqueID: String) -> [UInt8] { Array("\(uniqueID)\0/comment\0\0".utf8) }

private func twoskip(_ pairs: [(key: [UInt8], value: [UInt8])], generation: UInt64) -> [UInt8] {
    func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8) }
    func record(_ type: Character, _ level: Int, _ key: [UInt8], _ value: [UInt8], _ pointers: [Int]) -> [UInt8] {
        var bytes: [UInt8] = [type.asciiValue!, UInt8(level)]
        bytes.add(UInt16(key.count))
        bytes.add(UInt32(value.count))
        for pointer in pointers { bytes.add(UInt64(pointer)) }
        bytes.add(crc32(bytes))
        bytes.add(crc32(padded(key + value)))
        return bytes + padded(key + value)
    }
    var offset = 336
    var offsets: [Int] = []
    for (key, value) in pairs {
        offsets.append(offset)
        offset += 8 + 16 + 8 + padded(key + value).count
    }
    var next = [Int](repeating: 0, count: 31)
    var pieces: [[UInt8]] = []
    for (pair, offset) in zip(pairs, offsets).reversed() {
        pieces.append(record("+", 1, pair.key, pair.value, [0, next[0]]))
        next[0] = offset
    }
    let dummy = record("=", 31, [], [], [0] + next)
    let commit = record("$", 0, [], [], [336])
    var head: [UInt8] = TwoskipHeader.magic
    head.add(UInt32(1))
    for value in [generation, UInt64(pairs.count), UInt64(offset + 24), UInt64(offset + 24)] { head.add(value) }
    head.add(UInt32(0))
    head.add(crc32(head))
    return head + dummy + pieces.reversed().flatMap { $0 } + commit
}

extension [UInt8] {
    mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        Swift.withUnsafeBytes(of: value.bigEndian) { replaceSubrange(offset..<offset + $0.count, with: $0) }
    }

    mutating func add<Value: FixedWidthInteger>(_ value: Value) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }
}

internal import Digests

/// The two checksums by which Cyrus's own replication compares mailboxes (imap/mailbox.c, crc_basic and crc_annot).
///
///     basic   0 XOR, for each message,
///             crc32("uid modseq last_updated (flags) internaldate guid")      flags: XOR of the crc32 of each lower-case name
///     annot   12345678 XOR, for each annotation of a message, crc32("uid entry userid " value)
///             of which cid, savedate and createdmodseq of the index record are made up, with no userid
///
/// Messages that are expunged do not count. An XOR: the order of adding is all one.
struct SyncCRC {
    private(set) var basic: UInt32 = 0
    private(set) var annotations: UInt32 = 12_345_678
    private let version: Int
    /// CRC-32 of the lower-case name of each user flag; nothing for a hole.
    private let userFlags: [UInt32?]
    private var text: [UInt8] = []

    /// Of versions whose formulas were compared with what a Cyrus wrote.
    static let versionsOfBasic = 12...19
    static let versionsOfAnnotations = 13...19

    init(version: Int, userFlags: [[UInt8]?]) {
        self.version = version
        self.userFlags = userFlags.map { name in name.map { crc32($0.map(Self.lowerCase)) } }
        text.reserveCapacity(256)
    }

    /// `record` must not be expunged.
    mutating func add(_ record: IndexRecord) {
        addBasic(record)
        guard Self.versionsOfAnnotations.contains(version) else { return }
        addMadeUp(record, "thrid", record.threadID, radix: 16)
        if version >= 15 { addMadeUp(record, "savedate", UInt64(clamping: record.saveDate), radix: 10) }
        if version >= 16 { addMadeUp(record, "createdmodseq", record.createdModseq, radix: 10) }
    }

    private mutating func addBasic(_ record: IndexRecord) {
        text.removeAll(keepingCapacity: true)
        append(UInt64(record.uid))
        append(record.modseq)
        text.append(contentsOf: String(record.lastUpdated).utf8)
        text.append(contentsOf: " (".utf8)
        append(UInt64(flagSum(record)))
        text[text.count - 1] = UInt8(ascii: ")")
        text.append(UInt8(ascii: " "))
        text.append(contentsOf: String(record.internalDate).utf8)
        text.append(UInt8(ascii: " "))
        if let guid = record.guid {
            for byte in guid.bytes {
                text.append(Self.digits[Int(byte >> 4)])
                text.append(Self.digits[Int(byte & 15)])
            }
        } else {
            text.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: 2 * MessageGUID.byteCount))
        }
        basic ^= crc32(text)
    }

    /// The number and a blank.
    private mutating func append(_ number: UInt64) {
        text.append(contentsOf: String(number).utf8)
        text.append(UInt8(ascii: " "))
    }

    private func flagSum(_ record: IndexRecord) -> UInt32 {
        var sum: UInt32 = 0
        for (flag, crc) in Self.systemFlags where record.flags.contains(flag) { sum ^= crc }
        for word in 0..<4 {
            var bits = record.userFlagWord(word)
            while bits != 0 {
                let number = 32 * word + bits.trailingZeroBitCount
                if number < userFlags.count { sum ^= userFlags[number] ?? 0 }
                bits &= bits - 1
            }
        }
        return sum
    }

    private mutating func addMadeUp(_ record: IndexRecord, _ entry: String, _ value: UInt64, radix: Int) {
        guard value != 0 else { return }
        let value = Array(String(value, radix: radix).utf8)
        add(uid: record.uid, entry: Array((Self.namespace + entry).utf8), user: [], value: value[...])
    }

    /// An annotation of a message that is not expunged.
    mutating func add(uid: UInt32, entry: [UInt8], user: [UInt8], value: ArraySlice<UInt8>) {
        annotations ^= crc(uid, entry, user, value)
    }

    private mutating func crc(
        _ uid: UInt32, _ entry: [UInt8], _ user: [UInt8], _ value: ArraySlice<UInt8>
    ) -> UInt32 {
        text.removeAll(keepingCapacity: true)
        append(UInt64(uid))
        text += entry
        text.append(UInt8(ascii: " "))
        text += user
        text.append(UInt8(ascii: " "))
        text += value
        return crc32(text)
    }

    /// Whether Cyrus takes `entry` from the index record and not from the database (mailbox_is_virtannot).
    func isMadeUp(_ entry: [UInt8]) -> Bool {
        func equals(_ name: String) -> Bool { entry.elementsEqual((Self.namespace + name).utf8) }
        return version >= 13 && equals("thrid") || version >= 15 && equals("savedate")
            || version >= 16 && equals("createdmodseq")
    }

    private static let namespace = "/vendor/cmu/cyrus-imapd/"
    private static let digits = Array("0123456789abcdef".utf8)
    private static let systemFlags: [(IndexRecord.Flags, UInt32)] = [
        (.deleted, sum("\\deleted")), (.answered, sum("\\answered")), (.flagged, sum("\\flagged")),
        (.draft, sum("\\draft")), (.seen, sum("\\seen")),
    ]

    private static func sum(_ name: String) -> UInt32 { crc32(Array(name.utf8)) }

    private static func lowerCase(_ byte: UInt8) -> UInt8 {
        byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
    }
}

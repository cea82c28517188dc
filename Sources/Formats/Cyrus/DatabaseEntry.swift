/// A key and its value in one of Cyrus's databases, and where its record is in the file.
package struct DatabaseEntry: Equatable, Sendable {
    package let key: ArraySlice<UInt8>
    package let value: ArraySlice<UInt8>
    package let offset: Int
}

/// How the keys of a database are sorted.
package enum KeyOrder: Sendable {
    /// By their bytes: all databases of 3.6 and later.
    case raw
    /// With tab, line feed and dot before all others: mailboxes.db and sub.db before, with improved_mboxlist_sort.
    case mailbox

    /// Whether `one` stands before `other`.
    package func precedes(_ one: ArraySlice<UInt8>, _ other: ArraySlice<UInt8>) -> Bool {
        switch self {
        case .raw: one.lexicographicallyPrecedes(other)
        case .mailbox: one.lexicographicallyPrecedes(other) { Self.weight($0) < Self.weight($1) }
        }
    }

    /// As lib/bsearch.c, convert_to_compare.
    private static func weight(_ byte: UInt8) -> UInt8 {
        switch byte {
        case 0: 0
        case 0x09, 0x0a: 1
        case MailboxName.dot: 2
        case 0x01...0x08: byte + 2
        default: byte
        }
    }
}

/// Something about a database that contradicts itself.
package enum DatabaseFinding: Equatable, Sendable {
    case wrongHeaderCRC(stored: UInt32, computed: UInt32)
    /// A transaction was begun and not finished: the writer died, or is at it and no lock was taken for reading.
    case unfinished(committedByteCount: Int, fileByteCount: Int)
    /// The file ends before what its header says was committed.
    case truncated(committedByteCount: Int, fileByteCount: Int)
    /// What is at `offset` isn't a record, or its checksum is wrong.
    case damagedRecord(offset: Int, why: String)
    case keyNotAscending(offset: Int)
    /// A pointer of an upper level leads past the record or to none.
    case brokenLink(offset: Int, level: Int)
    case wrongCount(stored: Int, computed: Int)

    /// What must not be sent over a good copy.
    package var isDamage: Bool {
        if case .unfinished = self { return false }
        return true
    }
}

extension DatabaseFinding: CustomStringConvertible {
    package var description: String {
        switch self {
        case .wrongHeaderCRC(let stored, let computed):
            "header: checksum is \(hexadecimal32(stored)), its bytes make \(hexadecimal32(computed))"
        case .unfinished(let committed, let file):
            "an unfinished transaction: committed up to offset \(committed), the file has \(file) bytes"
        case .truncated(let committed, let file):
            "committed up to offset \(committed), the file has only \(file) bytes"
        case .damagedRecord(let offset, let why): "record at offset \(offset): \(why)"
        case .keyNotAscending(let offset): "record at offset \(offset): its key is not above the one before"
        case .brokenLink(let offset, let level): "record at offset \(offset): level \(level) is not linked to it"
        case .wrongCount(let stored, let computed): "the header counts \(stored) records, \(computed) are linked"
        }
    }
}

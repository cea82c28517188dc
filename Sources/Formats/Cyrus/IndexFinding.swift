/// Something about a cyrus.index that contradicts itself.
package enum IndexFinding: Equatable, Sendable {
    case wrongHeaderCRC(stored: UInt32, computed: UInt32)
    /// The file ends before the records that the header counts.
    case truncated(counted: Int, whole: Int)
    case wrongRecordCRC(number: Int, uid: UInt32)
    case uidNotAscending(number: Int, uid: UInt32, previous: UInt32)
    case uidAboveLast(number: Int, uid: UInt32, lastUID: UInt32)
    case modseqAboveHighest(number: Int, uid: UInt32, modseq: UInt64, highest: UInt64)
    /// A number in the header is not what the records add up to.
    case wrongCount(of: Count, stored: UInt64, computed: UInt64)
    /// Bit `flag` is set in a message that is there, and cyrus.header has no name for it.
    case flagWithoutName(number: Int, uid: UInt32, flag: Int)
    case wrongSyncCRC(of: SyncCRC, stored: UInt32, computed: UInt32)

    package enum SyncCRC: String, Sendable {
        case basic = "synccrc_basic"
        case annotations = "synccrc_annot"
    }

    package enum Count: String, Sendable {
        case exists, answered, flagged, deleted, unseen
        case quotaMailboxUsed = "quota_mailbox_used"
    }

    /// Damage is what must not be sent over a good copy: the file's own checksums fail, or part of it is missing.
    /// What is merely inconsistent was written so by Cyrus, or was read while it was being written.
    package var isDamage: Bool {
        switch self {
        case .wrongHeaderCRC, .truncated, .wrongRecordCRC: true
        case .uidNotAscending, .uidAboveLast, .modseqAboveHighest, .wrongCount, .flagWithoutName, .wrongSyncCRC: false
        }
    }
}

extension IndexFinding: CustomStringConvertible {
    package var description: String {
        switch self {
        case .wrongHeaderCRC(let stored, let computed):
            "header: checksum is \(hexadecimal32(stored)), its bytes make \(hexadecimal32(computed))"
        case .truncated(let counted, let whole):
            "the header counts \(counted) records, the file holds \(whole)"
        case .wrongRecordCRC(let number, let uid):
            "record \(number), uid \(uid): checksum mismatch"
        case .uidNotAscending(let number, let uid, let previous):
            "record \(number): uid \(uid) follows uid \(previous)"
        case .uidAboveLast(let number, let uid, let lastUID):
            "record \(number): uid \(uid) is above the header's last uid \(lastUID)"
        case .modseqAboveHighest(let number, let uid, let modseq, let highest):
            "record \(number), uid \(uid): modseq \(modseq) is above the header's highest \(highest)"
        case .wrongCount(let count, let stored, let computed):
            "header: \(count.rawValue) is \(stored), the records make \(computed)"
        case .flagWithoutName(let number, let uid, let flag):
            "record \(number), uid \(uid): user flag \(flag) has no name in cyrus.header"
        case .wrongSyncCRC(let sum, let stored, let computed):
            "header: \(sum.rawValue) is \(hexadecimal32(stored)), the records make \(hexadecimal32(computed))"
        }
    }
}

extension IndexImage {
    /// What is wrong with the header and the records in `range`, which is cut to those that are there; at most
    /// `max` findings. Sums are compared when the range is everything.
    package func findings(records range: Range<Int>? = nil, max: Int = 100) -> [IndexFinding] {
        var findings: [IndexFinding] = []
        if let crc = header.crc, crc.stored != crc.computed {
            findings.append(.wrongHeaderCRC(stored: crc.stored, computed: crc.computed))
        }
        if header.recordCount > wholeRecordCount {
            findings.append(.truncated(counted: header.recordCount, whole: wholeRecordCount))
        }
        let all = 0..<recordCount
        let wanted = range?.clamped(to: all) ?? all
        var sums = IndexSums()
        var order = IndexOrder(header, after: wanted.lowerBound > 0 ? uid(at: wanted.lowerBound - 1) : 0)
        for number in wanted where findings.count < max {
            let record = record(at: number)
            findings += order.findings(record, number: number)
            sums.add(record)
        }
        if wanted == all, header.recordCount == recordCount { findings += sums.differences(from: header) }
        return Array(findings.prefix(max))
    }

    /// The record range that covers these bytes of the file: what to check after that part was rewritten.
    package func records(coveringBytes range: Range<Int>) -> Range<Int> {
        let size = header.recordByteCount
        let first = Swift.max(0, range.lowerBound - header.startOffset) / size
        let end = (Swift.max(0, range.upperBound - header.startOffset) + size - 1) / size
        return (first..<Swift.max(first, end)).clamped(to: 0..<recordCount)
    }
}

/// Looks at the records of an index one after the other.
struct IndexOrder {
    private let header: IndexHeader
    private var previous: UInt32

    /// `previous`: the UID of the record before the first.
    init(_ header: IndexHeader, after previous: UInt32 = 0) {
        self.header = header
        self.previous = previous
    }

    mutating func findings(_ record: IndexRecord, number: Int) -> [IndexFinding] {
        var findings: [IndexFinding] = []
        let uid = record.uid
        if !record.isCRCRight { findings.append(.wrongRecordCRC(number: number, uid: uid)) }
        if uid <= previous { findings.append(.uidNotAscending(number: number, uid: uid, previous: previous)) }
        if uid > header.lastUID {
            findings.append(.uidAboveLast(number: number, uid: uid, lastUID: header.lastUID))
        }
        // Versions 8 and 9 are found with the halves of a record's modseq exchanged.
        if record.modseq > header.highestModseq, header.version >= 10 {
            findings.append(
                .modseqAboveHighest(number: number, uid: uid, modseq: record.modseq, highest: header.highestModseq))
        }
        previous = uid
        return findings
    }
}

/// What the header should count, from the records that aren't expunged.
struct IndexSums {
    var exists: UInt64 = 0, answered: UInt64 = 0, flagged: UInt64 = 0, deleted: UInt64 = 0, unseen: UInt64 = 0
    var bytes: UInt64 = 0

    mutating func add(_ record: IndexRecord) {
        let flags = record.flags
        guard !flags.contains(.expunged) else { return }
        exists += 1
        if flags.contains(.answered) { answered += 1 }
        if flags.contains(.flagged) { flagged += 1 }
        if flags.contains(.deleted) { deleted += 1 }
        if !flags.contains(.seen) { unseen += 1 }
        bytes &+= record.size
    }

    /// Versions without the field `unseen`, or with expunged messages in a file of their own, are left out.
    func differences(from header: IndexHeader) -> [IndexFinding] {
        guard header.version >= 12 else { return [] }
        var pairs: [(IndexFinding.Count, UInt64, UInt64)] = [
            (.exists, UInt64(header.exists), exists), (.answered, UInt64(header.answered), answered),
            (.flagged, UInt64(header.flagged), flagged), (.deleted, UInt64(header.deleted), deleted),
            (.quotaMailboxUsed, header.quotaMailboxUsed, bytes),
        ]
        if header.layout.header.unseen.isPresent { pairs.append((.unseen, UInt64(header.unseen), unseen)) }
        return pairs.filter { $0.1 != $0.2 }.map { .wrongCount(of: $0.0, stored: $0.1, computed: $0.2) }
    }
}

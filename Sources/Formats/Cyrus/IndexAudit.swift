/// A whole cyrus.index judged by all that it and cyrus.header say, one record after the other, so that it need not be
/// in memory: what `IndexImage.findings` looks at, user flags, and the checksums of Cyrus's own replication.
///
/// Add every record in order, then the annotations in any order, then ask `finish`.
package struct IndexAudit {
    package let header: IndexHeader
    private var order: IndexOrder
    private var sums = IndexSums()
    private var sync: SyncCRC
    private let names: [[UInt8]?]?
    private var count = 0
    private var findings: [IndexFinding] = []
    private let findingsMax: Int
    /// Whether something stands in the annotations that Cyrus itself counts now this way, now that.
    private var isAnnotationSumVague = false

    /// `userFlags`: of cyrus.header; nothing if there is none that could be read.
    package init(header: IndexHeader, userFlags: [[UInt8]?]?, findingsMax: Int) {
        self.header = header
        self.findingsMax = findingsMax
        names = userFlags
        order = IndexOrder(header)
        sync = SyncCRC(version: header.version, userFlags: userFlags ?? [])
        if let crc = header.crc, crc.stored != crc.computed {
            findings.append(.wrongHeaderCRC(stored: crc.stored, computed: crc.computed))
        }
    }

    package mutating func add(_ record: IndexRecord) {
        let number = count
        count += 1
        if findings.count < findingsMax { findings += order.findings(record, number: number) }
        sums.add(record)
        // Flags that no message has any more lose their names, also if an expunged one has them (imap/cyr_expire.c).
        guard !record.isExpunged else { return }
        if names != nil { checkNames(record, number) }
        sync.add(record)
    }

    private mutating func checkNames(_ record: IndexRecord, _ number: Int) {
        guard let names, findings.count < findingsMax else { return }
        for word in 0..<4 {
            var bits = record.userFlagWord(word)
            while bits != 0 {
                let flag = 32 * word + bits.trailingZeroBitCount
                if flag >= names.count || names[flag] == nil {
                    findings.append(.flagWithoutName(number: number, uid: record.uid, flag: flag))
                }
                bits &= bits - 1
            }
        }
    }

    /// An annotation of a message that is in the index and not expunged. `owner`: of the mailbox.
    package mutating func add(_ annotation: MessageAnnotation, owner: [UInt8]?) {
        guard !annotation.isDeleted, !sync.isMadeUp(annotation.entry) else { return }
        // One without a value counts when all is added up, and not when it is set (mailbox_annot_changed).
        if annotation.value.isEmpty { isAnnotationSumVague = true }
        sync.add(
            uid: annotation.uid, entry: annotation.entry, user: annotation.user ?? owner ?? [], value: annotation.value)
    }

    /// All that is wrong. `annotations`: whether all of them were added, for the owner whom they were made for.
    package func finish(annotations: Annotations) -> [IndexFinding] {
        var findings = findings
        guard count == header.recordCount else {
            return findings + [.truncated(counted: header.recordCount, whole: count)]
        }
        findings += sums.differences(from: header)
        if names != nil { findings += syncFindings(annotations) }
        return findings
    }

    package enum Annotations: Sendable { case complete, unknown }

    private func syncFindings(_ annotations: Annotations) -> [IndexFinding] {
        var findings: [IndexFinding] = []
        // Of neither is the sum 0 but by a rare chance; 2.4 and 2.5 wrote that where they had not computed any.
        if SyncCRC.versionsOfBasic.contains(header.version), let stored = header.syncCRCBasic, stored != sync.basic,
            stored != 0 || header.version >= 16
        {
            findings.append(.wrongSyncCRC(of: .basic, stored: stored, computed: sync.basic))
        }
        if annotations == .complete, !isAnnotationSumVague, SyncCRC.versionsOfAnnotations.contains(header.version),
            let stored = header.syncCRCAnnotations, stored != sync.annotations, stored != 0 || header.version >= 16
        {
            findings.append(.wrongSyncCRC(of: .annotations, stored: stored, computed: sync.annotations))
        }
        return findings
    }
}

import Digests

/// Writes a cyrus.index of any version from offsets copied out of the tables of Cyrus's formats, a second time and
/// apart from `IndexLayout`, so that a slip in either shows.
struct IndexBuilder {
    let version: Int
    let headerByteCount: Int
    let recordByteCount: Int
    let hasCRC: Bool
    /// name:offset:bytes …
    let header: String
    let record: String

    static let all: [IndexBuilder] = [
        IndexBuilder(6, 76, 60, false, base + early, oldRecord),
        IndexBuilder(7, 76, 72, false, base + early, oldRecord + cacheVersion),
        IndexBuilder(8, 92, 80, false, base + early + modseq, oldRecord + cacheVersion + " modseq:72:8"),
        IndexBuilder(9, 96, 80, false, base + early + modseq, oldRecord + cacheVersion + " modseq:72:8"),
        IndexBuilder(10, 96, 88, false, base + early + modseq, oldRecord + cacheVersion + guid),
        IndexBuilder(
            12, 128, 96, true, base + early + modseq + v12, oldRecord + cacheVersion + guid + " cacheCRC:88:4"),
        IndexBuilder(
            13, 128, 104, true, base + early + modseq + v12 + v13,
            oldRecord + cacheVersion + guid + cid + " cacheCRC:96:4"),
        IndexBuilder(
            14, 160, 104, true, base + early + modseq + v12 + v13 + v14,
            oldRecord + cacheVersion + guid + cid + " cacheCRC:96:4"),
        IndexBuilder(
            15, 160, 104, true, base + early + modseq + v12 + v13 + v14,
            oldRecord + cacheVersion + guid + cid + " saveDate:52:4 cacheCRC:96:4"),
        IndexBuilder(16, 160, 112, true, base + early + modseq + v12 + v13 + v14 + v16, newRecord),
        IndexBuilder(17, 160, 112, true, base + early + modseq + v12 + v13 + v14 + v16, newRecord),
        IndexBuilder(18, 160, 112, true, base + early + modseq + v12 + v13 + v14 + v16, newRecord),
        IndexBuilder(19, 160, 112, true, base + v19, newRecord),
        IndexBuilder(20, 192, 144, true, v20, v20Record),
    ]

    init(_ version: Int, _ headerBytes: Int, _ recordBytes: Int, _ hasCRC: Bool, _ header: String, _ record: String) {
        self.version = version
        headerByteCount = headerBytes
        recordByteCount = recordBytes
        self.hasCRC = hasCRC
        self.header = header
        self.record = record
    }

    private static let base =
        "generation:0:4 lastAppend:24:4 lastUID:28:4 quota:32:8 uidValidity:44:4 deleted:48:4 answered:52:4 flagged:56:4"
    private static let early = " options:60:4"
    private static let modseq = " modseq:68:8"
    private static let v12 =
        " deletedModseq:76:8 exists:84:4 firstExpunged:88:4 repack:92:4 headerCRC:96:4 basic:100:4 recentUID:104:4 recentTime:108:4"
    private static let v13 = " annotQuota:116:4 annot:120:4"
    private static let v14 = " unseen:124:4"
    private static let v16 = " createdModseq:128:8"
    private static let v19 =
        " exists:60:4 options:64:4 modseq:72:8 deletedModseq:80:8 firstExpunged:88:4 repack:92:4 headerCRC:96:4 basic:100:4 recentUID:104:4 recentTime:108:4 annotQuota:116:4 annot:120:4 unseen:124:4 createdModseq:128:8"
    private static let v20 =
        "generation:0:4 lastAppend:24:8 quota:32:8 deleted:48:4 answered:52:4 flagged:56:4 exists:60:4 options:64:4 modseq:72:8 deletedModseq:80:8 lastUID:88:4 uidValidity:92:4 headerCRC:96:4 basic:100:4 recentTime:104:8 annot:120:4 unseen:124:4 createdModseq:128:8 annotQuota:152:8 firstExpunged:168:8 repack:176:8 recentUID:184:4"
    private static let oldRecord =
        "uid:0:4 internalDate:4:4 sentDate:8:4 size:12:4 headerSize:16:4 cacheOffset:24:4 updated:28:4 flags:32:4 userFlags:36:4"
    private static let cacheVersion = " cacheVersion:56:4"
    private static let guid = " guid:60:20 modseq:80:8"
    private static let cid = " cid:88:8"
    private static let newRecord =
        oldRecord + cacheVersion + guid + cid + " saveDate:52:4 createdModseq:96:8 cacheCRC:104:4"
    private static let v20Record =
        "uid:0:4 cacheOffset:4:4 internalDate:8:8 sentDate:16:8 size:24:8 headerSize:32:4 flags:36:4 userFlags:40:4 cacheVersion:56:4 guid:60:20 modseq:80:8 cid:88:8 createdModseq:96:8 updated:112:8 saveDate:120:8 cacheCRC:136:4"

    var hasField: Set<String> {
        Set((header + " " + record).split(separator: " ").map { String($0.prefix { $0 != ":" }) })
    }

    func hasHeaderField(_ name: String) -> Bool { header.contains(name + ":") }
    func hasRecordField(_ name: String) -> Bool { record.contains(name + ":") }

    func bytes(_ values: [String: UInt64], records: [[String: UInt64]]) -> [UInt8] {
        var bytes = fill(header, headerByteCount, values)
        bytes.put(UInt32(version), at: 8)
        bytes.put(UInt32(headerByteCount), at: 12)
        bytes.put(UInt32(recordByteCount), at: 16)
        bytes.put(UInt32(records.count), at: 20)
        if hasCRC { bytes.put(crc32(bytes.dropLast(4)), at: headerByteCount - 4) }
        for record in records {
            var piece = fill(self.record, recordByteCount, record)
            if hasCRC { piece.put(crc32(piece.dropLast(4)), at: recordByteCount - 4) }
            bytes += piece
        }
        return bytes
    }

    private func fill(_ fields: String, _ byteCount: Int, _ values: [String: UInt64]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        for field in fields.split(separator: " ") {
            let parts = field.split(separator: ":")
            guard let value = values[String(parts[0])], let offset = Int(parts[1]) else { continue }
            switch parts[2] {
            case "4": bytes.put(UInt32(truncatingIfNeeded: value), at: offset)
            case "8": bytes.put(value, at: offset)
            default: for index in 0..<20 { bytes[offset + index] = UInt8(truncatingIfNeeded: value) }
            }
        }
        return bytes
    }
}

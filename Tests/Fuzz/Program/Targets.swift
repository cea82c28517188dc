import Delta
import Digests
import Formats
import ReplicationLog
import Store

typealias FuzzTarget = @Sendable ([UInt8]) throws -> Void

/// All decoders, by name; a corpus of each is made by `Tests/Fuzz/run.py`.
let targets: [String: FuzzTarget] = [
    "frames": frames, "messages": messages, "records": records, "batches": batches, "sealed": sealed,
    "segments": segments, "deltas": deltas, "signatures": signatures, "compressed": compressed,
    "imapd-conf": imapdConf, "mailsync-conf": mailsyncConf, "index": index, "header": header, "cache": cache,
    "twoskip": twoskip, "skiplist": skiplist, "mailboxes": mailboxes, "quota": quota, "dlist": dlist,
    "small-databases": smallDatabases, "paths": paths,
]

// MARK: - ours

/// In pieces, as a network would have it: the first byte says how long they are.
private func frames(_ bytes: [UInt8]) throws {
    guard let first = bytes.first else { return }
    let step = Int(first) + 1
    var decoder = FrameDecoder()
    for start in stride(from: 1, to: bytes.count, by: step) {
        bytes[start..<min(start + step, bytes.count)].withUnsafeBytes { decoder.push($0) }
        while let message = try decoder.next() { try again(message) }
    }
}

private func messages(_ bytes: [UInt8]) throws { try again(try Message(decoding: bytes[...])) }

/// What was read is written as something that reads the same.
private func again(_ message: Message) throws {
    let encoded = message.encoded()
    let same = try Message(decoding: encoded[4...])
    precondition(same == message, "\(message) became \(same)")
}

private func records(_ bytes: [UInt8]) throws {
    var reader = ByteReader(bytes)
    while !reader.isAtEnd {
        let record = try Record(decoding: &reader)
        var writer = ByteWriter()
        record.encode(into: &writer)
        var second = ByteReader(writer.bytes)
        let same = try Record(decoding: &second)
        precondition(same == record, "\(record) became \(same)")
    }
}

private func batches(_ bytes: [UInt8]) throws { _ = try BatchReader.records(of: try SealedBatch(checking: bytes)) }

/// A payload that somebody sealed who can: four bytes say what it would be decompressed.
private func sealed(_ bytes: [UInt8]) throws {
    guard bytes.count >= 8 else { return }
    let payload = Array(bytes[8...])
    var reader = ByteReader(bytes)
    let rawBytes = Int(try reader.read(UInt32.self, "")) % (BatchHeader.rawBytesMax + 1)
    let count = Int(try reader.read(UInt32.self, ""))
    let header = max(rawBytes, payload.count)
    guard header <= BatchHeader.rawBytesMax, count <= min(header, BatchHeader.recordCountMax) else { return }
    let batch = SealedBatch.seal(
        payload: payload, rawBytes: header, recordCount: count,
        at: Position(epoch: Epoch(1), sequence: SequenceNumber(1)), after: .zero, timeNanoseconds: 0)
    _ = try BatchReader.records(of: batch)
}

/// A whole segment; and the batches of one, made to follow each other.
private func segments(_ bytes: [UInt8]) throws {
    try scan(SegmentHead(after: .zero, hash: .zero), bytes)
    let head = try SegmentHead(decoding: Array(bytes.prefix(SegmentHead.byteCount)))
    try scan(head, bytes)
}

private func scan(_ head: SegmentHead, _ bytes: [UInt8]) throws {
    var scan = SegmentScan(head: head)
    while case .batch(let batch) = scan.next({ (offset, count) -> [UInt8] in
        Array(bytes.dropFirst(offset).prefix(count))
    }) { _ = try BatchReader.records(of: batch) }
}

/// The first byte says how long the basis is, in hundreds of bytes.
private func deltas(_ bytes: [UInt8]) throws {
    guard let first = bytes.first else { return }
    let basis = (0..<Int(first) * 100).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    _ = try RsyncDelta.apply(Array(bytes.dropFirst()), basis: basis, resultBytesMax: 1 << 20)
}

private func signatures(_ bytes: [UInt8]) throws {
    _ = try RsyncDelta.encode(signature: bytes, new: (0..<4000).map { UInt8(truncatingIfNeeded: $0 &* 7) })
}

private func compressed(_ bytes: [UInt8]) throws {
    guard bytes.count >= 4 else { return }
    var reader = ByteReader(bytes)
    let rawBytes = Int(try reader.read(UInt32.self, ""))
    let raw = try Compression.decompress(bytes[4...], rawBytes: rawBytes)
    precondition(raw.count == rawBytes)
}

private func paths(_ bytes: [UInt8]) throws {
    let roots = [RootName.configuration, .sieve, RootName("partition-default"), RootName("metapartition-default")]
    let root = roots[Int(bytes.first ?? 0) % roots.count]
    guard let path = StorePath(root: root, path: bytes.dropFirst()) else { return }
    let role = FileRole(of: path)
    _ = ApplyRank(of: path, role: role, rules: StoreRules())
    _ = StoreUnit(of: path, .file, rules: PathRules())
    _ = StoreUnit(of: path, .directory, rules: PathRules(spoolHash: .hashed, letter: .ofWholeName, domains: .virtual))
    _ = MailboxPath.uniqueID(in: path.path)
    precondition(path.parent.isRoot || path.isWithin(path.parent))
}

// MARK: - configuration

private func imapdConf(_ bytes: [UInt8]) throws {
    let text = String(decoding: bytes, as: UTF8.self)
    // One that includes itself, and one that includes what it likes.
    let conf = try ImapdConf.parse(text, named: "imapd.conf") { (name: String) throws(IncludeFailure) in
        guard name != "none" else { throw IncludeFailure("none") }
        return text
    }
    for key in ["hashimapspool", "virtdomains", "a"] { _ = try? conf.flag(key) }  // a refusal is fine
    _ = try? StoreLayout(conf)  // a refusal is fine
}

private func mailsyncConf(_ bytes: [UInt8]) throws {
    let file = try KeyValueFile.parse(String(decoding: bytes, as: UTF8.self), named: "mailsync.conf")
    for entry in file.entries {
        _ = try? file.duration(entry.key, unit: .seconds)  // a refusal is fine, here and below
        _ = try? file.byteCount(entry.key)  //
        _ = try? file.integer(entry.key)  //
        _ = (Address(entry.value), Fingerprint(entry.value), Position(entry.value))
    }
}

// MARK: - Cyrus's

private func index(_ bytes: [UInt8]) throws {
    let image = try IndexImage(bytes)
    _ = image.findings()
    _ = image.findings(records: 1..<3)
    _ = image.records(coveringBytes: 0..<bytes.count)
    for record in image.records.prefix(1000) {
        _ = (record.uid, record.guid, record.modseq, record.cacheOffset, record.crc, record.bytes, record.flags)
        _ = CacheRecord.verdict(on: record, in: bytes[...])
    }
    _ = image.record(uid: 1)
}

private func header(_ bytes: [UInt8]) throws {
    _ = try MailboxHeader(decoding: MailboxHeader.magic + bytes)
}

private func cache(_ bytes: [UInt8]) throws {
    _ = CacheRecord.generation(of: bytes[...])
    for offset in [4, 5, 8, Int.max, bytes.count] { _ = CacheRecord.range(at: offset, in: bytes[...]) }
}

private func twoskip(_ bytes: [UInt8]) throws {
    for bytes in [bytes, Mended.twoskip(bytes)] {
        let database = try TwoskipDatabase(bytes)
        _ = database.findings()
        _ = database.isClean
        _ = try? database.value(of: [0x4e])  // a refusal is fine
        _ = try? database.entries()  // so is this
    }
}

private func skiplist(_ bytes: [UInt8]) throws {
    let database = try SkiplistDatabase(bytes)
    _ = database.findings()
    _ = try database.entries()
}

/// Key and value, with a zero between them.
private func mailboxes(_ bytes: [UInt8]) throws {
    let cut = bytes.firstIndex(of: 0) ?? bytes.endIndex
    for rules in [PathRules(), PathRules(spoolHash: .hashed, letter: .ofWholeName, domains: .virtual)] {
        let entry = try MailboxesDatabase.decode(key: bytes[..<cut], value: bytes[cut...].dropFirst(), rules: rules)
        switch entry {
        case .name(let name, let entry): _ = entry.directory(name: name, rules: rules)
        case .uniqueID(_, let entry):
            if let name = entry.name { _ = entry.directory(name: name, rules: rules) }
        case .other: break
        }
    }
}

private func quota(_ bytes: [UInt8]) throws { _ = try QuotaFile(decoding: bytes) }

private func dlist(_ bytes: [UInt8]) throws { _ = try DList(decoding: bytes) }

private func smallDatabases(_ bytes: [UInt8]) throws {
    _ = try? FlatDatabase(bytes)  // a refusal is fine, here and below
    _ = try? CountersFile(decoding: bytes)  //
    _ = try? SQLiteHeader(decoding: bytes).isWhole(fileByteCount: bytes.count)  //
}

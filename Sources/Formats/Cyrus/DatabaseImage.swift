package import Digests

/// The bytes of one of Cyrus's databases, whatever its engine: what is wrong with them, and what they hold.
package enum DatabaseImage {
    package struct Problem: Equatable, Sendable {
        package let why: String
        /// A writer died in the middle: Cyrus recovers the file when it opens it next.
        package let isUnfinished: Bool
    }

    /// Nothing for engines that are not known. A file of no bytes is an empty database.
    package static func problems(_ bytes: [UInt8], _ kind: DatabaseKind) -> [Problem] {
        guard !bytes.isEmpty else { return [] }
        do throws(MalformedBytes) {
            switch kind {
            case .twoskip:
                let database = try TwoskipDatabase(bytes)
                let found = told { database.findings(max: 10, order: $0) }
                guard found.isEmpty, let damage = database.firstDamagedRecord() else { return found }
                return [Problem(why: "\(damage)", isUnfinished: false)]
            case .skiplist:
                let database = try SkiplistDatabase(bytes)
                return told { database.findings(max: 10, order: $0) }
            case .flat: try checkFlat(bytes)
            case .quota: _ = try QuotaFile(decoding: bytes)
            case .counters:
                guard try CountersFile(decoding: bytes).isCRCRight else {
                    throw MalformedBytes("counters", at: bytes.count - 4, "checksum mismatch")
                }
            case .sqlite:
                guard try SQLiteHeader(decoding: bytes).isWhole(fileByteCount: bytes.count) else {
                    throw MalformedBytes("sqlite", at: bytes.count, "its length is not that told by its header")
                }
            case .plain: break
            }
            return []
        } catch {
            return [Problem(why: "\(error)", isUnfinished: false)]
        }
    }

    /// Old databases of mailbox names are sorted in another way; which one does not show.
    private static func told(_ findings: (KeyOrder) -> [DatabaseFinding]) -> [Problem] {
        let raw = findings(.raw)
        let isOrderWrong = raw.contains { if case .keyNotAscending = $0 { true } else { false } }
        let found = isOrderWrong ? findings(.mailbox) : raw
        return found.map { Problem(why: "\($0)", isUnfinished: !$0.isDamage) }
    }

    private static func checkFlat(_ bytes: [UInt8]) throws(MalformedBytes) {
        let entries = try FlatDatabase(bytes).entries
        for order in [KeyOrder.raw, .mailbox] {
            let isSorted = zip(entries, entries.dropFirst()).allSatisfy { order.precedes($0.key[...], $1.key[...]) }
            if isSorted { return }
        }
        throw MalformedBytes("flat database", at: 0, "its lines are not sorted")
    }

    /// Of the keys and values in their order, a count and the bytes of each: the same for two files that hold the same, as
    /// before and after a recovery or a repack. Nothing for engines without keys, and for what cannot be read.
    package static func recordsDigest(_ bytes: [UInt8], _ kind: DatabaseKind) -> Digest? {
        var writer = ByteWriter(reserving: bytes.count)
        do throws(MalformedBytes) {
            try forEachEntry(bytes, kind) { (key, value) throws(MalformedBytes) in
                writer.write(string: key)
                writer.write(string: value)
            }
        } catch {
            return nil
        }
        return Digest(of: writer.bytes)
    }

    /// In the order of the keys. Throws at what cannot be read, and what `body` throws.
    package static func forEachEntry(
        _ bytes: [UInt8], _ kind: DatabaseKind,
        _ body: (_ key: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>) throws(MalformedBytes) -> Void
    ) throws(MalformedBytes) {
        guard !bytes.isEmpty else { return }
        switch kind {
        case .twoskip:
            var cursor = try TwoskipDatabase(bytes).cursor()
            while let entry = try cursor.next() { try body(entry.key, entry.value) }
        case .skiplist:
            var cursor = try SkiplistDatabase(bytes).cursor()
            while let entry = try cursor.next() { try body(entry.key, entry.value) }
        case .flat:
            for entry in try FlatDatabase(bytes).entries { try body(entry.key[...], entry.value[...]) }
        case .quota, .counters, .sqlite, .plain:
            throw MalformedBytes("database", at: 0, "no keys and values in a file of kind \(kind.rawValue)")
        }
    }
}

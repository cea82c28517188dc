import Digests
import Formats
import Linux
import Store

/// What a replica knows of itself over a restart: `replica` in the state directory, `key value` lines, replaced whole.
///
/// Invariant: applied <= consistentAfter until that was reached, after which the store is exact at every whole batch.
struct ReplicaRecord: Equatable, Sendable {
    enum Phase: String, Sendable {
        case unseeded, seeding, seeded
    }

    var phase = Phase.unseeded
    /// Everything up to here is in the store and on disk.
    var applied = Position.zero
    /// From here on the copy that the seed left is consistent.
    var consistentAfter = Position.zero
    /// The highest epoch ever heard of: who is below it is refused.
    var epochSeen = Epoch(0)
    /// The primary's clock at `applied`, ns since 1970; 0 for none.
    var exactAt: Int64 = 0

    private static let fileName = "replica"

    init() {}

    /// Nothing read means a new state directory.
    init(in directory: String) throws(SystemError) {
        guard let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 1 << 16) else { return }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { continue }
            switch words[0] {
            case "phase": phase = Phase(rawValue: String(words[1])) ?? .unseeded
            case "applied": applied = Position(words[1]) ?? .zero
            case "consistent_after": consistentAfter = Position(words[1]) ?? .zero
            case "epoch_seen": epochSeen = Epoch(UInt32(words[1]) ?? 0)
            case "exact_at": exactAt = Int64(words[1]) ?? 0
            default: continue
            }
        }
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        let text = """
            phase \(phase.rawValue)
            applied \(applied)
            consistent_after \(consistentAfter)
            epoch_seen \(epochSeen)
            exact_at \(exactAt)

            """
        try AtomicFile.replace(directory: directory, name: Self.fileName, bytes: Array(text.utf8))
    }
}

extension ReplicaRecord {
    /// The store is a consistent copy, which could be promoted.
    var isCopy: Bool { phase == .seeded && applied >= consistentAfter }
}

/// Which position each changing file of a seed is as of: records up to there are in it already.
struct SeededVersions: Equatable, Sendable {
    var asOf: [StorePath: SequenceNumber] = [:]

    private static let fileName = "seeded"

    init() {}

    /// Whether what the log tells of `path` at `position` came with the seed. A log of a later epoch than that of the seed's
    /// end may have forked before, and its numbers mean something else.
    func have(_ path: StorePath, at position: Position, seededIn epoch: Epoch) -> Bool {
        guard let asOf = asOf[path] else { return false }
        return position.epoch <= epoch && position.sequence <= asOf
    }

    /// `path` and all below it were removed by the log: what comes there next is in the log, too. Whether anything was known of it.
    mutating func forget(_ path: StorePath) -> Bool {
        if asOf.removeValue(forKey: path) != nil { return true }
        let below = asOf.keys.filter { $0.isWithin(path) }
        for path in below { asOf[path] = nil }
        return !below.isEmpty
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        var writer = ByteWriter()
        writer.write(count: UInt64(asOf.count))
        for (path, sequence) in asOf {
            writer.write(path)
            writer.write(count: sequence.number)
        }
        try AtomicFile.replace(directory: directory, name: Self.fileName, bytes: writer.finish())
    }

    /// Empty if there is no such file. One that cannot be read costs checks that fail, and files sent whole.
    init(in directory: String) throws(SystemError) {
        guard let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 1 << 30) else { return }
        var reader = ByteReader(bytes)
        do throws(MalformedBytes) {
            for _ in 0..<(try reader.readCount(max: 1 << 30, "seeded: files")) {
                let path = try reader.readStorePath("seeded: path")
                asOf[path] = SequenceNumber(try reader.readCount(max: .max, "seeded: sequence"))
            }
        } catch {
            asOf = [:]
        }
    }

    static func remove(in directory: String) throws(SystemError) {
        try AtomicFile.remove(directory: directory, name: fileName)
    }
}

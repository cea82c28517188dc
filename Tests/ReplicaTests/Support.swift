import Delta
import Digests
import Formats
import Linux
import Scratch
import Seeded
import Store

@testable import Replica

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

let mail = RootName("partition-default")

func position(_ epoch: UInt32, _ sequence: UInt64) -> Position {
    Position(epoch: Epoch(epoch), sequence: SequenceNumber(sequence))
}

func content(_ byteCount: Int, seed: UInt64 = 1) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return generator.bytes(byteCount)
}

/// An empty store with its state directory; gone when the test lets go of it.
final class TemporaryStore: Sendable {
    private let directory = TemporaryDirectory()
    let layout: StoreLayout

    /// `sieve`: where the scripts are, if not beside the rest.
    init(sieve: String? = nil) throws {
        let path = directory.path
        for name in ["state", "conf", "mail", "sieve", "outside"] { _ = try Directory.make(path + "/" + name) }
        let text =
            "configdirectory: \(path)/conf\npartition-default: \(path)/mail\nsievedir: \(sieve ?? path + "/sieve")\n"
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        layout = try StoreLayout(conf)
    }

    var path: String { directory.path }

    func writer() throws -> StoreWriter {
        try StoreWriter(layout, quarantine: try Quarantine(path + "/state/quarantine"))
    }

    func applier() throws -> RecordApplier { RecordApplier(try writer(), layout: layout) }

    // MARK: - looking and planting, past the writer

    /// Below `path`: `mail/1.`, `outside/x`.
    func bytes(_ name: String) throws -> [UInt8] { try directory.bytes(name) }

    func put(_ bytes: [UInt8], _ name: String) throws { try directory.put(bytes, at: name) }

    func plantLink(_ name: String, to target: String) throws {
        try Directory(path).symlink(utf8(target), at: utf8(name))
    }

    func status(_ name: String) throws -> FileStatus? { try FileStatus.of(path + "/" + name) }

    /// All that is in the store, as one text a name: kind, mode, mtime of files, content's digest, link's target.
    /// Our own directories are left out, and the numbers of inodes told only as "the same as".
    func tree(_ top: [String] = ["conf", "mail", "sieve", "outside"]) throws -> [String: String] {
        let root = try Directory(path)
        var tree: [String: String] = [:]
        var inodes: [UInt64: String] = [:]
        func walk(_ directory: String) throws {
            let entries = try root.entries(of: utf8(directory))
            for name in entries.map({ String(decoding: $0.name, as: UTF8.self) }).sorted() where name != ".mailsync" {
                let path = directory + "/" + name
                guard let status = try root.status(of: utf8(path)) else { continue }
                let mode = String(status.mode, radix: 8)
                switch status.kind {
                case .directory:
                    tree[path] = "directory \(mode)"
                    try walk(path)
                case .symlink:
                    tree[path] = "link \(String(decoding: try root.readLink(utf8(path)), as: UTF8.self))"
                case .file:
                    let file = try root.open(utf8(path), for: .reading)
                    let digest = PageTable.digest(of: try file.readAll(max: 1 << 30))
                    let attributes = try file.extendedAttributes().map { "\($0.name) \($0.value)" }.sorted()
                    let same = inodes[status.inode] ?? ""
                    if status.linkCount > 1 { inodes[status.inode] = path }
                    tree[path] = "file \(mode) \(status.mtimeNanoseconds) \(digest) \(attributes) \(same)"
                case .other:
                    tree[path] = "other"
                }
            }
        }
        for name in top { try walk(name) }
        return tree
    }
}

extension Metadata {
    static let usual = Metadata(mode: 0o600, mtimeNanoseconds: 1_700_000_000_000_000_000)
}

/// Records as a primary makes them.
extension Record {
    static func whole(_ path: StorePath, _ bytes: [UInt8], _ metadata: Metadata = .usual) -> Record {
        Record(path, .whole(metadata, result: PageTable.digest(of: bytes), bytes: bytes))
    }

    static func extents(_ path: StorePath, from old: [UInt8], to new: [UInt8], _ metadata: Metadata = .usual) -> Record
    {
        let (before, after) = (PageTable(of: old), PageTable(of: new))
        let pages = after.changedPages(against: before)
        let extents = old.withUnsafeBytes { old in
            new.withUnsafeBytes { Extents.between(old: old, new: $0, pages: pages) }
        }
        return Record(
            path,
            .extents(
                metadata, basis: before.digest, result: after.digest, byteCount: new.count,
                extents.map { ExtentBytes(offset: $0.offset, bytes: Array(new[$0.range])) }))
    }

    static func delta(
        _ path: StorePath, from old: [UInt8], to new: [UInt8], _ metadata: Metadata = .usual
    ) throws -> Record {
        let delta = try RsyncDelta.encode(signature: try Signature.make(of: old, blockBytes: 512), new: new)
        return Record(
            path,
            .delta(
                metadata, basis: PageTable.digest(of: old), result: PageTable.digest(of: new), byteCount: new.count,
                delta: delta))
    }

    /// Pieces of 5000 bytes, and the record that names them.
    static func parts(_ path: StorePath, _ bytes: [UInt8], _ metadata: Metadata = .usual) -> [Record] {
        let result = PageTable.digest(of: bytes)
        let parts = stride(from: 0, to: bytes.count, by: 5000).map { start in
            Record(
                path, .part(result: result, offset: start, bytes: Array(bytes[start..<min(start + 5000, bytes.count)])))
        }
        return parts + [Record(path, .assembled(metadata, result: result, byteCount: bytes.count))]
    }
}

extension RecordApplier {
    func apply(_ record: Record, _ mode: Mode = .steady) throws -> Outcome {
        try apply(record, at: SequenceNumber(7), mode)
    }

    /// Expects each to be applied.
    func applyAll(_ records: [Record], _ mode: Mode = .steady) throws -> [Outcome] {
        try records.map { try apply($0, mode) }.filter { $0 != .applied }
    }
}

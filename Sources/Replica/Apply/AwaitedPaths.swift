import Digests
import Formats
import Linux

/// The files that could not be applied and were asked for whole, and up to where the store is exact without them.
///
/// `awaited` in the state directory, replaced whole at each checkpoint: a count, the paths, and the position `exact`, as
/// in the log's records. No such file means that nothing is awaited.
///
/// Invariant: exact <= the position applied; equal while nothing is awaited or in doubt.
struct AwaitedPaths: Equatable, Sendable {
    /// Whether it is known what of a batch could not be applied: in a replay that is seen at its end, and not before.
    enum Standing: Sendable {
        case settled, inDoubt
    }

    private(set) var paths: Set<StorePath> = []
    /// The last position applied before something was awaited. This is what is acked as applied.
    private(set) var exact: Position

    private static let fileName = "awaited"

    /// Nothing is awaited.
    init(exact: Position) { self.exact = exact }

    /// A batch was applied, but for `needed`; returns those that were not awaited before.
    mutating func applied(
        _ position: Position, needed: [StorePath], _ standing: Standing = .settled
    ) -> [StorePath] {
        let new = needed.filter { paths.insert($0).inserted }
        if paths.isEmpty, standing == .settled { exact = max(exact, position) }
        return new
    }

    /// `record` was applied: what it made or removed is awaited no more.
    mutating func arrived(_ record: Record) {
        guard !paths.isEmpty else { return }
        switch record.change {
        case .remove: paths = paths.filter { !$0.isWithin(record.path) }
        case .whole, .assembled, .link, .symlink, .directory: paths.remove(record.path)
        case .extents, .delta, .part, .metadata, .keep, .check: break
        }
    }

    /// What a checkpoint at `applied` has left; throws if that cannot be read or is damaged.
    init(in directory: String, applied: Position) throws {
        exact = applied
        guard let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 1 << 30) else { return }
        var reader = ByteReader(bytes)
        for _ in 0..<(try reader.readCount(max: 1 << 30, "awaited: files")) {
            paths.insert(try reader.readStorePath("awaited: path"))
        }
        if !paths.isEmpty { exact = min(applied, try reader.readPosition("awaited: position")) }
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        guard !paths.isEmpty else { return try Self.remove(in: directory) }
        var writer = ByteWriter()
        writer.write(count: UInt64(paths.count))
        for path in paths { writer.write(path) }
        writer.write(exact)
        try AtomicFile.replace(directory: directory, name: Self.fileName, bytes: writer.finish())
    }

    static func remove(in directory: String) throws(SystemError) {
        try AtomicFile.remove(directory: directory, name: fileName)
    }
}

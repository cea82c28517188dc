package import Formats
package import Linux

/// What the log was about that was trimmed before a replica had it: the paths, in a file, so that they come whole when
/// it is back. Grows with the paths that changed, not with the changes.
package struct MissedPaths: Sendable {
    /// The first position whose later batches are in here.
    package private(set) var since: Position
    /// The last.
    package private(set) var through: Position
    package private(set) var paths: Set<StorePath>

    package init(since: Position) {
        self.since = since
        through = since
        paths = []
    }

    /// Whether nothing is lost between this and a log of which `oldest` is the beginning.
    package func reaches(_ oldest: Position) -> Bool { through >= oldest }

    package mutating func add(_ records: [Record], at position: Position) {
        for record in records where !record.isCheck { paths.insert(record.path) }
        through = position
    }

    // MARK: - on disk

    /// Nothing if there is no such file, or if it is damaged: then the replica is seeded over what it has.
    package init?(in directory: String, replica: String) throws(SystemError) {
        guard let bytes = try AtomicFile.read(directory: directory, name: Self.name(replica), max: 1 << 30) else {
            return nil
        }
        var reader = ByteReader(bytes)
        do throws(MalformedBytes) {
            since = try reader.readPosition("missed: since")
            through = try reader.readPosition("missed: through")
            paths = []
            for _ in 0..<(try reader.readCount(max: 1 << 30, "missed: paths")) {
                paths.insert(try reader.readStorePath("missed: path"))
            }
        } catch {
            return nil
        }
    }

    /// On disk on return.
    package func save(in directory: String, replica: String) throws(SystemError) {
        var writer = ByteWriter()
        writer.write(since)
        writer.write(through)
        writer.write(count: UInt64(paths.count))
        for path in paths { writer.write(path) }
        try AtomicFile.replace(directory: directory, name: Self.name(replica), bytes: writer.finish())
    }

    package static func remove(in directory: String, replica: String) throws(SystemError) {
        try AtomicFile.remove(directory: directory, name: name(replica))
    }

    private static func name(_ replica: String) -> String { "missed-" + replica.filter { $0.isLetter || $0.isNumber } }
}

import Digests
package import Formats
package import Linux

/// Goes through a store at rest in the order of a manifest, reads all of it, and finds out if it was not at rest.
package final class ManifestWalk {
    private let roots: StoreRoots
    private let reader: ListingReader
    /// Of each directory, in the order of the walk: what its names looked like.
    private var seen: [UInt64] = []

    package init(_ roots: StoreRoots) {
        self.roots = roots
        reader = ListingReader(roots)
    }

    /// It changed while it was read; there is no manifest of it.
    package enum Failure: Error, CustomStringConvertible {
        case changed(StorePath)
        case system(SystemError)

        package var description: String {
            switch self {
            case .changed(let path): "\(path): changed while the store was read"
            case .system(let error): "\(error)"
            }
        }
    }

    /// Calls `body` with each line, those of the roots themselves included.
    package func run(_ body: (ManifestLine) throws -> Void) throws {
        for root in roots.names {
            let path = StorePath(root: root)
            guard let status = try roots.status(of: path), let entry = AuditEntry([], status, roots) else { continue }
            try body(ManifestLine(path: path, entry: entry, hash: nil))
            try walk(path, body)
        }
    }

    private func walk(_ directory: StorePath, _ body: (ManifestLine) throws -> Void) throws {
        guard let listing = try reader.list(directory) else { throw Failure.changed(directory) }
        seen.append(Self.look(listing))
        for item in listing.items {
            let path = directory.appending(item.entry.name)
            switch item.entry.kind {
            case .directory:
                try body(ManifestLine(path: path, entry: item.entry, hash: nil))
                try walk(path, body)
            case .symlink:
                let target = try roots.readLink(path)
                try body(ManifestLine(path: path, entry: item.entry.digestless, hash: ChainHash(of: target)))
            case .file:
                try body(ManifestLine(path: path, entry: item.entry, hash: try hash(path, item.status)))
            }
        }
    }

    private func hash(_ path: StorePath, _ status: FileStatus) throws -> ChainHash {
        let file: Descriptor
        do throws(SystemError) { file = try roots.open(path) } catch {
            guard error.errno == .noEntry else { throw error }
            throw Failure.changed(path)
        }
        var sum = ChainHashSum()
        try file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in sum.append(piece) }
        let now = try file.status()
        guard isSameFile(status, now), now.ctimeNanoseconds == status.ctimeNanoseconds else {
            throw Failure.changed(path)
        }
        return sum.finish()
    }

    /// Looks at every name once more, after `run`; throws `Failure.changed` if one looks otherwise.
    package func checkAtRest() throws {
        var number = 0
        for root in roots.names where try roots.status(of: StorePath(root: root)) != nil {
            try checkAtRest(StorePath(root: root), &number)
        }
    }

    private func checkAtRest(_ directory: StorePath, _ number: inout Int) throws {
        guard let listing = try reader.list(directory), number < seen.count, Self.look(listing) == seen[number] else {
            throw Failure.changed(directory)
        }
        number += 1
        for item in listing.items where item.entry.kind == .directory {
            try checkAtRest(directory.appending(item.entry.name), &number)
        }
    }

    private static func look(_ listing: DirectoryListing) -> UInt64 {
        AuditEntry.digest(
            ofHashes: listing.items.flatMap { item in
                [item.entry.hash, item.status.inode, UInt64(bitPattern: item.status.ctimeNanoseconds)]
            })
    }
}

extension AuditEntry {
    /// As it stands in a manifest, which has hashes of its own.
    package var digestless: AuditEntry {
        var entry = self
        entry.digest = nil
        return entry
    }
}

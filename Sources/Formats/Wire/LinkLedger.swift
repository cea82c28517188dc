import Digests

/// Which names of a store are one file, gathered directory by directory over an audit; both ends keep one and compare digests.
///
/// Of a name only a hash is kept, some 32 bytes for each file that has several names. The groups are dealt out into
/// `partCount` parts, so that a difference is about some of them only. A group is the names of one file that were noted, two
/// at least; that one name is in no directory of the audit makes no difference.
package struct LinkLedger: Sendable {
    private var files: [UInt64: [File]] = [:]

    private struct File {
        /// Hash of root and path.
        let name: UInt64
        let identity: Identity
    }

    /// A file on this machine, whatever its name is.
    package struct Identity: Hashable, Sendable {
        package let device: UInt64
        package let inode: UInt64

        package init(device: UInt64, inode: UInt64) {
            self.device = device
            self.inode = inode
        }
    }

    package static let partCount = 64

    package init() {}

    /// What `directory` has of files with several names; what was noted of it before is forgotten.
    package mutating func note(_ directory: StorePath, _ found: [(name: [UInt8], identity: Identity)]) {
        let key = Self.hash(directory)
        guard !found.isEmpty else {
            files[key] = nil
            return
        }
        files[key] = found.map { File(name: Self.hash(directory.appending($0.name)), identity: $0.identity) }
    }

    /// Of each part a digest that does not depend on the order in which anything was noted.
    package var digests: [UInt64] {
        var groups: [Identity: [UInt64]] = [:]
        for file in files.values.joined() { groups[file.identity, default: []].append(file.name) }
        var digests = [UInt64](repeating: 0, count: Self.partCount)
        for names in groups.values where names.count > 1 {
            let sorted = names.sorted()
            digests[Self.part(ofSmallest: sorted[0])] &+= AuditEntry.digest(ofHashes: sorted)
        }
        return digests
    }

    /// The part that a group of these names is in.
    package static func part(of group: [StorePath]) -> Int { part(ofSmallest: group.map(hash).min() ?? 0) }

    private static func part(ofSmallest name: UInt64) -> Int { Int(name % UInt64(partCount)) }

    private static func hash(_ path: StorePath) -> UInt64 {
        var writer = ByteWriter(reserving: path.path.count + path.root.name.utf8.count + 4)
        writer.write(path)
        return writer.bytes.withUnsafeBytes { checksum64($0) }
    }
}

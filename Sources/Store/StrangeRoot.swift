import Formats
package import Linux

/// A root of the store is empty and was not: most likely the mount point of a file system that is not mounted.
///
/// A replica would be followed, and promoted, as if nothing had happened; a primary would tell that all was removed.
package struct StrangeRoot: Error, Equatable, CustomStringConvertible {
    package enum End: Sendable { case primary, replica }

    let name: RootName
    let path: String
    let end: End

    /// Throws this if one of `roots`, which all had something in them, has nothing or is not there.
    package static func check(_ roots: some Sequence<StoreLayout.Root>, of end: End) throws {
        for root in roots where try !root.hasAnything() {
            throw StrangeRoot(name: root.name, path: root.path, end: end)
        }
    }

    package var description: String {
        switch end {
        case .primary: "\(name): \(path) is empty, and was not when mailsync ran last"
        case .replica: "\(name): \(path) is empty, and this replica was seeded into it"
        }
    }

    package var hint: String {
        "is its file system mounted, and the path in imapd.conf right? If it is empty on purpose, "
            + {
                switch end {
                case .primary: "put an empty file there: then the replicas are told that all else is removed"
                case .replica: "\"mailsync seed --overwrite\" compares the store with the primary"
                }
            }()
    }
}

extension StoreLayout {
    /// In each root, while a replica is at work there: what it makes before that is put in place.
    package static let replicaDirectory = Array(".mailsync".utf8)
}

extension StoreLayout.Root {
    /// But for what a replica makes.
    package func hasAnything() throws(SystemError) -> Bool {
        guard try FileStatus.of(path) != nil else { return false }
        return try Directory(path).entries().contains { !$0.name.elementsEqual(StoreLayout.replicaDirectory) }
    }
}

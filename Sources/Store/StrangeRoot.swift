package import Formats
package import Linux

/// A root of the store has no file, or is not there, and it had some: most likely its file system is not mounted. What is below a
/// mount point need not be nothing: an installation has often made Cyrus's directories there.
///
/// A replica would be followed, and promoted, as if nothing had happened; a primary would tell that all was removed.
package struct StrangeRoot: Error, Equatable, CustomStringConvertible {
    package enum End: Sendable { case primary, replica }

    let name: RootName
    let path: String
    let isThere: Bool
    let end: End

    /// Throws this if one of the roots of these names, which all had files, has none.
    package static func check(_ names: some Sequence<RootName>, of roots: StoreRoots, _ end: End) throws {
        for name in names where try !roots.hasFiles(in: name) {
            guard let root = roots.layout.root(name) else { continue }
            throw StrangeRoot(name: name, path: root.path, isThere: roots.names.contains(name), end: end)
        }
    }

    package var description: String {
        let before =
            switch end {
            case .primary: "and had files when mailsync looked last"
            case .replica: "and this replica was seeded into it"
            }
        return "\(name): \(path) \(isThere ? "has no file" : "is not there"), \(before)"
    }

    package var hint: String {
        let onPurpose =
            switch end {
            case .primary: "\"touch \(path)/removed\" says so, and the replicas are told that all else is gone"
            case .replica: "\"touch \(path)/removed\" says so, or \"mailsync seed --overwrite\" compares the store"
            }
        return
            "is its file system mounted, and the path in imapd.conf right? If all was removed on purpose, \(onPurpose)"
    }
}

extension StoreRoots {
    /// Whether there is any file in a root that travels. What may not be looked at is one, for `check` and capture to tell of.
    package func hasFiles(in root: RootName) throws(SystemError) -> Bool { try hasFiles(in: StorePath(root: root)) }

    private func hasFiles(in directory: StorePath) throws(SystemError) -> Bool {
        let found: [DirectoryEntry]?
        do throws(SystemError) { found = try entries(of: directory) } catch {
            guard error.errno == .accessDenied else { throw error }
            return true
        }
        for entry in found ?? [] where StorePath.isName(entry.name) {
            let path = directory.appending(entry.name)
            guard isShipped(path) else { continue }
            guard try kind(of: entry, at: path) == .directory else { return true }
            if try hasFiles(in: path) { return true }
        }
        return false
    }
}

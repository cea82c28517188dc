import Formats
import Linux
import Store

/// The roots of a replica's store in which there was something. One that is empty now is no copy, but most likely the mount
/// point of a file system that is not mounted: it would be followed, and promoted, as if nothing had happened.
struct SeededRoots: Equatable, Sendable {
    private(set) var names: Set<RootName> = []

    init() {}

    init(_ layout: StoreLayout) throws(SystemError) {
        for root in layout.roots where try Self.hasAnything(root.path) { names.insert(root.name) }
    }

    // MARK: - over a restart

    /// `root partition-default`, a line each.
    var lines: [String] { names.map { "root \($0.name)" }.sorted() }

    /// `word` is what stands behind `root`.
    mutating func add(_ word: Substring) { names.insert(RootName(String(word))) }

    /// Throws `StrangeRoot` if a root that had something has nothing, or is not there. One that came since may be empty.
    func check(_ layout: StoreLayout) throws {
        for root in layout.roots where names.contains(root.name) {
            if try !Self.hasAnything(root.path) { throw StrangeRoot(name: root.name, path: root.path) }
        }
    }

    private static func hasAnything(_ path: String) throws(SystemError) -> Bool {
        guard try FileStatus.of(path) != nil else { return false }
        return try Directory(path).entries().contains { !$0.name.elementsEqual(StoreWriter.own) }
    }
}

/// A root of the store has nothing in it, and this replica had.
package struct StrangeRoot: Error, CustomStringConvertible {
    let name: RootName
    let path: String

    package var description: String { "\(name): \(path) is empty, and this replica was seeded into it" }

    package static let hint =
        "is its file system mounted, and the path in imapd.conf right? If it is empty on purpose, "
        + "\"mailsync seed --overwrite\" compares the store with the primary"
}

import Formats
import Linux
import Store

/// The roots of a replica's store in which there was something; one that is empty now is a `StrangeRoot`.
struct SeededRoots: Equatable, Sendable {
    private(set) var names: Set<RootName> = []

    init() {}

    init(_ layout: StoreLayout) throws(SystemError) {
        for root in layout.roots where try root.hasAnything() { names.insert(root.name) }
    }

    // MARK: - over a restart

    /// `root partition-default`, a line each.
    var lines: [String] { names.map { "root \($0.name)" }.sorted() }

    /// `word` is what stands behind `root`.
    mutating func add(_ word: Substring) { names.insert(RootName(String(word))) }

    /// Throws `StrangeRoot` if a root that had something has nothing, or is not there. One that came since may be empty.
    func check(_ layout: StoreLayout) throws {
        try StrangeRoot.check(layout.roots.filter { names.contains($0.name) }, of: .replica)
    }
}

import Formats
import Linux
import Store

/// The roots of a replica's store in which there were files; one that has none now is a `StrangeRoot`.
struct SeededRoots: Equatable, Sendable {
    private(set) var names: Set<RootName> = []

    init() {}

    init(_ layout: StoreLayout) throws(SystemError) {
        let roots = try StoreRoots(layout, allowingMissing: true)
        for name in roots.names where try roots.hasFiles(in: name) { names.insert(name) }
    }

    // MARK: - over a restart

    /// `root partition-default`, a line each.
    var lines: [String] { names.map { "root \($0.name)" }.sorted() }

    /// `word` is what stands behind `root`.
    mutating func add(_ word: Substring) { names.insert(RootName(String(word))) }

    /// Of `thinned`, those in which nothing is left were emptied in order: they are not missed at the next start.
    mutating func forgetEmpty(of thinned: Set<RootName>, _ layout: StoreLayout) throws(SystemError) {
        let doubtful = names.intersection(thinned)
        guard !doubtful.isEmpty else { return }
        let roots = try StoreRoots(layout, allowingMissing: true)
        for name in doubtful where try !roots.hasFiles(in: name) { names.remove(name) }
    }

    /// Throws `StrangeRoot` if a root that had files has none, or is not there. One that came since may be empty.
    func check(_ layout: StoreLayout) throws {
        try StrangeRoot.check(names.sorted(), of: try StoreRoots(layout, allowingMissing: true), .replica)
    }
}

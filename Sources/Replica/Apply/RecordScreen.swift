import Formats
import Store
import Synchronization

/// What a replica takes from a log: only what a primary ships.
///
/// A primary that was broken into must not be able to reach by the log what is this host's own: locks, sockets and the
/// process table of the Cyrus here, what mailsync keeps aside, another root by a path that leads into it. By paths
/// alone; that no path leads out of its root, `StorePath` and `Directory` see to.
final class RecordScreen: Sendable {
    private let layout: StoreLayout
    private let nested: [StorePath]
    /// Directories of which, by all that they are in, nothing is to be refused. Most records are about few directories.
    private let travelling = Mutex<Set<StorePath>>([])
    private static let travellingMax = 4096

    init(_ layout: StoreLayout) {
        self.layout = layout
        nested = layout.roots.flatMap { layout.nestedRoots(in: $0.name) }
    }

    /// Why nothing is to be done; nothing if it may be.
    func refusal(of record: Record) -> String? {
        switch record.change {
        case .directory:
            refusal(of: record.path)
        case .check:
            // Reads only, and answers of what is shipped.
            nil
        case .link(let target, _):
            refusal(of: record.path) ?? holding(record.path) ?? refusal(of: target).map { "\(target): \($0)" }
        case .whole, .extents, .delta, .part, .assembled, .symlink, .metadata, .remove, .keep:
            refusal(of: record.path) ?? holding(record.path)
        }
    }

    /// The same of a path whose content is not touched.
    func refusal(of path: StorePath) -> String? {
        if nested.contains(where: { path.isWithin($0) }) {
            return "it is within another root, and has another name there"
        }
        guard !path.isRoot else { return nil }
        guard layout.role(of: path).shipping == .always else { return "\(path) never travels" }
        return refusal(ofDirectory: path.parent)
    }

    private func refusal(ofDirectory directory: StorePath) -> String? {
        if travelling.withLock({ $0.contains(directory) }) { return nil }
        var ancestor = directory
        while !ancestor.isRoot {
            guard layout.role(of: ancestor).shipping == .always else { return "\(ancestor) never travels" }
            ancestor = ancestor.parent
        }
        travelling.withLock { travelling in
            if travelling.count >= Self.travellingMax { travelling = [] }
            travelling.insert(directory)
        }
        return nil
    }

    /// What would go with `path`.
    private func holding(_ path: StorePath) -> String? {
        guard let root = nested.first(where: { $0.isWithin(path) }) else { return nil }
        return "\(root), another root, is within it"
    }
}

import Formats
import Linux
import Store

/// What differed from its row while an audit looked, and whether that was a change of which no event told.
///
/// A doubt is settled when its check is closed, by when the round has shipped what is new: then its row has changed, and
/// either an event has told of it or the change was missed.
struct MissedChanges {
    private let roots: StoreRoots
    private let catalogue: Catalogue
    private var doubts: [Doubt] = []
    /// Of checks that were closed before a round had looked: settled with the next check of their directory.
    private var unsettled: [Unsettled] = []
    /// What events told of since the first of the open checks began, or the first of what is unsettled.
    private var told = ToldPaths()
    /// Dirty since a check wants them looked at, and not since an event told of them.
    private var marked: Set<StorePath> = []

    /// Something that differed from its row, and the row.
    private struct Doubt {
        let path: StorePath
        let row: CatalogueEntry?
        let check: UInt64
    }

    private struct Unsettled {
        let path: StorePath
        let row: CatalogueEntry?
        let expiry: MonotonicTime
    }

    /// An audit that asks no more within this has ended, or gives up on that directory.
    private static let unsettledInterval = Duration.seconds(60)

    init(roots: StoreRoots, catalogue: Catalogue) {
        self.roots = roots
        self.catalogue = catalogue
    }

    // MARK: - what is told

    /// Nothing of closed checks is still to be settled.
    var isSettled: Bool { unsettled.isEmpty }

    mutating func note(_ hint: Hint) { told.insert(hint) }

    /// It was dirty before a check wanted it: whoever found it has told of it.
    mutating func note(_ dirt: DirtySet.Dirt) { told.insert(dirt, except: marked) }

    /// From now on an event that tells of it counts.
    mutating func forgetMarked(_ path: StorePath) { marked.remove(path) }

    /// A check makes it dirty.
    mutating func noteMarked(_ path: StorePath) {
        if !told.contains(path) { marked.insert(path) }
    }

    /// `waiting`: what open checks want looked at.
    mutating func roundBegins(waiting: @autoclosure () -> [StorePath]) {
        if !unsettled.isEmpty {
            let now = MonotonicTime.now()
            unsettled.removeAll { $0.expiry < now }
        }
        if !marked.isEmpty { marked.formIntersection(waiting() + unsettled.map(\.path)) }
    }

    /// No check is open.
    mutating func checksEnded() {
        if isSettled { told = ToldPaths() }
    }

    func isMarked(_ path: StorePath) -> Bool { marked.contains(path) }

    // MARK: - doubts

    mutating func doubt(_ path: StorePath, _ row: CatalogueEntry?, check: UInt64) {
        doubts.append(Doubt(path: path, row: row, check: check))
    }

    /// A doubted path, its row of then, and the row that it has since.
    typealias Change = (path: StorePath, before: CatalogueEntry?, now: CatalogueEntry?, check: UInt64)

    /// What of the doubts of these checks has turned out to be a change.
    mutating func takeChanges(of ready: [CaptureAudit.Ready]) throws -> [Change] {
        let expiry = MonotonicTime.now() + Self.unsettledInterval
        var changes: [Change] = []
        var seen: Set<StorePath> = []
        for doubt in takeDoubts(of: ready) where seen.insert(doubt.path).inserted {
            let row = try catalogue.entry(doubt.path)
            if !Self.isSame(doubt.row, row) {
                changes.append((doubt.path, doubt.row, row, doubt.check))
            } else if ready.contains(where: { $0.unlooked.contains(doubt.path) }) {
                unsettled.append(Unsettled(path: doubt.path, row: doubt.row, expiry: expiry))
            }
        }
        return changes
    }

    /// Those of which no event told become findings of the checks they were doubted by. All events of before have come.
    func report(_ changes: [Change], to ready: inout [CaptureAudit.Ready]) {
        for change in changes where !told.contains(change.path) || Simulation.isMutated(.ignoreTold) {
            let name = Array(change.path.name)
            let what = LocalFinding.What.missed(
                before: change.before.flatMap { AuditEntry(name, $0, roots) },
                now: change.now.flatMap { AuditEntry(name, $0, roots) })
            for index in ready.indices where ready[index].request.number == change.check {
                ready[index].delivery.findings.append(LocalFinding(path: change.path, what: what))
            }
        }
    }

    /// Those of before first: their row is the older one.
    private mutating func takeDoubts(of ready: [CaptureAudit.Ready]) -> [Doubt] {
        var taken: [Doubt] = []
        if !unsettled.isEmpty {
            var places: [StorePath: UInt64] = [:]
            for closed in ready {
                for listing in closed.request.listings { places[listing.directory] = closed.request.number }
            }
            for old in unsettled {
                guard let check = places[old.path.parent] else { continue }
                taken.append(Doubt(path: old.path, row: old.row, check: check))
            }
            unsettled.removeAll { places[$0.path.parent] != nil }
        }
        let numbers = Set(ready.map(\.request.number))
        taken += doubts.filter { numbers.contains($0.check) }
        doubts.removeAll { numbers.contains($0.check) }
        return taken
    }

    /// A digest that is known by now, a row that a crash left unknown, or a new ctime is no change.
    private static func isSame(_ one: CatalogueEntry?, _ other: CatalogueEntry?) -> Bool {
        guard let one, let other else { return one == nil && other == nil }
        if one.kind == .file, one.isUnlikeAny { return true }
        if one.inode == 0 { return true }
        if one.kind == .directory {
            return other.kind == .directory && one.mode == other.mode && one.owner == other.owner
                && one.group == other.group
        }
        let isContentSame =
            one.digest == nil || one.digest == other.digest && one.attributesDigest == other.attributesDigest
        return isContentSame && one.kind == other.kind && one.byteCount == other.byteCount && one.mode == other.mode
            && one.owner == other.owner && one.group == other.group && one.mtimeNanoseconds == other.mtimeNanoseconds
    }
}

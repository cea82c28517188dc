import Formats
import Linux

/// What is to be captured: directories, and of each the names that may have changed, or all.
///
/// Pure: hints go in, work comes out, and what could not be done now is put back for later. A cookie that came while
/// something was dirty is due when all of that has been captured.
struct DirtySet {
    /// Work on one directory.
    struct Dirt: Equatable, Sendable {
        let directory: StorePath
        var names: Names
        /// Which mark was the first; smaller is older.
        var since: UInt64
        /// How long to wait before the next try, if this one fails.
        var backoff: Duration
        /// Came from a sweep, and so was missed by the events if it turns out to differ.
        var isSuspicion: Bool
    }

    enum Names: Equatable, Sendable {
        case some(Set<[UInt8]>)
        /// All that are there, and all that were shipped.
        case all
    }

    private struct Entry {
        var dirt: Dirt
        var notBefore: MonotonicTime
    }

    private var entries: [StorePath: Entry] = [:]
    /// Marks so far.
    private var generation: UInt64 = 0
    private var cookies: [(number: UInt64, generation: UInt64)] = []

    /// More names than this in one directory, and all of it is looked at.
    static let namesMax = 4096
    static let backoffFirst = Duration.milliseconds(1)
    static let backoffMax = Duration.milliseconds(50)

    init() {}

    var isEmpty: Bool { entries.isEmpty }
    var count: Int { entries.count }

    /// `path` itself may have changed.
    mutating func mark(_ path: StorePath) {
        guard !path.isRoot else { return markAll(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: false)
    }

    /// Any name in `directory` may have changed.
    mutating func markAll(_ directory: StorePath) { add(directory, .all, isSuspicion: false) }

    /// The sweep found `path` to differ, and no event told of it.
    mutating func suspect(_ path: StorePath) {
        guard !path.isRoot, entries[path.parent] == nil else { return mark(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: true)
    }

    /// `number` is due when all that is dirty now was captured.
    mutating func note(cookie number: UInt64) { cookies.append((number, generation)) }

    private mutating func add(_ directory: StorePath, _ names: Names, isSuspicion: Bool) {
        generation += 1
        guard var entry = entries[directory] else {
            let dirt = Dirt(
                directory: directory, names: names, since: generation, backoff: Self.backoffFirst,
                isSuspicion: isSuspicion)
            entries[directory] = Entry(dirt: dirt, notBefore: MonotonicTime(nanoseconds: .min))
            return
        }
        entry.dirt.names = Self.union(entry.dirt.names, names)
        entry.dirt.isSuspicion = entry.dirt.isSuspicion && isSuspicion
        entries[directory] = entry
    }

    private static func union(_ one: Names, _ other: Names) -> Names {
        guard case .some(let first) = one, case .some(let second) = other else { return .all }
        let both = first.union(second)
        return both.count > namesMax ? .all : .some(both)
    }

    /// Takes out all that need not wait any longer, the oldest first.
    mutating func take(now: MonotonicTime) -> [Dirt] {
        let ready = entries.values.filter { $0.notBefore <= now }.map(\.dirt).sorted { $0.since < $1.since }
        for dirt in ready { entries[dirt.directory] = nil }
        return ready
    }

    /// Could not be captured now; again after its backoff, which doubles.
    mutating func putBack(_ dirt: Dirt, now: MonotonicTime) {
        var dirt = dirt
        let notBefore = now + dirt.backoff
        dirt.backoff = min(dirt.backoff * 2, Self.backoffMax)
        if let newer = entries[dirt.directory] {
            dirt.names = Self.union(dirt.names, newer.dirt.names)
            dirt.isSuspicion = dirt.isSuspicion && newer.dirt.isSuspicion
        }
        entries[dirt.directory] = Entry(dirt: dirt, notBefore: notBefore)
    }

    /// When `take` will next give something; nothing if nothing is dirty.
    var nextTake: MonotonicTime? { entries.values.map(\.notBefore).min() }

    /// The cookies that are due; to be asked when nothing taken is still under way.
    mutating func takeDueCookies() -> [UInt64] {
        let oldest = entries.values.map(\.dirt.since).min() ?? .max
        let due = cookies.filter { $0.generation < oldest }.map(\.number)
        cookies.removeAll { $0.generation < oldest }
        return due
    }
}

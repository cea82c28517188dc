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

    private struct Delayed {
        var dirt: Dirt
        var notBefore: MonotonicTime
    }

    /// Marked since the last `take`, one a directory.
    private var fresh: [StorePath: Dirt] = [:]
    /// Put back: kept apart from newer marks, so that what is old is known to be.
    private var delayed: [StorePath: [Delayed]] = [:]
    /// Marks so far.
    private var generation: UInt64 = 0
    private var cookies: [(number: UInt64, generation: UInt64)] = []

    /// More names than this in one directory, and all of it is looked at.
    static let namesMax = 4096
    static let backoffFirst = Duration.milliseconds(1)
    static let backoffMax = Duration.milliseconds(16)

    init() {}

    var isEmpty: Bool { fresh.isEmpty && delayed.isEmpty }
    /// Directories.
    var count: Int { Set(fresh.keys).union(delayed.keys).count }

    func contains(_ directory: StorePath) -> Bool { fresh[directory] != nil || delayed[directory] != nil }

    /// `path` itself may have changed.
    mutating func mark(_ path: StorePath) {
        guard !path.isRoot else { return markAll(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: false)
    }

    /// Any name in `directory` may have changed.
    mutating func markAll(_ directory: StorePath) { add(directory, .all, isSuspicion: false) }

    /// The sweep found `path` to differ, and no event told of it.
    mutating func suspect(_ path: StorePath) {
        guard !path.isRoot, fresh[path.parent] == nil, delayed[path.parent] == nil else { return mark(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: true)
    }

    /// `number` is due when all that is dirty now was captured.
    mutating func note(cookie number: UInt64) { cookies.append((number, generation)) }

    private mutating func add(_ directory: StorePath, _ names: Names, isSuspicion: Bool) {
        generation += 1
        if var dirt = fresh[directory] {
            dirt.names = Self.union(dirt.names, names)
            dirt.isSuspicion = dirt.isSuspicion && isSuspicion
            fresh[directory] = dirt
        } else {
            fresh[directory] = Dirt(
                directory: directory, names: names, since: generation, backoff: Self.backoffFirst,
                isSuspicion: isSuspicion)
        }
    }

    static func union(_ one: Names, _ other: Names) -> Names {
        guard case .some(let first) = one, case .some(let second) = other else { return .all }
        let both = first.union(second)
        return both.count > namesMax ? .all : .some(both)
    }

    /// Takes out all that need not wait any longer, the oldest first. A directory may come twice, with what is new and
    /// with what was put back.
    mutating func take(now: MonotonicTime) -> [Dirt] {
        var ready = Array(fresh.values)
        fresh = [:]
        for (directory, entries) in delayed {
            ready += entries.filter { $0.notBefore <= now }.map(\.dirt)
            let rest = entries.filter { $0.notBefore > now }
            delayed[directory] = rest.isEmpty ? nil : rest
        }
        return ready.sorted { $0.since < $1.since }
    }

    /// Could not be captured now; again after its backoff, which doubles.
    mutating func putBack(_ dirt: Dirt, now: MonotonicTime) {
        var dirt = dirt
        let notBefore = now + dirt.backoff
        dirt.backoff = min(dirt.backoff * 2, Self.backoffMax)
        delayed[dirt.directory, default: []].append(Delayed(dirt: dirt, notBefore: notBefore))
    }

    /// When `take` will next give something; nothing if nothing is dirty.
    var nextTake: MonotonicTime? {
        if !fresh.isEmpty { return MonotonicTime(nanoseconds: .min) }
        return delayed.values.flatMap { $0.map(\.notBefore) }.min()
    }

    /// The cookies that are due; to be asked when nothing taken is still under way.
    mutating func takeDueCookies() -> [UInt64] {
        let waiting = delayed.values.flatMap { $0.map(\.dirt.since) } + fresh.values.map(\.since)
        let oldest = waiting.min() ?? .max
        let due = cookies.filter { $0.generation < oldest }.map(\.number)
        cookies.removeAll { $0.generation < oldest }
        return due
    }
}

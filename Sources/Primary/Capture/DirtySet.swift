import Formats
import Linux

/// What is to be captured: directories, and of each the names that may have changed, or all.
///
/// Pure: hints go in, work comes out, and what could not be done now is put back for later. Nothing waits longer than
/// it was told when it was marked or put back; `hurry` ends the wait. A cookie that came while something was dirty is
/// due when all of that has been captured.
struct DirtySet {
    /// Work on one directory.
    struct Dirt: Equatable, Sendable {
        let directory: StorePath
        var names: Names
        /// Which mark was the first; smaller is older.
        var since: UInt64
        /// Which was the last.
        var newest: UInt64
        /// How long to wait before the next try, if this one fails.
        var backoff: Duration
        /// Came from a sweep, and so was missed by the events if it turns out to differ.
        var isSuspicion: Bool
    }

    enum Names: Equatable, Sendable {
        case some(Set<[UInt8]>)
        /// All that are there, and all that were shipped.
        case all

        mutating func formUnion(_ other: Names) {
            guard case .some(var both) = self, case .some(let more) = other else {
                self = .all
                return
            }
            self = .all
            both.formUnion(more)
            if both.count <= DirtySet.namesMax { self = .some(both) }
        }
    }

    private struct Delayed {
        var dirt: Dirt
        var notBefore: MonotonicTime
    }

    /// Marked since they were last taken, by place.
    private var fresh: [Place: Delayed] = [:]
    /// Put back: kept apart from newer marks, so that what is old is known to be.
    private var delayed: [Place: [Delayed]] = [:]
    /// Marks so far.
    private(set) var generation: UInt64 = 0
    private var cookies: [(number: UInt64, generation: UInt64)] = []

    /// More names than this in one directory, and all of it is looked at.
    static let namesMax = 4096
    static let backoffFirst = Duration.milliseconds(4)
    static let backoffMax = Duration.milliseconds(16)

    init() {}

    var isEmpty: Bool { fresh.isEmpty && delayed.isEmpty }
    /// Places.
    var count: Int { Set(fresh.keys).union(delayed.keys).count }

    var all: [Dirt] { fresh.values.map(\.dirt) + delayed.values.joined().map(\.dirt) }

    /// `path` itself may have changed; looked at `notBefore` this time, unless its directory is due earlier.
    mutating func mark(_ path: StorePath, notBefore: MonotonicTime = .distantPast) {
        guard !path.isRoot else { return markAll(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: false, notBefore, at: Place(of: path))
    }

    /// What may belong to one user and what to another is kept apart: a mailbox's directory is somebody's as a whole,
    /// elsewhere files of many lie side by side.
    static func place(of path: StorePath) -> StorePath {
        RootKind(path.root).holdsMailboxes ? path.parent : path
    }

    /// A place, and whether it is meant with all that is in it: outside of mailboxes that is other work than the same
    /// directory as a name of its parent.
    private struct Place: Hashable {
        let path: StorePath
        let isWhole: Bool

        init(of path: StorePath) {
            self.path = DirtySet.place(of: path)
            isWhole = false
        }

        init(all directory: StorePath) {
            path = directory
            isWhole = !RootKind(directory.root).holdsMailboxes
        }
    }

    /// Any name in `directory` may have changed.
    mutating func markAll(_ directory: StorePath) {
        add(directory, .all, isSuspicion: false, .distantPast, at: Place(all: directory))
    }

    /// The sweep found `path` to differ, and no event told of it.
    mutating func suspect(_ path: StorePath) {
        let place = Place(of: path)
        let isSuspicion = fresh[place]?.dirt.isSuspicion ?? true
        guard !path.isRoot, isSuspicion, delayed[place] == nil else { return mark(path) }
        add(path.parent, .some([Array(path.name)]), isSuspicion: true, .distantPast, at: place)
    }

    /// `number` is due when all that is dirty now was captured.
    mutating func note(cookie number: UInt64) { cookies.append((number, generation)) }

    private mutating func add(
        _ directory: StorePath, _ names: Names, isSuspicion: Bool, _ notBefore: MonotonicTime, at place: Place
    ) {
        generation += 1
        if let index = fresh.index(forKey: place) {
            fresh.values[index].dirt.names.formUnion(names)
            fresh.values[index].dirt.newest = generation
            fresh.values[index].dirt.isSuspicion = fresh.values[index].dirt.isSuspicion && isSuspicion
            fresh.values[index].notBefore = min(fresh.values[index].notBefore, notBefore)
        } else {
            let dirt = Dirt(
                directory: directory, names: names, since: generation, newest: generation,
                backoff: Self.backoffFirst, isSuspicion: isSuspicion)
            fresh[place] = Delayed(dirt: dirt, notBefore: notBefore)
        }
    }

    /// What is dirty at these places is due now.
    mutating func hurry(where isChosen: (StorePath) -> Bool) {
        for place in fresh.keys where isChosen(place.path) { fresh[place]!.notBefore = .distantPast }
        for place in delayed.keys where isChosen(place.path) {
            for index in delayed[place]!.indices { delayed[place]![index].notBefore = .distantPast }
        }
    }

    /// Takes out all that need not wait any longer, the oldest first. A directory may come twice, with what is new and
    /// with what was put back.
    mutating func take(now: MonotonicTime) -> [Dirt] {
        var ready: [Dirt] = []
        for (place, entry) in fresh where entry.notBefore <= now {
            ready.append(entry.dirt)
            fresh[place] = nil
        }
        for (place, entries) in delayed {
            ready += entries.filter { $0.notBefore <= now }.map(\.dirt)
            let rest = entries.filter { $0.notBefore > now }
            delayed[place] = rest.isEmpty ? nil : rest
        }
        return ready.sorted { $0.since < $1.since }
    }

    /// Takes out what is chosen, whether it is due or not.
    mutating func take(where isChosen: (Dirt) throws -> Bool) rethrows -> [Dirt] {
        var chosen: [Dirt] = []
        for (place, entry) in fresh where try isChosen(entry.dirt) {
            chosen.append(entry.dirt)
            fresh[place] = nil
        }
        for (place, entries) in delayed {
            var rest: [Delayed] = []
            for entry in entries {
                if try isChosen(entry.dirt) { chosen.append(entry.dirt) } else { rest.append(entry) }
            }
            delayed[place] = rest.isEmpty ? nil : rest
        }
        return chosen.sorted { $0.since < $1.since }
    }

    /// Could not be captured now; again after its backoff, which doubles.
    mutating func putBack(_ dirt: Dirt, now: MonotonicTime) {
        var dirt = dirt
        let notBefore = now + dirt.backoff
        dirt.backoff = min(dirt.backoff * 2, Self.backoffMax)
        delayed[Self.place(of: dirt), default: []].append(Delayed(dirt: dirt, notBefore: notBefore))
    }

    private static func place(of dirt: Dirt) -> Place {
        guard case .some(let names) = dirt.names, names.count == 1, let name = names.first else {
            return Place(all: dirt.directory)
        }
        return Place(of: dirt.directory.appending(name))
    }

    /// When `take` will next give something; nothing if nothing is dirty.
    var nextTake: MonotonicTime? {
        let fresh = fresh.values.lazy.map(\.notBefore).min()
        let delayed = delayed.values.lazy.flatMap { $0.lazy.map(\.notBefore) }.min()
        return [fresh, delayed].compactMap(\.self).min()
    }

    /// The cookies that are due; to be asked when nothing taken is still under way.
    mutating func takeDueCookies() -> [UInt64] {
        let waiting = delayed.values.flatMap { $0.map(\.dirt.since) } + fresh.values.map(\.dirt.since)
        let oldest = waiting.min() ?? .max
        let due = cookies.filter { $0.generation < oldest }.map(\.number)
        cookies.removeAll { $0.generation < oldest }
        return due
    }
}

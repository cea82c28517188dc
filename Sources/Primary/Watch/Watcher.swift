import Formats
import Linux
import Logging
import Store
import Synchronization

/// Drains inotify into hints, on a thread of its own that does nothing else.
///
/// Flow: every directory of the store is watched, each watch set before its directory is read, so that what comes
/// between is in both. `run` begins with the whole tree, says `watching`, and then polls until `stop`. A new directory
/// is watched and read when its event comes; whatever is in it by then is hinted at as a whole. Renames are a name that
/// goes and a name that comes.
///
/// What cannot be watched (the user's limit of watches) is counted; the sweep looks there. After an overflow, in which the
/// event of a new directory may be lost, or of one that was moved, all are watched once more.
///
/// Two queues of the kernel's: the store's, which a busy writer fills drop by drop and which is therefore read every
/// few milliseconds at most; and that of signals, our cookies and Cyrus's user locks (`LockWatch`), which wakes us at
/// once, but for a store so busy that they come without end (`WatchPace`): then cookies alone do. A signal's
/// own hint comes after all that is in the store's queue by then, so nothing from before it is missed.
final class Watcher: Sendable {
    private let roots: StoreRoots
    private let log: Logger
    /// Of the store's directories.
    private let inotify: Inotify
    private let signals: Inotify
    /// Ends every wait of the watching thread: for the end, and for a cookie.
    private let waking: WakeEvent
    private let isStopped = Atomic(false)
    /// Where cookies are made: a directory of our own.
    private let cookies: String
    /// Of that directory.
    private let cookieWatch: WatchNumber
    private let locks: LockWatch
    private let nextCookie = Atomic<UInt64>(1)
    /// Made, and not told yet.
    private let untold = Mutex<Set<UInt64>>([])
    /// As `nobodyLooks` was told last; nanoseconds.
    private let nextLook = Atomic<Int64>(0)
    private let counts = Mutex(WatchCounts())

    private static let mask: InotifyMask = [
        .modify, .attributes, .create, .delete, .movedFrom, .movedTo, .deleteSelf, .onlyDirectory, .doNotFollow,
        .excludeUnlinked,
    ]
    /// How often the lock directory is looked for while there is none.
    private static let lockInterval = Duration.seconds(1)
    /// Between two readings of the store's queue while no signal comes.
    private static let restInterval = Duration.milliseconds(10)
    /// Between so many new watches the queue is read once, if nobody waits for it.
    private static let drainInterval = 256

    /// `cookies` is made, or emptied.
    init(_ roots: StoreRoots, cookies: String, lockRoot: String, log: Logger) throws(SystemError) {
        self.roots = roots
        self.cookies = cookies
        locks = LockWatch(root: lockRoot, rules: roots.layout.rules.paths)
        self.log = log
        inotify = try Inotify()
        signals = try Inotify()
        waking = try WakeEvent()
        let directory = try Directory.make(cookies)
        for entry in try directory.entries() { try directory.unlink(entry.name) }
        // Before anybody can ask: a cookie that is made before `run` is told when it runs.
        cookieWatch = try signals.addWatch(cookies, [.create])
    }

    var watchCounts: WatchCounts { counts.withLock { $0 } }

    func stop() {
        isStopped.store(true, ordering: .relaxed)
        waking.signal()
    }

    /// Makes a cookie: when its hint has come, all events from before this call have, or that some were lost.
    func makeCookie() throws(SystemError) -> UInt64 {
        let number = nextCookie.wrappingAdd(1, ordering: .relaxed).oldValue
        untold.withLock { _ = $0.insert(number) }
        do throws(SystemError) {
            let directory = try Directory(cookies)
            let name = Array(String(number).utf8)
            try directory.open(name, for: .creatingNew).close()
            try directory.unlink(name)
        } catch {
            untold.withLock { _ = $0.remove(number) }
            throw error
        }
        waking.signal()
        return number
    }

    /// Hints are in no hurry until then, but for a cookie and what is before it. Others that are may wait for a rest.
    func nobodyLooks(before time: MonotonicTime) { nextLook.store(time.nanoseconds, ordering: .relaxed) }

    /// Until `stop`. `hinted` gets what one read gave, at once; `watching` is called when the whole tree is watched.
    func run(hinted: @escaping @Sendable ([Hint]) -> Void, watching: () -> Void) throws(SystemError) {
        var loop = WatchLoop(watcher: self, hinted: hinted)
        loop.signalTree.note(cookieWatch, .cookies)
        for name in roots.names { try loop.watch(StorePath(root: name), .atStart) }
        try loop.watchLocks()
        counts.withLock { $0.isBegun = true }
        watching()
        var pace = WatchPace()
        while !isStopped.load(ordering: .relaxed) {
            let urgent = [Poller.Interest(signals.raw), Poller.Interest(waking.raw)]
            if try Poller.wait(urgent, timeout: Self.restInterval).allSatisfy({ $0.isEmpty }) {
                _ = try Poller.wait(
                    urgent + [Poller.Interest(inotify.raw)], timeout: loop.isCalm ? nil : Self.lockInterval)
            }
            waking.clear()
            try loop.turn()
            if !loop.seesLocks { try loop.watchLocks() }
            let nextLook = MonotonicTime(nanoseconds: nextLook.load(ordering: .relaxed))
            let rest = pace.turned(at: .now(), nextLook: nextLook)
            if rest > .zero { _ = try Poller.wait([Poller.Interest(waking.raw)], timeout: rest) }
            try loop.watchAgainIfDue()
        }
    }

    /// What the watching thread keeps to itself.
    private struct WatchLoop {
        let watcher: Watcher
        let hinted: @Sendable ([Hint]) -> Void
        var tree = WatchTree()
        var signalTree = WatchTree()
        private(set) var seesLocks = false
        /// Not before then, as events were lost.
        private var nextWatchAgain: MonotonicTime?
        private var notAgainBefore = MonotonicTime.now()
        private var buffer = [UInt8](repeating: 0, count: Inotify.bufferBytes)
        private var sinceDrain = 0
        /// What the names of earlier events are. Forgotten when a watch comes or goes.
        private var known: [EventName: KnownName] = [:]
        /// The hints that are being gathered. A delivery touches a database a dozen times; once is enough to look.
        private var gathering: UInt64 = 0
        /// Directories that may not be read, or not yet: whoever makes one may give it away afterwards.
        private var denied: Set<StorePath> = []

        init(watcher: Watcher, hinted: @escaping @Sendable ([Hint]) -> Void) {
            self.watcher = watcher
            self.hinted = hinted
        }

        /// What there is: signals are read first and told last.
        mutating func turn() throws(SystemError) {
            let signals = try watcher.signals.read(into: &buffer)
            var hints = try drain()
            for event in signals { try interpret(signal: event, &hints) }
            if !hints.isEmpty { hinted(hints) }
        }

        /// The hints that the store's queue gives; some may have been told already.
        private mutating func drain() throws(SystemError) -> [Hint] {
            var hints: [Hint] = []
            gathering += 1
            while true {
                let events = try watcher.inotify.read(into: &buffer)
                for event in events where !recall(event, &hints) { try interpret(event, &hints) }
                guard events.count >= Inotify.eventsOfFullBuffer else { return hints }
            }
        }

        private struct EventName: Hashable {
            let watch: WatchNumber
            let name: [UInt8]

            init(_ event: InotifyEvent) {
                watch = event.watch
                name = event.name
            }

            func hash(into hasher: inout Hasher) {
                hasher.combine(watch)
                name.withUnsafeBytes { hasher.combine(bytes: $0) }
            }
        }

        private struct KnownName {
            /// Nothing if it does not travel.
            let path: StorePath?
            /// Among which hints it was told last.
            var told: UInt64
        }

        private static let knownMax = 4096

        /// Whether the event is about a file whose name is known; then its hint is there.
        private mutating func recall(_ event: InotifyEvent, _ hints: inout [Hint]) -> Bool {
            guard event.mask.isDisjoint(with: [.isDirectory, .ignored, .overflow]),
                let index = known.index(forKey: EventName(event))
            else { return false }
            if known.values[index].told != gathering {
                known.values[index].told = gathering
                if let path = known.values[index].path { hints.append(.name(path)) }
            }
            return true
        }

        private mutating func remember(_ event: InotifyEvent, as path: StorePath?) {
            guard !event.mask.contains(.isDirectory) else { return }
            if known.count >= Self.knownMax { known = [:] }
            known[EventName(event)] = KnownName(path: path, told: gathering)
        }

        /// Nothing has to be done without an event.
        var isCalm: Bool { seesLocks && nextWatchAgain == nil }

        /// What is not watched, or by another path, is hinted at as a whole. A queue that overflows all the time gets a tenth of the time.
        mutating func watchAgainIfDue() throws(SystemError) {
            let start = MonotonicTime.now()
            guard let due = nextWatchAgain, due <= start else { return }
            nextWatchAgain = nil
            watcher.counts.withLock { $0.unwatched = 0 }
            for name in watcher.roots.names { try watch(StorePath(root: name), .again) }
            let end = MonotonicTime.now()
            notAgainBefore = end + (end - start) * 10
            if nextWatchAgain != nil { nextWatchAgain = notAgainBefore }
            let isBehind = nextWatchAgain != nil
            watcher.counts.withLock { $0.isBehind = isBehind }
        }

        mutating func watchLocks() throws(SystemError) {
            seesLocks = try watcher.locks.attach(to: watcher.signals, &signalTree)
        }

        private mutating func interpret(signal event: InotifyEvent, _ hints: inout [Hint]) throws(SystemError) {
            if event.mask.contains(.overflow) {
                // Which locks were let go is not known: what is dirty is tried in its time. Cookies may be lost; what was before
                // them is found by the sweep that the overflow asks for, as its hint is the first.
                watcher.counts.withLock { $0.overflows += 1 }
                hints.append(.overflow)
                let lost = watcher.untold.withLock { untold in
                    defer { untold = [] }
                    return untold
                }
                return hints.append(contentsOf: lost.sorted().map { .cookie($0) })
            }
            guard let place = signalTree.place(of: event.watch) else { return }
            if event.mask.contains(.ignored) {
                // A server that stops may take its lock directory with it.
                if place == .locks { seesLocks = false }
                return signalTree.forget(event.watch)
            }
            switch place {
            case .cookies:
                guard let number = UInt64(String(decoding: event.name, as: UTF8.self)) else { return }
                if watcher.untold.withLock({ $0.remove(number) }) != nil { hints.append(.cookie(number)) }
            case .locks:
                if event.mask.isSuperset(of: [.create, .isDirectory]) {
                    try watcher.locks.attach(event.name, to: watcher.signals, &signalTree)
                } else if event.mask.contains(.closeWrite), let user = MailboxPath.user(ofLock: event.name) {
                    hints.append(.released(user: user))
                }
            case .directory:
                break
            }
        }

        private mutating func interpret(_ event: InotifyEvent, _ hints: inout [Hint]) throws(SystemError) {
            if event.mask.contains(.overflow) {
                watcher.counts.withLock { ($0.overflows, $0.isBehind) = ($0.overflows + 1, true) }
                nextWatchAgain = nextWatchAgain ?? max(.now(), notAgainBefore)
                return hints.append(.overflow)
            }
            guard let place = tree.place(of: event.watch) else { return }
            if event.mask.contains(.ignored) { return forget(event.watch) }
            guard case .directory(let directory) = place else { return }
            guard !event.name.isEmpty else { return hints.append(.name(directory)) }
            guard StorePath.isName(event.name) else { return }
            let path = directory.appending(event.name)
            // The capturer tells what does not travel.
            if watcher.roots.isTooLong(path) { return hints.append(.directory(directory)) }
            let isShipped = watcher.roots.isShipped(path)
            remember(event, as: isShipped ? path : nil)
            guard isShipped else { return }
            hints.append(.name(path))
            guard event.mask.contains(.isDirectory) else { return }
            let isGivenNow = denied.remove(path) != nil && event.mask.contains(.attributes)
            if isGivenNow || !event.mask.isDisjoint(with: [.create, .movedTo]) {
                hinted(hints)
                hints = []
                // Who got them may have looked by the time the next event comes.
                gathering += 1
                try watch(path, .asNew)
            } else if event.mask.contains(.movedFrom) {
                for watch in tree.watches(within: path) { try? watcher.inotify.removeWatch(watch) }  // gone is fine
            }
        }

        private mutating func forget(_ watch: WatchNumber) {
            known = [:]
            tree.forget(watch)
            watcher.counts.withLock { $0.watched = tree.count }
        }

        enum Occasion {
            case atStart
            /// All in it may be new, which is said. In the middle of events.
            case asNew
            /// The same of those that were not watched under this path.
            case again
        }

        /// Watches `directory` and all below it.
        mutating func watch(_ directory: StorePath, _ occasion: Occasion) throws(SystemError) {
            guard watcher.roots.isShipped(directory), !watcher.isStopped.load(ordering: .relaxed) else { return }
            var isNew = true
            do throws(SystemError) {
                // By descriptor: a path may be too long for the call, or no text.
                guard let place = try watcher.roots.directory(directory) else { return }
                let path = "/proc/self/fd/\(place.descriptor.raw)/."
                known = [:]
                let number = try watcher.inotify.addWatch(path, Watcher.mask)
                withExtendedLifetime(place) {}
                isNew = tree.place(of: number) != .directory(directory)
                tree.note(number, .directory(directory))
                watcher.counts.withLock { $0.watched = tree.count }
            } catch {
                if error.errno == .accessDenied {
                    denied.insert(directory)
                    // Capture says so, who comes there too; nobody else suffers from it. No sweep would find more.
                    return hinted([.directory(directory)])
                }
                guard error.errno == .noSpace || error.errno == .noMemory else {
                    // Gone again, or no directory any more: its parent's watch tells.
                    if [.noEntry, .notDirectory, .symbolicLink].contains(error.errno) { return }
                    throw error
                }
                watcher.counts.withLock { $0.unwatched += 1 }
            }
            if occasion == .asNew || occasion == .again && isNew { hinted([.directory(directory)]) }
            // Not while events are being interpreted: those read later would overtake them, cookies too.
            sinceDrain += 1
            let isAwaited = watcher.untold.withLock { !$0.isEmpty }
            if occasion != .asNew, isAwaited || sinceDrain >= Watcher.drainInterval {
                sinceDrain = 0
                try turn()
            }
            let entries: [DirectoryEntry]
            do throws(SystemError) {
                entries = try watcher.roots.entries(of: directory) ?? []
            } catch {
                // Not ours to read: capture, which comes there too, says so.
                guard error.errno == .accessDenied else { throw error }
                denied.insert(directory)
                return
            }
            for entry in entries {
                let path = directory.appending(entry.name)
                if try watcher.roots.kind(of: entry, at: path) == .directory { try watch(path, occasion) }
            }
        }
    }
}

package struct WatchCounts: Sendable {
    /// Directories.
    package var watched = 0
    package var unwatched = 0
    package var overflows = 0
    /// Events were lost, and it is not known yet what is not watched since.
    package var isBehind = false
    /// All directories were seen once.
    package var isBegun = false

    var isComplete: Bool { isBegun && unwatched == 0 && !isBehind }
}

/// Which watch is of which directory.
struct WatchTree {
    enum Place: Hashable {
        case cookies
        case locks
        case directory(StorePath)
    }

    private var places: [WatchNumber: Place] = [:]

    var count: Int { places.count }

    mutating func note(_ watch: WatchNumber, _ place: Place) { places[watch] = place }
    mutating func forget(_ watch: WatchNumber) { places[watch] = nil }
    func place(of watch: WatchNumber) -> Place? { places[watch] }

    /// Of `path` and all below it.
    func watches(within path: StorePath) -> [WatchNumber] {
        places.compactMap { watch, place in
            guard case .directory(let directory) = place, directory.isWithin(path) else { return nil }
            return watch
        }
    }
}

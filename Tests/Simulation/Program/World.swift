import Digests
import Glibc
import Linux
import Seeded

/// Time and threads of a simulation: one thread runs at a time, chance says which, and time goes on when all wait.
///
/// Every thread of the product is a thread here too, and stops where it waits: at a `Condition`, at the poller, for
/// another's end. Who waits hands the baton to one that is ready; when nobody is, the clock is set to the next deadline.
/// The same seed gives the same run.
///
/// `@unchecked Sendable` holds because only the thread with the baton touches anything, and handing it over by a
/// semaphore orders their memory.
final class World: SimulatedKernel, @unchecked Sendable {
    /// Where the wall clock begins.
    private static let wallStart: Int64 = 1_000_000_000_000_000_000
    private static let monotonicStart: Int64 = 1_000_000_000_000

    var chance: SeededGenerator
    let disk = Disk()
    /// ns since the beginning of the run.
    private(set) var nanoseconds: Int64 = 0
    private(set) var current: SimulatedThread
    private var threads: [UInt64: SimulatedThread] = [:]
    private var ready: [SimulatedThread] = []
    private var waiting: [SimulatedThread] = []
    private(set) var switchCount = 0
    private var linkCount = 0
    var threadCount: Int { threads.count }
    /// What happened, for people.
    private(set) var transcript: [String] = []
    /// Of the transcript, the last so many lines are kept, about.
    var transcriptMax = Int.max
    private(set) var failure: String?
    var mutation: Mutation?
    /// Messages that somebody removed from some mailbox; not by moving them.
    var discarded: Set<MessageGUID> = []
    /// Left out of the transcript, as it is another one each time.
    var scratch = "/dev/shm/"
    /// Called at each switch, before another thread runs.
    var atSwitch: () -> Void = {}

    /// The calling thread gets the baton.
    init(seed: UInt64) {
        chance = SeededGenerator(seed: seed &* 0x2545_f491_4f6c_dd1d)
        current = SimulatedThread(name: "driver", host: nil)
        threads[current.number] = current
        disk.now = { [unowned self] in Self.wallStart + nanoseconds }
    }

    // MARK: - telling

    func note(_ text: @autoclosure () -> String) {
        if transcript.count > transcriptMax { transcript.removeFirst(transcriptMax / 2) }
        let time = String(nanoseconds / 1000)
        transcript.append(
            String(repeating: " ", count: max(0, 12 - time.count)) + time + "  "
                + text().split(separator: scratch, omittingEmptySubsequences: false).joined())
    }

    /// The first is the one that is told.
    func fail(_ why: String) {
        let why = why.split(separator: scratch, omittingEmptySubsequences: false).joined()
        guard failure == nil else { return }
        failure = why
        note("FAILED: \(why)")
    }

    func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &chance) }
    func isLucky(_ one: Int, in many: Int) -> Bool { Int.random(in: 0..<many, using: &chance) < one }

    func nextLinkNumber() -> Int {
        linkCount += 1
        return linkCount
    }

    // MARK: - time

    var time: Duration { .nanoseconds(nanoseconds) }

    func now(_ clock: Simulation.Clock) -> Int64 {
        nanoseconds += 100
        return (clock == .wall ? Self.wallStart : Self.monotonicStart) + nanoseconds
    }

    private func deadline(_ time: MonotonicTime?) -> Int64? {
        time.map { max(0, $0.nanoseconds.subtractingReportingOverflow(Self.monotonicStart).partialValue) }
    }

    /// The calling thread waits.
    func sleep(_ duration: Duration) {
        current.deadline = nanoseconds + duration.nanosecondsClamped
        park()
    }

    func random() -> UInt64 { chance.next() }
    func isMutated(_ other: Simulation.Mutation) -> Bool { mutation?.inside == other }

    // MARK: - threads

    func threadWillStart(_ name: String) -> UInt64 {
        let thread = SimulatedThread(name: name, host: current.host)
        threads[thread.number] = thread
        ready.append(thread)
        return thread.number
    }

    /// Without the baton, so it touches nothing but the thread itself; `threads` holds that until it ends.
    func threadBegan(_ number: UInt64) {
        guard let place = UnsafeRawPointer(bitPattern: UInt(number)) else { preconditionFailure("no thread") }
        Unmanaged<SimulatedThread>.fromOpaque(place).takeUnretainedValue().awaitBaton()
    }

    func threadEnded(_ number: UInt64) {
        guard let thread = threads.removeValue(forKey: number) else { preconditionFailure("no thread \(number)") }
        thread.isEnded = true
        // Nothing is let go of by a thread that has no baton any more.
        thread.host = nil
        wake(ObjectIdentifier(thread))
        let next = choose()
        current = next
        next.giveBaton()
    }

    func waitForEnd(of number: UInt64) {
        while let thread = threads[number], !thread.isEnded { wait(on: ObjectIdentifier(thread), until: nil) }
    }

    /// Threads of `host` that have not ended, but for those that serve it from outside.
    func threadNames(of host: Host) -> [String] {
        threads.values.filter { $0.host === host && !$0.isOutside && $0.name != EventLoop.threadName }.map(\.name)
            .sorted()
    }

    func wait(on object: ObjectIdentifier, until time: MonotonicTime?) {
        current.object = object
        current.deadline = deadline(time)
        park()
    }

    func wake(_ object: ObjectIdentifier) {
        var index = 0
        while index < waiting.count {
            if waiting[index].object == object {
                makeReady(waiting.remove(at: index))
            } else {
                index += 1
            }
        }
    }

    func waitForEvents(until time: MonotonicTime?, isReady: () -> Bool) {
        let limit = deadline(time)
        while !isReady() {
            if let limit, nanoseconds >= limit { return }
            // Nobody says when: whoever changes a file wakes all who wait for events.
            current.object = ObjectIdentifier(disk)
            current.deadline = limit
            park()
        }
    }

    /// Others may run; the calling thread is ready.
    func yield() {
        ready.append(current)
        hand(over: current)
    }

    private func park() {
        waiting.append(current)
        hand(over: current)
    }

    private func hand(over thread: SimulatedThread) {
        let next = choose()
        current = next
        guard next !== thread else { return }
        next.giveBaton()
        thread.awaitBaton()
    }

    private func makeReady(_ thread: SimulatedThread) {
        thread.object = nil
        thread.deadline = nil
        ready.append(thread)
    }

    private func choose() -> SimulatedThread {
        switchCount += 1
        atSwitch()
        nanoseconds += Int64(Int.random(in: 500...20_000, using: &chance))
        while true {
            if let due = waiting.lazy.compactMap(\.deadline).min(), due <= nanoseconds || ready.isEmpty {
                nanoseconds = max(nanoseconds, due)
                var index = 0
                while index < waiting.count {
                    if let deadline = waiting[index].deadline, deadline <= nanoseconds {
                        makeReady(waiting.remove(at: index))
                    } else {
                        index += 1
                    }
                }
            }
            guard !ready.isEmpty else {
                say("everything waits for ever: \(waiting.map(\.name))")
                say(transcript.suffix(200).joined(separator: "\n"))
                exit(70)
            }
            return ready.remove(at: Int.random(in: 0..<ready.count, using: &chance))
        }
    }

    // MARK: - the disk

    /// Calls about files; others, as of events and threads, never fail here.
    private static let fileCalls: Set<String> = [
        "open", "openat2", "mkdir", "mkdirat", "pread", "pwrite", "ftruncate", "posix_fallocate", "fdatasync", "fsync",
        "syncfs", "futimens", "fchmod", "fchown", "fstat", "fstatat", "lstat", "renameat2", "linkat", "symlinkat",
        "readlinkat", "unlinkat", "fchownat", "utimensat", "lseek", "flistxattr", "inotify_add_watch",
    ]
    private static let changingCalls: Set<String> = [
        "mkdir", "mkdirat", "pwrite", "ftruncate", "posix_fallocate", "fdatasync", "fsync", "syncfs", "futimens",
        "renameat2", "linkat", "symlinkat", "unlinkat", "utimensat",
    ]

    func willCall(_ name: String, _ path: String) throws(SystemError) {
        if name == "write" { return wake(ObjectIdentifier(disk)) }
        guard let host = current.host, !current.isOutside, Self.fileCalls.contains(name) else { return }
        if let errno = host.errno(of: name, path, isChange: Self.changingCalls.contains(name)) {
            throw SystemError(call: name, path: path, errno: errno)
        }
        // Audits read when nobody else does, and meanwhile things go on.
        if host.mayBeSlow, path.hasPrefix(host.storePath), isLucky(1, in: host.slownessOneIn) {
            sleep(.milliseconds(pick(1...1200 / host.slownessOneIn)))
        }
        // Between two readings of a store that is being written. Whoever reads elsewhere may hold a lock.
        if host.mayBeInterrupted, !Self.changingCalls.contains(name), path.hasPrefix(host.storePath), isLucky(1, in: 24)
        {
            yield()
        }
    }

    func transferBytes(_ byteCount: Int) -> Int {
        guard byteCount > 1, !current.isOutside, let host = current.host, host.transfersSome, isLucky(1, in: 16) else {
            return byteCount
        }
        return pick(1...byteCount - 1)
    }

    func did(_ change: Simulation.Change) {
        disk.did(change)
        // A replica watches nothing.
        if current.host?.role != .replica { wake(ObjectIdentifier(disk)) }
    }

    func adjusted(_ status: FileStatus) -> FileStatus { disk.adjusted(status) }

    /// What follows in `body` is done by the simulation itself, and not by the host.
    func outside<Result>(_ body: () throws -> Result) rethrows -> Result {
        let was = current.isOutside
        let thread = current
        thread.isOutside = true
        defer { thread.isOutside = was }
        return try body()
    }

    /// What is started in `body`, and all that comes of it, is `host`'s.
    func on<Result>(_ host: Host, _ body: () throws -> Result) rethrows -> Result {
        let was = current.host
        let thread = current
        thread.host = host
        defer { thread.host = was }
        return try body()
    }
}

/// A thread, and what it waits for.
final class SimulatedThread {
    /// Its place in memory.
    var number: UInt64 { UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) }
    let name: String
    /// Whose it is; nothing for the simulation's own.
    var host: Host?
    /// Its calls do not fail, and it does not end with its host.
    var isOutside = false
    var isEnded = false
    var object: ObjectIdentifier?
    var deadline: Int64?
    private let baton = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init(name: String, host: Host?) {
        self.name = name
        self.host = host
        sem_init(baton, 0, 0)
    }

    deinit { baton.deallocate() }

    func giveBaton() { sem_post(baton) }
    func awaitBaton() { while sem_wait(baton) != 0 {} }
}

extension World {
    /// Whether there are threads besides the one that calls.
    var hasOthers: Bool { threadCount > 1 }
}

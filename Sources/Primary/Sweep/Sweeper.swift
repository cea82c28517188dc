import Formats
import Linux
import Logging
import Store

/// The safety net under the events: walks the store and compares what is there with the catalogue.
///
/// At the start of the daemon, after an overflow, and every `period`. What differs is suspected, no more: the capturer
/// looks again with today's rows, and counts as missed what then makes a record. Nothing is read but directories and
/// status, at idle I/O priority.
final class Sweeper: Sendable {
    struct Parts: Sendable {
        let roots: StoreRoots
        let catalogue: Catalogue
        let inbox: Condition<CaptureInbox>
        let status: SharedCaptureStatus
        let period: Duration
        let now: @Sendable () -> Timestamp
        let log: Logger
    }

    private let parts: Parts
    private let asked = Condition(Asked())

    private struct Asked: Sendable {
        /// Sweeps asked for so far, the one at the start included.
        var wanted: UInt64 = Sweeper.first
        var isStopping = false
        /// The newest of them that a sweep begun after it has answered.
        var done: UInt64 = 0
    }

    /// The number of the sweep at the start.
    static let first: UInt64 = 1

    private static let reportCountMax = 1000
    /// What a capturer that is slower than the disk has not taken yet: for more the walk waits.
    static let pendingCountMax = 4 * reportCountMax
    private static let pollInterval = Duration.milliseconds(20)

    init(_ parts: Parts) { self.parts = parts }

    func stop() { asked.update { $0.isStopping = true } }

    /// Asks for a sweep that begins after this call; its number, which `CaptureInbox.sweptThrough` reaches at its end.
    @discardableResult
    func sweepSoon() -> UInt64 {
        asked.update { asked in
            asked.wanted += 1
            return asked.wanted
        }
    }

    /// Whether what a sweep is to find, and no event told of, is still out.
    var isOwed: Bool { asked.withLock { $0.done < $0.wanted } }

    /// Whether every sweep asked for by now has ended before `timeout`, and was not stopped. Blocks its thread.
    func waitForOwed(timeout: Duration) -> Bool {
        let wanted = asked.withLock { $0.wanted }
        return asked.wait(timeout: timeout) { $0.done >= wanted || $0.isStopping } && !asked.withLock { $0.isStopping }
    }

    /// Until `stop`. `baseline`: this is a new catalogue, and what did not change since then is on every replica that will not be
    /// seeded, so it becomes the catalogue's content. `swept` is called after the first sweep.
    func run(baseline: Timestamp?, swept: () -> Void) throws {
        try? CurrentProcess.useDiskWhenIdle()  // only politeness
        try sweep(baseline: baseline)
        swept()
        while true {
            _ = asked.wait(timeout: parts.period) { $0.wanted > $0.done || $0.isStopping }
            if asked.withLock({ $0.isStopping }) { return }
            try sweep(baseline: nil)
        }
    }

    private func sweep(baseline: Timestamp?) throws {
        let number = asked.withLock { $0.wanted }
        let snapshot = try parts.catalogue.snapshot()
        var sweep = Sweep(baselineEnd: baseline)
        for root in parts.roots.names { try look(in: StorePath(root: root), snapshot, &sweep) }
        // A disk that gave an error may be well by now. What is refused again, the capturer tells.
        let failed = sweep.failed
        sweep.failed = []
        for directory in failed { try look(in: directory, snapshot, &sweep) }
        report(&sweep)
        let untold = sweep.failed
        if !untold.isEmpty { parts.inbox.update { $0.hints += untold.map { .directory($0) } } }
        if !asked.withLock({ $0.isStopping }) {
            parts.inbox.update { $0.sweptThrough = number }
            asked.update { $0.done = number }
        }
        parts.status.update { status in
            status.sweepCount += 1
            status.lastSweep = parts.now()
        }
    }

    private struct Sweep {
        let baselineEnd: Timestamp?
        var suspects: [StorePath] = []
        var baseline: [(path: StorePath, status: FileStatus)] = []
        /// Directories that could not be looked at.
        var failed: [StorePath] = []
    }

    /// Throws where that is for want of descriptors or memory: then nothing is known of what is below.
    private func look(in directory: StorePath, _ snapshot: CatalogueSnapshot, _ sweep: inout Sweep) throws {
        guard !asked.withLock({ $0.isStopping }) else { return }
        var known = Dictionary(
            try snapshot.entries(of: directory).map { ($0.name, $0.entry) }, uniquingKeysWith: { first, _ in first })
        var directories: [StorePath] = []
        let found: [(name: [UInt8], status: FileStatus)]
        do throws(SystemError) {
            found = try statuses(in: directory)
        } catch {
            guard !error.isShortage else { throw error }
            // What cannot be looked at does not keep us from the rest.
            parts.log.error("\(directory): \(error)")
            return sweep.failed.append(directory)
        }
        for (name, status) in found {
            let path = directory.appending(name)
            if status.kind == .other { continue }
            if status.kind == .directory { directories.append(path) }
            let row = known.removeValue(forKey: name)
            let isMessage = parts.roots.layout.isMessage(path)
            if let row, row.stillDescribes(status, asMessage: isMessage) { continue }
            if let end = sweep.baselineEnd, status.ctimeNanoseconds < end.nanoseconds {
                sweep.baseline.append((path, status))
            } else {
                sweep.suspects.append(path)
            }
        }
        for name in known.keys { sweep.suspects.append(directory.appending(name)) }
        if sweep.suspects.count + sweep.baseline.count >= Self.reportCountMax { report(&sweep) }
        for directory in directories { try look(in: directory, snapshot, &sweep) }
    }

    /// Of what is shipped.
    private func statuses(in directory: StorePath) throws(SystemError) -> [(name: [UInt8], status: FileStatus)] {
        guard let place = try parts.roots.directory(directory) else { return [] }
        var found: [(name: [UInt8], status: FileStatus)] = []
        var hasTooLong = false
        for entry in try place.entries() where StorePath.isName(entry.name) {
            if parts.roots.isTooLong(directory.appending(entry.name)) { hasTooLong = true }
            guard parts.roots.isShipped(directory.appending(entry.name)),
                let status = try place.status(of: entry.name)
            else { continue }
            found.append((entry.name, status))
        }
        // The capturer tells of those.
        if hasTooLong { parts.inbox.update { $0.hints.append(.directory(directory)) } }
        return found
    }

    private func report(_ sweep: inout Sweep) {
        let (suspects, baseline) = (sweep.suspects, sweep.baseline)
        sweep.suspects = []
        sweep.baseline = []
        guard !suspects.isEmpty || !baseline.isEmpty else { return }
        while !asked.withLock({ $0.isStopping }),
            !parts.inbox.wait(
                timeout: Self.pollInterval, until: { $0.suspects.count + $0.baseline.count < Self.pendingCountMax })
        {}
        parts.inbox.update { inbox in
            inbox.suspects.append(contentsOf: suspects)
            inbox.baseline.append(contentsOf: baseline)
        }
    }
}

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
        var isWanted = false
        var isStopping = false
        /// Sweeps. Invariant: ended <= begun <= ended + 1.
        var begun = 0
        var ended = 0
        /// What is to be found by the first so many sweeps was told by no event. The first is owed for the time before the start.
        var owed = 1
    }

    private static let reportCountMax = 1000

    init(_ parts: Parts) { self.parts = parts }

    func stop() { asked.update { $0.isStopping = true } }

    /// A whole sweep that begins after this call is owed.
    func sweepSoon() {
        asked.update { asked in
            asked.isWanted = true
            asked.owed = asked.begun + 1
        }
    }

    var isOwed: Bool { asked.withLock { $0.ended < $0.owed } }

    /// Whether what is owed now has ended before `timeout`, and was not stopped. Blocks its thread.
    func waitForOwed(timeout: Duration) -> Bool {
        let owed = asked.withLock { $0.owed }
        return asked.wait(timeout: timeout) { $0.ended >= owed || $0.isStopping } && !asked.withLock { $0.isStopping }
    }

    /// Until `stop`. `isBaseline`: this is a new catalogue and no replica has anything, so what is there becomes its
    /// content. `swept` is called after the first sweep.
    func run(isBaseline: Bool, swept: () -> Void) throws {
        try? CurrentProcess.useDiskWhenIdle()  // only politeness
        try sweep(isBaseline: isBaseline)
        swept()
        while true {
            let isStopping = asked.take(timeout: parts.period) { asked -> Bool? in
                guard asked.isWanted || asked.isStopping else { return nil }
                asked.isWanted = false
                return asked.isStopping
            }
            if isStopping == true { return }
            try sweep(isBaseline: false)
        }
    }

    private func sweep(isBaseline: Bool) throws {
        asked.update { $0.begun += 1 }
        defer { asked.update { $0.ended += 1 } }
        let snapshot = try parts.catalogue.snapshot()
        var sweep = Sweep(isBaseline: isBaseline)
        for root in parts.roots.names { try look(in: StorePath(root: root), snapshot, &sweep) }
        report(&sweep)
        parts.status.update { status in
            status.sweepCount += 1
            status.lastSweep = parts.now()
        }
    }

    private struct Sweep {
        let isBaseline: Bool
        var suspects: [StorePath] = []
        var baseline: [(path: StorePath, status: FileStatus)] = []
    }

    private func look(in directory: StorePath, _ snapshot: CatalogueSnapshot, _ sweep: inout Sweep) throws {
        guard !asked.withLock({ $0.isStopping }) else { return }
        var known = Dictionary(
            try snapshot.entries(of: directory).map { ($0.name, $0.entry) }, uniquingKeysWith: { first, _ in first })
        var directories: [StorePath] = []
        let found: [(name: [UInt8], status: FileStatus)]
        do throws(SystemError) {
            found = try statuses(in: directory)
        } catch {
            // What cannot be looked at does not keep us from the rest.
            return parts.log.error("\(directory): \(error)")
        }
        for (name, status) in found {
            let path = directory.appending(name)
            if status.kind == .other { continue }
            if status.kind == .directory { directories.append(path) }
            let row = known.removeValue(forKey: name)
            let isMessage = if case .message = parts.roots.layout.role(of: path) { true } else { false }
            if let row, row.stillDescribes(status, asMessage: isMessage) { continue }
            if sweep.isBaseline { sweep.baseline.append((path, status)) } else { sweep.suspects.append(path) }
        }
        for name in known.keys { sweep.suspects.append(directory.appending(name)) }
        if sweep.suspects.count + sweep.baseline.count >= Self.reportCountMax { report(&sweep) }
        for directory in directories { try look(in: directory, snapshot, &sweep) }
    }

    /// Of what is shipped.
    private func statuses(in directory: StorePath) throws(SystemError) -> [(name: [UInt8], status: FileStatus)] {
        guard let place = try parts.roots.directory(directory) else { return [] }
        var found: [(name: [UInt8], status: FileStatus)] = []
        for entry in try place.entries() where StorePath.isName(entry.name) {
            guard parts.roots.isShipped(directory.appending(entry.name)),
                let status = try place.status(of: entry.name)
            else { continue }
            found.append((entry.name, status))
        }
        return found
    }

    private func report(_ sweep: inout Sweep) {
        let (suspects, baseline) = (sweep.suspects, sweep.baseline)
        sweep.suspects = []
        sweep.baseline = []
        guard !suspects.isEmpty || !baseline.isEmpty else { return }
        parts.inbox.update { inbox in
            inbox.suspects.append(contentsOf: suspects)
            inbox.baseline.append(contentsOf: baseline)
        }
    }
}

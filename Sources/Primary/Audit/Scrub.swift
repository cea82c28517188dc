import Formats
import Linux
import Logging
import Store
import Synchronization

/// The continuous audit: all contents once in `period`, at a rate that takes about that long, and all metadata every
/// hour. Two threads, started with the primary and ended with it; they work while a replica follows the log.
///
/// A round of contents goes on, after a restart or where something could not be compared, behind the last directory before
/// which it had proven all. What the daemon may not read is left out, and told once.
final class Scrub: Sendable {
    private let period: Duration
    private let primary: Primary
    private let directory: String
    private let record: Mutex<ScrubRecord>
    /// Told of as unreadable.
    private let told = Mutex<Set<StorePath>>([])

    private static let metadataInterval = Duration.seconds(3600)
    private static let firstDelay = Duration.seconds(600)
    private static let retryInterval = Duration.seconds(60)
    /// However small the store is; a large one needs more.
    private static let bytesPerSecondMin = 256 << 10
    private static let saveEvery = 256

    init(_ primary: Primary, period: Duration, directory: String) throws(SystemError) {
        self.primary = primary
        self.period = period
        self.directory = directory
        record = Mutex(try ScrubRecord(in: directory))
    }

    var current: ScrubRecord { record.withLock { $0 } }

    /// A thread each, until the daemon ends.
    func runContent() {
        var due = MonotonicTime.now() + min(Self.firstDelay, period / 10)
        while wait(until: due) {
            let began = record.withLock { record in
                if record.contentBegan == nil { record.contentBegan = .now() }
                return record.contentBegan ?? .now()
            }
            let start = MonotonicTime.now()
            var options = AuditOptions(depth: .content)
            options.resumeAfter = current.contentReached
            let isDone = round(options, paced: .overPeriod) { record, _ in
                record.content = ScrubRecord.Round(
                    began: began, ended: .now(), findingCount: record.contentFindingCount)
                record.contentBegan = nil
                record.contentReached = nil
                record.contentFindingCount = 0
            }
            due = isDone ? max(start + period, .now()) : .now() + min(Self.retryInterval, period)
        }
    }

    func runMetadata() {
        let interval = min(Self.metadataInterval, period)
        var due = MonotonicTime.now() + min(Self.firstDelay, interval)
        while wait(until: due) {
            let began = Timestamp.now()
            let isDone = round(AuditOptions(depth: .metadata), paced: .freely) { record, findingCount in
                record.metadata = ScrubRecord.Round(began: began, ended: .now(), findingCount: findingCount)
            }
            due = .now() + (isDone ? interval : min(Self.retryInterval, interval))
        }
    }

    /// False when the daemon ends.
    private func wait(until due: MonotonicTime) -> Bool {
        while !primary.desk.isStopping, MonotonicTime.now() < due { primary.desk.pause(due - .now()) }
        return !primary.desk.isStopping
    }

    private func rate() throws -> Int {
        let seconds = max(1, Double(period.nanosecondsClamped) / 1e9)
        let bytes = try primary.catalogue.snapshot().totals().bytes
        // A tenth more, so that a round ends within its period.
        return max(Self.bytesPerSecondMin, Int(Double(bytes) / seconds * 1.1))
    }

    /// Whether it came to its end; then `note` is given its findings.
    private func round(
        _ options: AuditOptions, paced pace: Pace, _ note: (inout ScrubRecord, _ findingCount: Int) -> Void
    ) -> Bool {
        let (primary, log) = (primary, primary.log)
        var options = options
        let findingCount = Atomic(0)
        let provenCount = Atomic(0)
        defer { save() }
        do {
            if case .overPeriod = pace { options.bytesPerSecondMax = try rate() }
            let isOfContent = options.depth == .content
            let end = try primary.audit(
                options, isCancelled: { false },
                proven: { directory in
                    guard isOfContent else { return }
                    self.record.withLock { $0.contentReached = directory }
                    let count = provenCount.add(1, ordering: .relaxed).newValue
                    if count % Self.saveEvery == 0 { self.save() }
                },
                tell: { event in
                    guard case .finding(let finding) = event, finding.kind != .corrupt else { return }
                    log.error(
                        "audit: \(finding.kind.rawValue): \(finding.side.rawValue): \(finding.path): \(finding.evidence)"
                    )
                    findingCount.add(1, ordering: .relaxed)
                    self.record.withLock { record in
                        record.findingCount += 1
                        if isOfContent { record.contentFindingCount += 1 }
                        record.lastFinding = .now()
                    }
                })
            tell(end.unreadable)
            record.withLock { record in
                record.note(unproven: end.unfinished + end.unreadable.map(\.path), isOfContent ? .content : .metadata)
                if end.isComplete { note(&record, findingCount.load(ordering: .relaxed)) }
            }
            return end.isComplete
        } catch let failure as AuditFailure {
            if failure.kind != .unavailable { log.info("audit: \(failure)") }
            return false
        } catch {
            // Of the store, or of the catalogue: whatever it is, the next round may be spared it, and the daemon has others to
            // notice what is there to stay.
            log.warning("audit: \(error)")
            return false
        }
    }

    private enum Pace { case overPeriod, freely }

    private func tell(_ unreadable: [AuditProgress.Unreadable]) {
        for item in unreadable where told.withLock({ $0.insert(item.path).inserted }) {
            primary.log.warning("audit: \(item.path): not compared, with all below it: \(item.error)")
        }
    }

    /// One of the two threads at a time: each writes what both have noted.
    private func save() {
        do throws(SystemError) {
            try record.withLock { (record) throws(SystemError) in try record.save(in: directory) }
        } catch {
            primary.log.warning("scrub: \(error)")
        }
    }
}

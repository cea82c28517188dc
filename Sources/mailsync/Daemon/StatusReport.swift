import Formats
import Foundation
import Linux
import Primary
import Replica
import ReplicationLog

/// What `mailsync status` shows; the JSON of `--json` is this, encoded.
struct StatusReport: Codable, Sendable {
    var store: String
    var role: String
    var epoch: UInt32
    var state: String
    /// ISO 8601.
    var since: String?
    var positions = Positions()
    var lag: Lag?
    /// "The replica is exact as of": the primary's clock, ISO 8601.
    var exactAsOf: String?
    var replicas: [Replica]?
    var watch: Watch?
    var capture: Capture?
    var seed: Seed?
    var awaitedFiles: Int?
    var journalBytes: Int
    var oldest: String?
    var residentBytes: Int?
    var lastError: Incident?
    /// Who was not let in last, and why.
    var lastRefusal: Incident?
    /// What is wrong with this host as it is now.
    var warnings: [String]?
    var audit: Audit?

    struct Audit: Codable, Sendable {
        /// When the last whole comparison of all contents, and of all metadata, began: ISO 8601.
        var contentProvenSince: String?
        var metadataProvenSince: String?
        var contentAgeSeconds: Double?
        var metadataAgeSeconds: Double?
        /// A comparison of contents under way.
        var contentBegan: String?
        var findings: UInt64
        var lastFinding: String?
        /// A directory or file that the last comparison could not look at; nothing if it has looked at all.
        var oldestUnproven: Unproven?
    }

    struct Unproven: Codable, Sendable {
        var path: String
        /// When the last comparison began that had it: ISO 8601.
        var since: String
        var ageSeconds: Double
    }

    struct Positions: Codable, Sendable {
        var journaled: String?
        var shipped: String?
        var received: String?
        var flushed: String?
        var applied: String?
    }

    struct Lag: Codable, Sendable {
        var seconds: Double?
        var batches: UInt64
        /// About.
        var bytes: Int
    }

    struct Replica: Codable, Sendable {
        var fingerprint: String
        /// As this end's configuration calls it, if it has a name there.
        var name: String?
        var state: String
        var shipped: String
        var flushed: String
        var applied: String
        var lagBatches: UInt64
        /// Flushed, and not applied.
        var unappliedBatches: UInt64
        var lastHeard: String?
        /// Why it stands still, in its own words; nothing while it goes on.
        var pausedBecause: String?
    }

    struct Watch: Codable, Sendable {
        var directories: Int
        var unwatchedDirectories: Int
        var overflows: Int
        var sweeps: UInt64
        var lastSweep: String?
        var missedEvents: UInt64
    }

    struct Capture: Codable, Sendable {
        var dirtyDirectories: Int
        var batches: UInt64
        var records: UInt64
        var batchBytes: UInt64
        var busyUsers: UInt64
        var unsettledBatches: UInt64
        var lockHoldMaxMilliseconds: Double
        var lockHolds: [String: UInt64]
        var alarms: [Alarm]
    }

    struct Alarm: Codable, Sendable {
        var path: String
        var why: String
        var since: String
    }

    struct Seed: Codable, Sendable {
        var files: UInt64
        var bytes: UInt64
        var wireBytes: UInt64
        var seconds: Double
        /// Of all, about; not known at once.
        var expectedFiles: UInt64?
        var secondsLeft: Double?
        var isDone: Bool
    }

    struct Incident: Codable, Sendable {
        var why: String
        var at: String
    }
}

extension Timestamp {
    /// As in 2026-11-22T03:00:00.123Z.
    var iso8601: String {
        let date = Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)
        return date.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true)) + "Z"
    }
}

extension StatusReport {
    init(store: String, primary status: PrimaryStatus, lastRefusal: Incident?, names: PeerNames, now: Timestamp) {
        let slots = status.replicas.values
        let slowest = slots.map(\.slot.flushed).min()
        self.init(
            store: store, role: "primary", epoch: status.epoch.number,
            state: Self.state(of: status),
            journalBytes: status.journalBytes)
        positions = Positions(
            journaled: "\(status.journaled)", shipped: slots.map(\.shipped).min().map { "\($0)" },
            received: slowest.map { "\($0)" }, flushed: slowest.map { "\($0)" },
            applied: slots.map(\.slot.applied).min().map { "\($0)" })
        oldest = "\(status.oldest)"
        if let slowest = slots.min(by: { $0.slot.flushed < $1.slot.flushed }) {
            lag = Lag(
                seconds: nil, batches: Self.distance(from: slowest.slot.flushed, to: status.journaled),
                bytes: slowest.lagBytes)
        }
        replicas = status.replicas.sorted { $0.key < $1.key }.map { name, replica in
            Replica(
                fingerprint: name, name: names.own(of: name),
                state: replica.slot.state.rawValue,
                shipped: "\(replica.shipped)", flushed: "\(replica.slot.flushed)", applied: "\(replica.slot.applied)",
                lagBatches: Self.distance(from: replica.slot.flushed, to: status.journaled),
                unappliedBatches: Self.distance(from: replica.slot.applied, to: replica.slot.flushed),
                lastHeard: replica.slot.lastHeard?.iso8601, pausedBecause: replica.slot.pausedBecause)
        }
        watch = Watch(
            directories: status.watch.watched, unwatchedDirectories: status.watch.unwatched,
            overflows: status.watch.overflows, sweeps: status.capture.sweepCount,
            lastSweep: status.capture.lastSweep?.iso8601, missedEvents: status.capture.missedCount)
        capture = Capture(status.capture)
        if let scrub = status.scrub { audit = Audit(scrub, now: now) }
        if let error = status.capture.lastError { lastError = Incident(why: error.why, at: error.since.iso8601) }
        self.lastRefusal = lastRefusal
    }

    private static func state(of status: PrimaryStatus) -> String {
        if status.capture.isPaused { return "paused" }
        if status.phase == .starting { return "starting" }
        return status.replicas.values.contains { $0.slot.isConnected } ? "streaming" : "waiting for a replica"
    }

    init(store: String, replica status: ReplicaStatus, warning: String?, now: Timestamp) {
        self.init(
            store: store, role: "replica", epoch: max(status.epochSeen, status.flushed.epoch).number,
            state: status.phase.rawValue, journalBytes: status.journalBytes)
        since = status.since.iso8601
        let journaled = max(status.journaled, status.flushed)
        positions = Positions(
            journaled: "\(journaled)", shipped: nil, received: "\(max(status.received, status.flushed))",
            flushed: "\(status.flushed)", applied: "\(status.applied)")
        exactAsOf = status.exactAsOf?.iso8601
        lag = Lag(
            seconds: status.isInStep ? 0 : status.exactAsOf.map { Double((now - $0).nanosecondsClamped) / 1e9 },
            batches: Self.distance(from: status.applied, to: journaled), bytes: status.lagBytes)
        awaitedFiles = status.awaitedCount
        if let seed = status.seed {
            self.seed = Seed(
                files: seed.fileCount, bytes: seed.byteCount, wireBytes: seed.wireBytes,
                seconds: Double(((seed.ended ?? .now()) - seed.started).nanosecondsClamped) / 1e9,
                expectedFiles: seed.expectedFileCount,
                secondsLeft: seed.remaining(now: .now()).map { Double($0.nanosecondsClamped) / 1e9 },
                isDone: seed.ended != nil)
        }
        if let error = status.lastError { lastError = Incident(why: error.why, at: error.at.iso8601) }
        warnings = warning.map { [$0] }
    }

    init(store: String, standing: StateDirectory.Standing, pausedBecause why: String) {
        self.init(store: store, role: "primary", epoch: standing.epoch.number, state: "", journalBytes: 0)
        pause(because: Incident(why: why, at: Timestamp.now().iso8601))
    }

    mutating func pause(because incident: Incident) {
        state = "paused"
        lastError = incident
    }

    init(store: String, standing: StateDirectory.Standing, fencedBy epoch: Epoch) {
        self.init(
            store: store, role: "primary", epoch: standing.epoch.number,
            state: "fenced: epoch \(epoch) was promoted elsewhere", journalBytes: 0)
        warnings = [StateDirectory.fencedHint]
    }

    private static func distance(from one: Position, to other: Position) -> UInt64 {
        other.sequence.number > one.sequence.number ? other.sequence.number - one.sequence.number : 0
    }

    private init(store: String, role: String, epoch: UInt32, state: String, journalBytes: Int) {
        self.store = store
        self.role = role
        self.epoch = epoch
        self.state = state
        self.journalBytes = journalBytes
        residentBytes = try? CurrentProcess.residentBytes()  // a figure for the report only
    }
}

extension StatusReport.Audit {
    init(_ record: ScrubRecord, now: Timestamp) {
        func age(_ round: ScrubRecord.Round?) -> Double? {
            round.map { Double((now - $0.began).nanosecondsClamped) / 1e9 }
        }
        self.init(
            contentProvenSince: record.content?.began.iso8601, metadataProvenSince: record.metadata?.began.iso8601,
            contentAgeSeconds: age(record.content), metadataAgeSeconds: age(record.metadata),
            contentBegan: record.contentBegan?.iso8601, findings: record.findingCount,
            lastFinding: record.lastFinding?.iso8601,
            oldestUnproven: record.oldestUnproven.map { path, since in
                StatusReport.Unproven(
                    path: path.description, since: since.iso8601,
                    ageSeconds: Double((now - since).nanosecondsClamped) / 1e9)
            })
    }

    var text: String {
        func word(_ seconds: Double?) -> String {
            guard let seconds else { return "not yet" }
            switch seconds {
            case ..<120: return String(format: "%.0f s ago", seconds)
            case ..<7200: return String(format: "%.0f min ago", seconds / 60)
            case ..<172_800: return String(format: "%.0f h ago", seconds / 3600)
            default: return String(format: "%.0f d ago", seconds / 86400)
            }
        }
        let found = findings == 0 ? "no findings" : "\(findings) findings, the last at \(lastFinding ?? "")"
        let unproven = oldestUnproven.map { ", \($0.path) not since \(word($0.ageSeconds))" } ?? ""
        return "contents compared \(word(contentAgeSeconds)), metadata \(word(metadataAgeSeconds)), \(found)\(unproven)"
    }
}

extension StatusReport.Capture {
    init(_ status: CaptureStatus) {
        var holds: [String: UInt64] = [:]
        for (index, count) in status.lockHolds.counts.enumerated() where count > 0 {
            let bounds = LockHolds.boundsMicroseconds
            holds[index < bounds.count ? "<=\(bounds[index])us" : ">\(bounds[index - 1])us"] = count
        }
        self.init(
            dirtyDirectories: status.dirtyCount, batches: status.batchCount, records: status.recordCount,
            batchBytes: status.batchBytes, busyUsers: status.busyCount, unsettledBatches: status.unsettledCount,
            lockHoldMaxMilliseconds: Double(status.lockHolds.longest.nanosecondsClamped) / 1e6, lockHolds: holds,
            alarms: status.alarms.sorted { $0.key < $1.key }.map {
                StatusReport.Alarm(path: $0.key.description, why: $0.value.why, since: $0.value.since.iso8601)
            })
    }
}

extension StatusReport {
    /// Why not all that a replica has is in its store.
    private static func reason(_ replica: Replica) -> String {
        let unapplied = replica.unappliedBatches > 0 ? ", \(replica.unappliedBatches) not applied" : ""
        return unapplied + (replica.pausedBecause.map { ": \($0)" } ?? "")
    }

    /// Fits a screen.
    var text: String {
        var lines: [(String, String)] = [
            ("store", store), ("role", "\(role), epoch \(epoch)"),
            ("state", since.map { "\(state) since \($0)" } ?? state),
        ]
        let shown = [
            positions.journaled.map { "journaled \($0)" }, positions.shipped.map { "shipped \($0)" },
            positions.received.map { "received \($0)" }, positions.flushed.map { "flushed \($0)" },
            positions.applied.map { "applied \($0)" },
        ]
        let known = shown.compactMap(\.self).joined(separator: ", ")
        if !known.isEmpty { lines.append(("positions", known)) }
        if let lag {
            let seconds = lag.seconds.map { String(format: "%.1f s, ", $0) } ?? ""
            let bytes = lag.bytes > 0 ? String(format: ", about %.1f MB", Double(lag.bytes) / 1e6) : ""
            lines.append(("lag", "\(seconds)\(lag.batches) batches\(bytes)"))
        }
        if let exactAsOf { lines.append(("exact as of", exactAsOf)) }
        for replica in replicas ?? [] {
            lines.append(
                (
                    "replica",
                    "\(replica.name.map { "\($0): " } ?? "")\(replica.state), flushed \(replica.flushed), applied \(replica.applied), \(replica.lagBatches) batches behind"
                        + Self.reason(replica)
                ))
            lines.append(("", replica.fingerprint))
        }
        if let seed {
            lines.append(
                (
                    "seed",
                    "\(seed.files) files, \(seed.bytes) bytes in \(String(format: "%.1f", seed.seconds)) s\(seed.isDone ? ", done" : "")"
                ))
        }
        if let watch {
            lines.append(
                (
                    "watching",
                    "\(watch.directories) directories, \(watch.unwatchedDirectories) unwatched, \(watch.overflows) overflows, \(watch.missedEvents) missed events in \(watch.sweeps) sweeps"
                ))
        }
        if let capture {
            lines.append(
                (
                    "captured",
                    "\(capture.records) records in \(capture.batches) batches, \(capture.dirtyDirectories) directories dirty"
                ))
            lines.append(
                (
                    "locks",
                    String(
                        format: "held %.1f ms at most; users put off %d times while Cyrus wrote",
                        capture.lockHoldMaxMilliseconds,
                        Int(capture.busyUsers))
                ))
            for alarm in capture.alarms.prefix(5) { lines.append(("alarm", "\(alarm.path): \(alarm.why)")) }
            if capture.alarms.count > 5 { lines.append(("", "and \(capture.alarms.count - 5) more (--json)")) }
        }
        if let audit { lines.append(("scrub", audit.text)) }
        if let awaitedFiles, awaitedFiles > 0 { lines.append(("awaited", "\(awaitedFiles) files asked for whole")) }
        for warning in warnings ?? [] { lines.append(("warning", warning)) }
        if let lastRefusal { lines.append(("last refused", "\(lastRefusal.at): \(lastRefusal.why)")) }
        if let lastError { lines.append(("last error", "\(lastError.at): \(lastError.why)")) }
        let width = lines.map(\.0.count).max() ?? 0
        return lines.map { label, value in
            // A value is one line, whatever the other end says.
            label + String(repeating: " ", count: width - label.count) + "  " + Output.plain(value) + "\n"
        }.joined()
    }
}

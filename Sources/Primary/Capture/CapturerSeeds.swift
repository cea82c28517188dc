import Formats
import Linux
import Logging
import ReplicationLog
import Store

// Versions of changing files for replicas that are being seeded: read in a round like any other, and delivered when what
// is new of them is in the journal.

extension Capturer {
    /// A seed that waits for some of its directory's files.
    struct PendingSeed {
        let request: SeedRequest
        var wanted: Set<StorePath>
        var files: [SeedDelivery.File] = []
    }

    /// Only what Cyrus changes is read for a seed; the messages it reads itself.
    func absorb(_ request: SeedRequest) throws {
        // Another replica's seed is at the same directory: after it.
        guard seeds[request.directory] == nil else { return waitingSeeds.append(request) }
        let entries: [DirectoryEntry]
        do throws(SystemError) {
            entries = try parts.roots.entries(of: request.directory) ?? []
        } catch {
            alarm(request.directory, .system(error))
            return request.deliver(SeedDelivery(files: []))
        }
        let paths = entries.filter { StorePath.isName($0.name) && $0.kind != .directory }
            .map { request.directory.appending($0.name) }
            .filter { parts.roots.isShipped($0) && !isMessage($0) }
        guard !paths.isEmpty else { return request.deliver(SeedDelivery(files: [])) }
        seeds[request.directory] = PendingSeed(request: request, wanted: Set(paths))
        for path in paths { dirty.mark(path) }
    }

    /// Keeps the versions that a seed asked for until what is new of them is in the journal.
    func noteSeeds(_ jobs: [CaptureJob], _ captured: [Captured], _ round: inout CaptureRound) {
        guard !seeds.isEmpty else { return }
        for job in jobs {
            guard let seed = seeds[job.directory] else { continue }
            for path in job.names.map({ job.directory.appending($0) }) where seed.wanted.contains(path) {
                round.seeded[path] = .some(nil)
            }
        }
        for item in captured where round.seeded[item.path] != nil {
            if case .file(let version, _) = item.found { round.seeded[item.path] = version }
        }
    }

    func deliver(_ seeded: [StorePath: FileVersion?]) {
        let asOf = parts.journal.flushed.position
        for (path, version) in seeded {
            guard var seed = seeds[path.parent], seed.wanted.remove(path) != nil else { continue }
            if let version {
                seed.files.append(SeedDelivery.File(path: path, version: version, asOf: asOf))
            } else if let alarm = parts.status.current.alarms[path] {
                parts.log.error("\(path): seeded without it, as it is held back: \(alarm.why)")
            }
            seeds[path.parent] = seed
            guard seed.wanted.isEmpty else { continue }
            seeds[path.parent] = nil
            seed.request.deliver(SeedDelivery(files: seed.files))
        }
    }
}

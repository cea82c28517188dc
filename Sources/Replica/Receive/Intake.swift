import Delta
import Formats
import Linux
import Logging
import ReplicationLog

/// From the link into the replica's journal; one thread.
///
/// Flow: take all batches that came, append them, flush once, ack `flushed`. While one flush is under way the next
/// batches gather, so the load makes the groups and no clock does.
struct Intake {
    let journal: Journal
    let shared: SharedReplica
    let log: Logger

    /// Until the inbox says stop, and what had come by then is flushed.
    func run() throws {
        while true {
            let work = shared.work.take { work -> SharedReplica.Work? in
                guard work.isStopping || !work.arrived.isEmpty else { return nil }
                defer {
                    work.arrived = []
                    work.arrivedBytes = 0
                }
                return work
            }
            guard let work else { continue }
            if !work.arrived.isEmpty {
                guard try append(work.arrived) else { return }
                shared.update {
                    $0.journalBytes = journal.byteCount
                    $0.lagBytes = journal.byteCount(after: $0.applied)
                }
                shared.moved(flushed: journal.flushed.position)
                // The applier waits for the journal to grow.
                shared.work.update { _ in }
            }
            if work.isStopping { return }
        }
    }

    /// A batch that cannot be opened must not get into the journal: the applier would never get past it.
    private func isReadable(_ batch: SealedBatch) -> Bool {
        do {
            _ = try BatchReader.records(of: batch)
            return true
        } catch {
            let why = "batch \(batch.position) is sealed well, and cannot be read: \(error)"
            log.error("refused: \(why)")
            shared.refuse(why)
            return false
        }
    }

    /// Waits while the disk is full: nothing was acked, so nothing is lost. False if it was time to end before there was room.
    private func append(_ arrived: [SharedReplica.Arrived]) throws -> Bool {
        var rest = arrived[...]
        while let next = rest.first {
            do throws(JournalError) {
                // What comes behind one that was refused is no continuation; it comes again.
                if next.batch.position.sequence == journal.newest.position.sequence.next, isReadable(next.batch) {
                    try journal.append(next.batch, known: next.hash)
                }
                rest = rest.dropFirst()
            } catch {
                guard case .system(let system) = error, system.isShortage else { throw error }
                shared.pauses(.intake, because: "\(error)")
                log.error("paused: \(error): \(system.shortageHint), it goes on by itself")
                let isStopping = shared.work.wait(timeout: .seconds(1)) { $0.isStopping }
                if isStopping { return false }
            }
        }
        try journal.flush()
        shared.goesOn(.intake)
        return true
    }
}

import Formats
import Linux
import Store

/// Checks that are under way between the audits, the capturer, and the replicas' links. Any thread.
final class AuditDesk: Sendable {
    private let state: Condition<State>
    private let inbox: Condition<CaptureInbox>

    private struct State: Sendable {
        var nextNumber: UInt64
        var open: [UInt64: Open] = [:]
        /// The replicas that follow the log.
        var following: Set<String> = []
        /// How far each of them has applied the log, and since when.
        var advances: [String: (applied: Position, since: MonotonicTime)] = [:]
        /// Where their stores are, by replica.
        var places: [String: Place] = [:]
        var isStopping = false

        /// The replicas that have not come to a check that is in the log, and have not moved since.
        func standing(at check: Open, since: MonotonicTime) -> [String] {
            guard let position = check.delivery?.position else { return [] }
            return check.replicas.filter { replica in
                guard check.verdicts[replica] == nil, let advance = advances[replica] else { return false }
                return advance.applied < position && advance.since <= since
            }.sorted()
        }
    }

    private struct Open: Sendable {
        let replicas: Set<String>
        var delivery: CheckDelivery?
        var verdicts: [String: AuditVerdict.Outcome] = [:]

        /// All that will come has come.
        var isDone: Bool {
            guard let delivery else { return false }
            return delivery.position == nil || verdicts.count == replicas.count
        }
    }

    private static let cancellationInterval = Duration.seconds(1)

    struct Result: Sendable {
        let delivery: CheckDelivery
        /// By replica.
        let verdicts: [String: AuditVerdict.Outcome]
    }

    enum Answer: Sendable {
        case result(Result)
        /// Nobody knows what became of it, or nobody wants to any more.
        case lost
        /// It is in the log, and these replicas have applied nothing of what is before it, or itself, all the time.
        case standing([String])
    }

    /// `first` tells the numbers of this run from those of an earlier one.
    init(inbox: Condition<CaptureInbox>, firstNumber first: UInt64) {
        self.inbox = inbox
        state = Condition(State(nextNumber: first))
    }

    // MARK: - audits

    var following: Set<String> { state.withLock { $0.following } }
    var isStopping: Bool { state.withLock { $0.isStopping } }

    /// The number of a new audit, by which both ends know that checks belong together.
    func begin() -> UInt64 {
        state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
    }

    /// Asks the capturer; the number is for `wait`.
    func submit(
        _ kind: CheckRequest.Kind, _ listings: [DirectoryListing], in root: RootName, _ depth: AuditCheck.Depth,
        _ haste: CheckRequest.Haste, of audit: UInt64
    ) -> UInt64 {
        let number = state.withLock { state in
            defer { state.nextNumber += 1 }
            state.open[state.nextNumber] = Open(replicas: state.following)
            return state.nextNumber
        }
        let request = CheckRequest(
            number: number, audit: audit, root: root, depth: depth, kind: kind, haste: haste, listings: listings,
            deliver: { delivery in self.state.update { $0.open[number]?.delivery = delivery } })
        inbox.update { $0.checkRequests.append(request) }
        return number
    }

    /// What came of it by `timeout`; it is forgotten then.
    func wait(for number: UInt64, timeout: Duration, isCancelled: () -> Bool) -> Answer {
        let began = MonotonicTime.now()
        let deadline = began + timeout
        var result: Result??
        repeat {
            let left = min(deadline - .now(), Self.cancellationInterval)
            result = state.take(timeout: max(.zero, left)) { state -> Result?? in
                guard let open = state.open[number], !state.isStopping else { return .some(nil) }
                guard open.isDone, let delivery = open.delivery else { return nil }
                return Result(delivery: delivery, verdicts: open.verdicts)
            }
        } while result == nil && .now() < deadline && !isCancelled()
        return state.withLock { state in
            let open = state.open.removeValue(forKey: number)
            if case .some(.some(let result)) = result { return .result(result) }
            let standing = open.map { state.standing(at: $0, since: began) } ?? []
            return standing.isEmpty || isCancelled() ? .lost : .standing(standing)
        }
    }

    func isDone(_ number: UInt64) -> Bool { state.withLock { $0.open[number]?.isDone ?? true } }

    /// A pause that ends early when the daemon does.
    func pause(_ duration: Duration) { _ = state.wait(timeout: duration) { $0.isStopping } }

    /// Waits until a replica follows the log; false after `timeout`.
    func waitForReplica(timeout: Duration) -> Bool {
        state.wait(timeout: timeout) { !$0.following.isEmpty || $0.isStopping } && !isStopping
    }

    func repair(_ repairs: [Repair]) { inbox.update { $0.repairs.append(contentsOf: repairs) } }

    func stop() { state.update { $0.isStopping = true } }

    /// Where a replica's store is, or without one named any one's; nothing if it has not said.
    func place(of replica: String?) -> Place? {
        state.withLock { state in
            replica.map { state.places[$0] } ?? state.places.min { $0.key < $1.key }?.value
        }
    }

    // MARK: - links

    func note(_ place: Place, of replica: String) { state.update { $0.places[replica] = place } }

    func follows(_ replica: String) {
        state.update { state in
            state.following.insert(replica)
            state.advances[replica] = (.zero, .now())
        }
    }

    func applied(_ position: Position, by replica: String) {
        state.withLock { state in
            if state.advances[replica]?.applied != position { state.advances[replica] = (position, .now()) }
        }
    }

    /// What it was asked and has not answered it will not answer any more.
    func left(_ replica: String) {
        state.update { state in
            state.following.remove(replica)
            state.advances[replica] = nil
            state.places[replica] = nil
            for number in state.open.keys { Self.note(replica, .lost(why: "its link was closed"), number, &state) }
        }
    }

    func answered(_ replica: String, _ verdict: AuditVerdict) {
        state.update { Self.note(replica, verdict.outcome, verdict.number, &$0) }
    }

    /// The first word counts; nobody waits for the others.
    private static func note(
        _ replica: String, _ outcome: AuditVerdict.Outcome, _ number: UInt64, _ state: inout State
    ) {
        guard let open = state.open[number], open.replicas.contains(replica), open.verdicts[replica] == nil else {
            return
        }
        state.open[number]?.verdicts[replica] = outcome
    }
}

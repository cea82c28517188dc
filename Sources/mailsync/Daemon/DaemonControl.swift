import Formats
import Linux
import Primary
import Replica
import ReplicationLog
import Store
import Synchronization

// What a daemon answers on its control socket, whatever its role is now.

extension Daemon {
    func answer(_ request: ControlRequest) async -> ControlAnswer {
        do {
            switch request {
            case .status:
                return .status(try status())
            case .positionNow(let timeout):
                return try await positionNow(Self.bounded(timeout))
            case .wait(let position, let level, let timeout):
                return try await wait(position, level, Self.bounded(timeout))
            case .promote(let held):
                return try await startPromotion(held)
            case .resume:
                return try await resume()
            case .verify:
                return .failed("a verification is answered line by line")
            case .stop:
                stop()
                return .done("stopping")
            }
        } catch {
            return .failed("\(error)")
        }
    }

    /// A year at most, and none for what is no number.
    private static func bounded(_ seconds: Double) -> Duration { .seconds(seconds > 0 ? min(seconds, 31_536_000) : 0) }

    private func status() throws -> StatusReport {
        switch current.withLock({ $0 }) {
        case .primary(let primary):
            var report = StatusReport(
                store: configuration.store, primary: primary.status, lastRefusal: lastRefusal.withLock { $0 },
                names: configuration.peerNames, now: .now())
            if let rival = rivals.withLock({ $0.values.first }) { report.lastError = rival }
            if let shortage = lastShortage.withLock({ $0 }) { report.pause(because: shortage) }
            return report
        case .replica(let replica):
            return StatusReport(
                store: configuration.store, replica: replica.status,
                warning: CyrusMaster.warning(for: configuration.imapdConf), now: .now())
        case .fenced(let epoch):
            return StatusReport(store: configuration.store, standing: try state.standing(), fencedBy: epoch)
        case .paused(let why):
            return StatusReport(store: configuration.store, standing: try state.standing(), pausedBecause: why)
        case .none:
            if let why = lastShortage.withLock({ $0?.why }) {
                return StatusReport(store: configuration.store, standing: try state.standing(), pausedBecause: why)
            }
            throw Failure(.tryAgain, Current.none.idleReason)
        }
    }

    private func positionNow(_ timeout: Duration) async throws -> ControlAnswer {
        let deadline = MonotonicTime.now() + timeout
        var current = try await outlastingPause(until: deadline)
        while case .primary(let primary) = current {
            try primary.checkRoots()
            let position = try await Linux.Thread.run(name: "wait-now") { () throws(SystemError) -> Position? in
                do throws(SystemError) {
                    return try primary.positionNow(timeout: deadline - .now())
                } catch {
                    guard error.isShortage else { throw error }
                    return nil
                }
            }
            if let position { return .position(position.description) }
            guard MonotonicTime.now() < deadline else { break }
            try await Task.sleep(for: .milliseconds(100))
            current = try await outlastingPause(until: deadline, after: primary)
        }
        switch current {
        case .primary:
            let pause = try status()
            return .notInTime(
                why: "what was written is not in the log yet"
                    + (pause.state == "paused" ? ": paused: \(pause.lastError?.why ?? "")" : ""))
        case .paused: return .notInTime(why: current.idleReason)
        case .none, .replica, .fenced: throw Failure(.unavailable, current.idleReason)
        }
    }

    /// What this end is, once it is at work. A primary that ended for want of something is followed by another; `after` that one.
    private func outlastingPause(until deadline: MonotonicTime, after ended: Primary? = nil) async throws -> Current {
        while true {
            let current = current.withLock { $0 }
            switch current {
            case .paused: break
            case .none where ended != nil: break
            case .primary(let primary) where primary === ended && primary.hasEnded: break
            case .none, .primary, .replica, .fenced: return current
            }
            guard MonotonicTime.now() < deadline else { return current }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func wait(_ text: String, _ levelText: String, _ timeout: Duration) async throws -> ControlAnswer {
        guard let position = Position(text), let level = Primary.Level(rawValue: levelText) else {
            return .failed("not a position and a level: \(text) \(levelText)")
        }
        let deadline = MonotonicTime.now() + timeout
        var current = current.withLock { $0 }
        if case .fenced = current { throw Failure(.unavailable, current.idleReason) }
        while true {
            let isReached = try await Linux.Thread.run(name: "wait") { [current] () -> Bool in
                let timeout = deadline - .now()
                return switch current {
                case .primary(let primary): primary.wait(for: position, level, timeout: timeout)
                case .replica(let replica): replica.wait(for: position, isApplied: level == .applied, timeout: timeout)
                case .none, .fenced, .paused: false
                }
            }
            if isReached { return .reached }
            guard case .primary(let primary) = current, primary.hasEnded, MonotonicTime.now() < deadline else {
                return .notInTime(why: current.delay(position, level, configuration.peerNames))
            }
            current = try await outlastingPause(until: deadline, after: primary)
        }
    }

    /// Of what the brake holds: a full disk is no matter of words.
    private func resume() async throws -> ControlAnswer {
        guard case .replica(let replica) = current.withLock({ $0 }) else {
            throw Failure(.unavailable, ResumeCommand.noReplica)
        }
        guard try replica.heldReason() != nil else {
            let status = replica.status
            let why =
                status.phase == .paused ? status.lastError.map { ": it is paused for another reason: \($0.why)" } : nil
            return .done("removal_brake holds nothing" + (why ?? ""))
        }
        // After a start it comes to what is held in a moment; a full disk may keep it from that for longer.
        let deadline = MonotonicTime.now() + .seconds(10)
        while !replica.releaseBrake() {
            guard MonotonicTime.now() < deadline else {
                let status = replica.status
                let why = status.phase == .paused ? status.lastError.map { ": \($0.why)" } : nil
                throw Failure(.tryAgain, "it has not come to what removal_brake holds yet" + (why ?? ""))
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        return .done("going on")
    }

    private func startPromotion(_ held: ReplicaEnd.HeldLog) async throws -> ControlAnswer {
        // By who has asked before, and perhaps not waited.
        if let number = promotion.join(held) { return try await awaitPromotion(number) }
        guard case .replica(let replica) = current.withLock({ $0 }) else {
            throw Failure(.unavailable, "this end is no replica: there is nothing to promote")
        }
        try replica.checkPromotable()
        let warning = Promotion.warning(before: replica.status)
        guard let number = promotion.ask(for: held) else {
            throw Failure(.unavailable, "another promotion is under way, or this daemon is ending")
        }
        replica.stop()
        let report = try await awaitPromotion(number)
        guard case .done(let text) = report, let warning else { return report }
        return .done("\(text)\n\(warning)")
    }

    private func awaitPromotion(_ number: Int) async throws -> ControlAnswer {
        let promotion = promotion
        let answer = try await Linux.Thread.run(name: "promote") {
            promotion.wait(for: number, timeout: .seconds(3600))
        }
        return answer ?? .failed("the promotion did not finish within an hour, or before this daemon ended")
    }
}

extension Daemon.Current {
    /// Who is not at `position` yet, and why, as far as it is known here.
    fileprivate func delay(_ position: Position, _ level: Primary.Level, _ names: PeerNames) -> String {
        switch self {
        case .primary(let primary):
            let behind = primary.behind(position, level).sorted { $0.key < $1.key }.map { name, slot in
                let at = level == .flushed ? slot.flushed : slot.applied
                let isThere = at >= position && !slot.isSeeding
                let isHalfSeeded = slot.isSeeding && !slot.isConnected
                let why: String? =
                    isThere
                    ? "its copy is consistent at \(slot.consistentAfter)"
                    : isHalfSeeded ? "it has not followed the log since its seed began" : slot.pausedBecause
                return
                    "\(names.words(for: name)) is \(slot.state.rawValue), \(level.rawValue) \(at)\(why.map { ": \($0)" } ?? "")"
            }
            if behind.isEmpty, !primary.status.replicas.isEmpty, !primary.leads(through: position) {
                return
                    "the log does not lead through it, or what came before epoch \(primary.status.journaled.epoch) is not kept"
            }
            return behind.isEmpty ? "no replica has ever connected" : behind.joined(separator: "; ")
        case .replica(let replica):
            let status = replica.status
            let why = status.phase == .paused ? status.lastError?.why : nil
            return "this end is \(status.phase.rawValue), "
                + "\(level.rawValue) \(level == .flushed ? status.flushed : status.applied)\(why.map { ": \($0)" } ?? "")"
        case .none, .fenced, .paused:
            return idleReason
        }
    }
}

import Foundation
import Linux
import Primary
import Replica
import Store
import Synchronization

extension Daemon {
    /// `mailsync verify`, on either end: the primary makes the audit, a replica has it made.
    func verify(_ request: VerifyRequest, _ output: VerifyOutput) async {
        let (current, layout, names) = (current.withLock { $0 }, layout, configuration.peerNames)
        do {
            try await Linux.Thread.run(name: "verify") {
                switch current {
                case .primary(let primary):
                    VerifyService(primary: primary, layout: layout, names: names)
                        .run(request, isCancelled: { output.isClosed }, send: { output.send($0) })
                case .replica(let replica):
                    Self.relay(request, to: replica, output)
                case .none, .fenced, .paused:
                    output.send(
                        .failed(why: "verify: \(current.idleReason)", status: ExitStatus.unavailable.rawValue))
                }
            }
        } catch {
            output.send(.failed(why: "verify: \(error)", status: ExitStatus.systemError.rawValue))
        }
    }

    private static func relay(_ request: VerifyRequest, to replica: Replica, _ output: VerifyOutput) {
        do {
            let text = Array(try JSONEncoder().encode(request))
            let end = replica.audit(
                text, isCancelled: { output.isClosed },
                line: { line in
                    // What is no line of ours comes from another version, and its end is told all the same.
                    if let line = try? JSONDecoder().decode(VerifyLine.self, from: Data(line)) { output.send(line) }
                })
            switch end {
            case .finished:
                output.send(.failed(why: "verify: ended without a result", status: ExitStatus.tryAgain.rawValue))
            case .noLink:
                output.send(
                    .failed(why: "verify: there is no link to the primary", status: ExitStatus.unavailable.rawValue))
            case .linkLost:
                output.send(
                    .failed(why: "verify: the link to the primary was lost", status: ExitStatus.tryAgain.rawValue))
            }
        } catch {
            output.send(.failed(why: "verify: \(error)", status: ExitStatus.bug.rawValue))
        }
    }

    /// Audits that are asked for at a replica, a thread each.
    func serveAudits(of primary: Primary) {
        let (layout, names) = (layout, configuration.peerNames)
        // The primary keeps this, and is not to keep itself.
        primary.serveAudits { [weak primary] asked in
            guard let primary else { return asked.send([]) }
            do throws(SystemError) {
                _ = try Linux.Thread.start(name: "verify") {
                    Self.serve(asked, VerifyService(primary: primary, layout: layout, names: names))
                }
            } catch {
                asked.send([])
            }
        }
    }

    private static func serve(_ asked: AuditRequest, _ service: VerifyService) {
        defer { asked.send([]) }
        // Another version may ask in other words; then there is nothing but the end.
        guard let request = try? JSONDecoder().decode(VerifyRequest.self, from: Data(asked.text)) else { return }
        service.run(
            request, isCancelled: { asked.isCancelled },
            send: { line in
                if let bytes = try? JSONEncoder().encode(line) { asked.send(Array(bytes)) }  // ours can be encoded
            })
    }
}

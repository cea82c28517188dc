import Formats
import Linux

extension Replica {
    package enum AuditEnd: Sendable {
        case finished
        case noLink
        /// The link ended before the audit did.
        case linkLost
    }

    /// Has the primary make an audit, which `text` describes; `line` gets what it reports. Blocks its thread.
    package func audit(
        _ text: [UInt8], isCancelled: () -> Bool, line: ([UInt8]) -> Void
    ) -> AuditEnd {
        let relay = shared.audits
        guard let number = relay.begin() else { return .noLink }
        defer { relay.end(number) }
        shared.send(.auditRequest(number: number, text: text))
        while true {
            switch relay.next(number, timeout: .milliseconds(500)) {
            case .lines(let lines):
                for text in lines {
                    if text.isEmpty { return .finished }
                    line(text)
                }
            case .linkLost:
                return .linkLost
            case .nothingYet:
                break
            }
            guard !isCancelled() else {
                shared.send(.auditRequest(number: number, text: []))
                return .finished
            }
        }
    }
}

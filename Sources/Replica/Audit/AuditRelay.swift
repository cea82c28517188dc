import Formats
import Linux

/// Audits that an operator asked for at this end, and the primary makes: requests go over the link, lines come back.
package final class AuditRelay: Sendable {
    private let state = Condition(State())

    private struct State: Sendable {
        var nextNumber: UInt32 = 1
        /// What came and was not read yet.
        var lines: [UInt32: [[UInt8]]] = [:]
        var isLinked = false
    }

    package init() {}

    /// The number to ask under; nothing while there is no link.
    func begin() -> UInt32? {
        state.withLock { state in
            guard state.isLinked else { return nil }
            defer { state.nextNumber &+= 1 }
            state.lines[state.nextNumber] = []
            return state.nextNumber
        }
    }

    func end(_ number: UInt32) { state.withLock { $0.lines[number] = nil } }

    /// A line from the primary; an empty one is the last.
    func arrived(_ number: UInt32, _ line: [UInt8]) { state.update { $0.lines[number]?.append(line) } }

    /// The link came or went; with it go all audits that were asked for over it.
    func linked(_ isLinked: Bool) {
        state.update { state in
            state.isLinked = isLinked
            if !isLinked { state.lines = [:] }
        }
    }

    enum Next: Equatable {
        case lines([[UInt8]])
        case linkLost
        case nothingYet
    }

    /// What has come since the last call; waits a little for it.
    func next(_ number: UInt32, timeout: Duration) -> Next {
        let found = state.take(timeout: timeout) { state -> Next? in
            guard let lines = state.lines[number] else { return .linkLost }
            guard !lines.isEmpty else { return nil }
            state.lines[number] = []
            return .lines(lines)
        }
        return found ?? .nothingYet
    }
}

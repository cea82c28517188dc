/// How a `Directory` finds the directory that a name is in.
package enum ParentResolution: Hashable, Sendable {
    /// By its path, each time: right when others rename or remove directories beneath.
    case always
    /// From a small cache, by its path only the first time: for a root where we alone rename and remove directories.
    ///
    /// When others do it all the same, a call may reach the directory that had the path before, until
    /// `Directory.forgetCached`; never anything that was not beneath the root when it was opened.
    case cachedBySoleWriter
}

/// A descriptor that several threads use: closed when the last of them lets go.
final class HeldDescriptor: Sendable {
    let descriptor: Descriptor

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}

/// Directories opened lately, by path; at most `countMax`.
///
/// A thread may look up a directory while another renames it: what it found may then be old, and must not be kept.
/// So every keeper takes a ticket before it looks up, and what was forgotten since makes the ticket void.
final class ParentCache: Sendable {
    static let countMax = 64

    struct Ticket { fileprivate let forgotten: UInt64 }

    private struct State: Sendable {
        var held: [[UInt8]: HeldDescriptor] = [:]
        /// How often something was forgotten.
        var forgotten: UInt64 = 0
    }

    // Nobody waits on it; but Swift's Mutex is unknown to ThreadSanitizer on Linux, which reports every use of it.
    private let state = Condition(State())

    func find(_ path: [UInt8]) -> HeldDescriptor? { state.withLock { $0.held[path] } }

    func ticket() -> Ticket { state.withLock { Ticket(forgotten: $0.forgotten) } }

    func keep(_ parent: HeldDescriptor, for path: [UInt8], _ ticket: Ticket) {
        // When full, all go at once: as cheap as a cleverer choice where one directory is filled after the other.
        let crowded = state.withLock { state -> [[UInt8]: HeldDescriptor] in
            guard state.forgotten == ticket.forgotten else { return [:] }
            var crowded: [[UInt8]: HeldDescriptor] = [:]
            if state.held.count >= Self.countMax { swap(&crowded, &state.held) }
            state.held[path] = parent
            return crowded
        }
        // Closing happens here, outside the lock.
        _ = consume crowded
    }

    func forget(within path: [UInt8]) {
        let gone = state.withLock { state -> [HeldDescriptor] in
            state.forgotten += 1
            let within = state.held.keys.filter { Self.isWithin($0, path) }
            return within.compactMap { state.held.removeValue(forKey: $0) }
        }
        _ = consume gone
    }

    static func isWithin(_ path: [UInt8], _ directory: [UInt8]) -> Bool {
        guard !directory.isEmpty else { return true }
        guard path.starts(with: directory) else { return false }
        return path.count == directory.count || path[directory.count] == UInt8(ascii: "/")
    }
}

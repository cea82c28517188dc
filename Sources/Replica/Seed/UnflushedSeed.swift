import Linux

/// That the flush at the end of a seed failed: `unflushed` in the state directory, until one has succeeded.
///
/// The kernel may have dropped what it still shows from memory (fsync(2), ERRORS), and the next seed would take it for an earlier
/// copy. So that writes anew what it finds.
struct UnflushedSeed: Sendable {
    private let state: String
    let isNoted: Bool

    private static let name = "unflushed"

    init(in state: String) throws(SystemError) {
        self.state = state
        isNoted = try FileStatus.of(state + "/" + Self.name) != nil
    }

    func note() throws(SystemError) { try AtomicFile.replace(directory: state, name: Self.name, bytes: []) }

    func forget() throws(SystemError) {
        if isNoted { try AtomicFile.remove(directory: state, name: Self.name) }
    }
}

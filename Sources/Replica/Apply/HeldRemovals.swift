import Linux

/// That the removal brake holds something back, over a restart: the file `held` of the state directory says why, until an
/// operator has said "resume".
enum HeldRemovals {
    private static let fileName = "held"

    /// Nothing if nothing is held back.
    static func reason(in state: String) throws(SystemError) -> String? {
        let bytes = try AtomicFile.read(directory: state, name: fileName, max: 4096)
        return bytes.map { String(decoding: $0, as: UTF8.self) }
    }

    /// On disk on return.
    static func save(_ why: String, in state: String) throws(SystemError) {
        try AtomicFile.replace(directory: state, name: fileName, bytes: Array(why.utf8))
    }

    static func remove(in state: String) throws(SystemError) {
        try AtomicFile.remove(directory: state, name: fileName)
    }
}

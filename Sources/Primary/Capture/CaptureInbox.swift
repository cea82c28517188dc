import Formats
import Linux

/// What others ask of the capturer; it takes all at once, in its own time.
struct CaptureInbox: Sendable {
    var hints: [Hint] = []
    /// Found by a sweep to differ from the catalogue.
    var suspects: [StorePath] = []
    /// A replica has no basis for these.
    var resends: [StorePath] = []
    var seedRequests: [SeedRequest] = []
    var checkRequests: [CheckRequest] = []
    /// What a replica has otherwise than the log told.
    var repairs: [Repair] = []
    /// Rows for what is there at the first start, when there is no replica that could lack it.
    var baseline: [(path: StorePath, status: FileStatus)] = []
    var isStopping = false

    var isEmpty: Bool {
        hints.isEmpty && suspects.isEmpty && resends.isEmpty && seedRequests.isEmpty && checkRequests.isEmpty
            && repairs.isEmpty && baseline.isEmpty && !isStopping
    }
}

/// A directory's files that Cyrus changes, wanted as of one position of the log.
struct SeedRequest: Sendable {
    let directory: StorePath
    /// Called on the capturer's thread when they have been read and what was new of them journaled.
    let deliver: @Sendable (SeedDelivery) -> Void
}

struct SeedDelivery: Sendable {
    let files: [File]

    struct File: Sendable {
        let path: StorePath
        let version: FileVersion
        /// The log up to here is in this version, and nothing after it.
        let asOf: Position
    }
}

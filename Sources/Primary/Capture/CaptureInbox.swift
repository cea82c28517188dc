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
    /// A sweep of this number has reported all it found.
    var sweptThrough: UInt64 = 0
    /// The log is to be trimmed up to where the catalogue survives a power cut.
    var wantsDurableCatalogue = false
    /// The capturer has nothing to do: any hint is to wake it, so that what is dirty gets its time.
    var isIdle = false

    /// That of the most urgent thing.
    var urgency: Urgency {
        isAsked ? .now : hints.lazy.map(\.urgency).max() ?? .whenDue
    }

    var isEmpty: Bool { hints.isEmpty && !isAsked }

    /// By somebody who waits.
    private var isAsked: Bool {
        isStopping || sweptThrough > 0 || wantsDurableCatalogue || !suspects.isEmpty || !resends.isEmpty
            || !seedRequests.isEmpty || !checkRequests.isEmpty || !repairs.isEmpty || !baseline.isEmpty
    }
}

extension CaptureInbox {
    mutating func takeAll() -> CaptureInbox {
        defer { self = CaptureInbox() }
        return self
    }

    /// Hints alone, if one does not wait or it is time to stop; what else there is stays for a later round.
    mutating func takeHints() -> [Hint]? {
        guard isStopping || hints.contains(where: { $0.urgency == .now }) else { return nil }
        defer { hints = [] }
        return hints
    }

    /// Nothing if nothing in it is as urgent as that.
    mutating func takeAll(from urgency: Urgency) -> CaptureInbox? {
        self.urgency >= urgency ? takeAll() : nil
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

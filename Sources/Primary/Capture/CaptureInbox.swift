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
    /// No event will come any more.
    var isUnwatched = false
    /// A sweep of this number has reported all it found.
    var sweptThrough: UInt64 = 0
    /// The log is to be trimmed up to where the catalogue survives a power cut.
    var wantsDurableCatalogue = false
    /// How urgent a hint must be to wake the capturer; nothing while it is at work, as it looks here before it rests.
    /// Whoever else puts something in wakes it in any case.
    var awaited: Urgency?

    /// That of the most urgent thing.
    var urgency: Urgency {
        if isAsked { return .now }
        let ofHints = hints.lazy.map(\.urgency).max() ?? .whenDue
        return checkRequests.isEmpty ? ofHints : max(ofHints, .soon)
    }

    var isEmpty: Bool { hints.isEmpty && checkRequests.isEmpty && !isAsked }

    /// By somebody who waits.
    private var isAsked: Bool {
        isStopping || sweptThrough > 0 || wantsDurableCatalogue || !suspects.isEmpty || !resends.isEmpty
            || !seedRequests.isEmpty || !repairs.isEmpty || !baseline.isEmpty
            || checkRequests.contains { $0.haste == .now }
    }
}

extension CaptureInbox {
    /// About 50 MB of them.
    private static let hintsMax = 500_000

    /// Whether the capturer waits for one of these.
    mutating func add(_ more: [Hint]) -> Bool {
        hints.append(contentsOf: more)
        if hints.count > Self.hintsMax {
            // As the kernel does it: the capturer may be waiting for room on the journal's disk.
            hints = [.overflow] + hints.filter { if case .cookie = $0 { true } else { false } }
        }
        guard let awaited else { return false }
        return more.contains { $0.urgency >= awaited }
    }

    mutating func takeAll() -> CaptureInbox {
        defer { (self, isStopping, isUnwatched) = (CaptureInbox(), isStopping, isUnwatched) }
        return self
    }

    /// Hints alone, if `cookie` is among them or no more will come. What else there is stays for a later round; so do other cookies,
    /// which stand for that, too.
    mutating func takeHints(with cookie: UInt64) -> [Hint]? {
        guard isUnwatched || hints.contains(.cookie(cookie)) else { return nil }
        let others = hints.filter { if case .cookie(let number) = $0 { number != cookie } else { false } }
        defer { hints = others }
        return hints.filter { !others.contains($0) }
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

import Digests
import Formats
import Linux
import Store

/// Directories of one root that an audit wants a claim about, at some position of the log from now on.
struct CheckRequest: Sendable {
    let number: UInt64
    /// The audit's own.
    let audit: UInt64
    let root: RootName
    let depth: AuditCheck.Depth
    let kind: Kind
    let haste: Haste
    /// As they were seen a moment ago, without a lock; at depth content with the digests of the messages.
    let listings: [DirectoryListing]
    /// Called on the capturer's thread, once.
    let deliver: @Sendable (CheckDelivery) -> Void

    enum Haste: Sendable {
        /// Of its own it takes no round: while Cyrus writes that would cost more than all of an audit's reading.
        case withNextRound
        /// Before somebody writes there again.
        case now
    }

    enum Kind: Sendable {
        /// Of the directories by name.
        case combined
        /// Of all directories from the first through the last; what the log has told of between them and is not among the
        /// listings is left out, and comes back as postponed.
        case range
        /// Of the directories by name, each by itself.
        case entries(AuditCheck.Records)
        /// Each group is one file under several names.
        case links([[StorePath]])
        case linkDigests([UInt64])
        /// By the replica's own account; of the directories of the listings, or of the store.
        case soundness(AuditCheck.Soundness)
    }
}

/// What became of a request.
struct CheckDelivery: Sendable {
    /// Where the check is in the log; nothing if no directory was ready.
    var position: Position?
    /// What the check claims of each of its directories, in its order.
    var expected: [Expected] = []
    /// Somebody was writing there for too long: to be asked for again.
    var postponed: [StorePath] = []
    /// What was found on the way: on this end, without asking anybody.
    var findings: [LocalFinding] = []
    var links: [[StorePath]] = []

    struct Expected: Sendable {
        let directory: StorePath
        /// Of which nothing is claimed, as its state is not known for sure.
        let excluded: [[UInt8]]
        let digest: UInt64
        let ownerlessDigest: UInt64
        let fileCount: Int
        let byteCount: Int64
        /// Only of a claim about entries.
        let entries: [AuditEntry]
        /// Of these: files whose content is claimed as it was just read, as none was recorded when they were shipped.
        let unrecorded: Set<[UInt8]>
    }
}

/// Something about the primary's own store.
struct LocalFinding: Sendable {
    let path: StorePath
    let what: What

    enum What: Sendable {
        /// It changed, and no event told; it is shipped by now.
        case missed(before: AuditEntry?, now: AuditEntry?)
        /// Its content changed, and nothing else did.
        case rot(recorded: Digest, found: Digest, witness: Witness)
    }

    /// What Cyrus says a message's content is (SHA-1, in the index).
    enum Witness: Sendable {
        case againstDisk, forDisk, silent
    }
}

/// What is to be put right on a replica, by records of the log.
struct Repair: Sendable {
    let path: StorePath
    let cure: Cure

    enum Cure: Sendable {
        /// Content, or a name that is missing: sent whole, what stands there kept aside.
        case whole
        /// Content is right.
        case metadata
        /// There is nothing of that name here.
        case remove
        /// It is one file with `target`.
        case link(target: StorePath)
    }
}

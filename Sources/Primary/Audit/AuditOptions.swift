package import Formats

/// What an operator, or the scrub, wants audited.
package struct AuditOptions: Sendable {
    package var depth: Depth
    package var scope: Scope
    package var repair: RepairPolicy
    /// Bytes a second read on each end; nothing: no limit but the idle priority.
    package var bytesPerSecondMax: Int?
    /// Only this part of the directories is read, of all others the metadata is compared.
    package var sample: Sample?
    /// Of all directories in their order, those behind this one.
    var resumeAfter: StorePath?

    package enum Depth: String, Sendable {
        case metadata, content
        /// Content, and each end's store as Cyrus understands it.
        case cyrus
    }

    package enum Scope: Sendable {
        case all
        case below(StorePath)
        /// All of a user's directories.
        case user([UInt8])
        /// By the internal name.
        case mailbox([UInt8])
    }

    package enum RepairPolicy: Sendable {
        case reportOnly, repair
    }

    /// The `part`th of `parts`, from 1 on.
    package struct Sample: Sendable {
        package var part: UInt64
        package var parts: UInt64

        package init(part: UInt64, parts: UInt64) {
            self.part = part
            self.parts = parts
        }
    }

    package init(
        depth: Depth, scope: Scope = .all, repair: RepairPolicy = .reportOnly, bytesPerSecondMax: Int? = nil,
        sample: Sample? = nil
    ) {
        self.depth = depth
        self.scope = scope
        self.repair = repair
        self.bytesPerSecondMax = bytesPerSecondMax
        self.sample = sample
    }
}

/// How far an audit is.
package struct AuditProgress: Sendable {
    package var directoryCount = 0
    package var fileCount = 0
    package var byteCount: Int64 = 0
    /// About, as the catalogue knows it; nothing where only a part of the store is audited.
    package var fileCountTotal: Int?
    package var byteCountTotal: Int64?
    package var findingCount = 0
    package var healedCount = 0
    /// Not compared: somebody was writing all the time, or the replica went away.
    package var unfinished: [StorePath] = []
    /// The replicas compared.
    package var replicas: [String] = []

    package init() {}
}

package enum AuditEvent: Sendable {
    case finding(AuditFinding)
    case progress(AuditProgress)
}

/// Why an audit could not be made at all.
package struct AuditFailure: Error, CustomStringConvertible {
    package let why: String
    package let kind: Kind

    package enum Kind: Sendable {
        /// No replica is connected.
        case unavailable
        /// Stopped, or the replica went away for good.
        case interrupted
        case wrongScope
    }

    package var description: String { why }
}

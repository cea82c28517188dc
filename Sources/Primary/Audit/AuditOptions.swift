package import Formats
package import Linux

/// What an operator, or the scrub, wants audited.
package struct AuditOptions: Sendable {
    package var depth: Depth
    package var scope: Scope
    package var repair: RepairPolicy
    /// Bytes a second read on each end; nothing: no limit but the threads' low priority.
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

        /// What it means that there is no directory of it; nothing if that may be.
        var absence: String? {
            switch self {
            case .all, .below: nil
            case .user(let name): "the primary has nothing of a user \(String(decoding: name, as: UTF8.self))"
            case .mailbox(let name):
                "the primary has no mailbox \(String(decoding: name, as: UTF8.self)): name it as an administrator does, "
                    + "user/NAME/FOLDER, or as findings do, user.NAME.FOLDER"
            }
        }
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
    /// Not compared either, with all below them: the primary cannot look at them.
    package var unreadable: [Unreadable] = []
    /// The replicas compared, from the beginning on.
    package var replicas: [String] = []
    /// Those that were not, or not all the time.
    package var absent: [String] = []

    package init() {}

    package struct Unreadable: Sendable {
        package let path: StorePath
        package let error: SystemError

        /// By its mode, so it will be the next time too: lost+found, say, where the daemon is not root.
        var isForbidden: Bool { error.errno == .accessDenied || error.errno == .notPermitted }
    }

    /// Whether to ask again could compare nothing more.
    var isComplete: Bool { unfinished.isEmpty && unreadable.allSatisfy(\.isForbidden) }
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

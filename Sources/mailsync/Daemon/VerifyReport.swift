import Formats
import Foundation
import Linux
import Primary
import Store

/// What `mailsync verify` asks of a daemon; one JSON object, on the control socket and over the link.
struct VerifyRequest: Codable, Sendable {
    var depth = "content"
    /// As users see it: `user/alice/Sent`.
    var mailbox: String?
    var user: String?
    /// `ROOT/PATH`, as findings show it.
    var path: String?
    var repair = false
    /// Bytes a second.
    var maxRate: Int?
    var samplePart: UInt64?
    var sampleParts: UInt64?
}

/// A line of the answer.
enum VerifyLine: Codable, Sendable {
    case finding(Finding)
    case progress(Progress)
    /// The last one.
    case end(Progress)
    /// The last one.
    case failed(why: String, status: Int32)

    struct Finding: Codable, Sendable {
        var kind: String
        var side: String
        var path: String
        var mailbox: String?
        var user: String?
        var evidence: String
        var outcome: String
        var restore: String?
        var replica: String?
        /// As the primary's configuration calls it, if it has a name there.
        var replicaName: String?
    }

    struct Progress: Codable, Sendable {
        var directories: Int
        var files: Int
        var bytes: Int64
        var filesTotal: Int?
        var bytesTotal: Int64?
        var findings: Int
        var healed: Int
        var unfinished: [String]
        /// With the reason; nothing from an earlier version.
        var unreadable: [String]?
        var replicas: [String]
        /// Not connected all the time, and so not compared.
        var absent: [String]?
    }
}

extension VerifyLine.Finding {
    init(_ finding: AuditFinding, _ names: PeerNames) {
        self.init(
            kind: finding.kind.rawValue, side: finding.side.rawValue, path: "\(finding.path)", mailbox: finding.mailbox,
            user: finding.user, evidence: finding.evidence, outcome: finding.outcome.rawValue, restore: finding.restore,
            replica: finding.replica, replicaName: finding.replica.flatMap { names.own(of: $0) })
    }

    /// What is held back is told of, and is no difference of the replica's.
    var isDifference: Bool { kind != AuditFinding.Kind.corrupt.rawValue }

    var text: String {
        var words = "\(kind): \(side)\(replicaName.map { " \($0)" } ?? ""): \(path): "
        if let mailbox { words += "mailbox \(mailbox): " }
        if mailbox == nil, let user { words += "user \(user): " }
        words += evidence
        if outcome != AuditFinding.Outcome.found.rawValue { words += ": \(outcome)" }
        if let restore { words += "\n  if the replica's copy is good: \(restore)" }
        return words
    }
}

extension VerifyLine.Progress {
    /// Nothing was left out.
    var isComplete: Bool { unfinished.isEmpty && (unreadable ?? []).isEmpty && (absent ?? []).isEmpty }

    init(_ progress: AuditProgress, _ names: PeerNames) {
        self.init(
            directories: progress.directoryCount, files: progress.fileCount, bytes: progress.byteCount,
            filesTotal: progress.fileCountTotal, bytesTotal: progress.byteCountTotal, findings: progress.findingCount,
            healed: progress.healedCount, unfinished: progress.unfinished.map { "\($0)" },
            unreadable: progress.unreadable.map { "\($0.path): \($0.error)" }, replicas: progress.replicas,
            absent: progress.absent.map { names.words(for: $0) })
    }
}

extension VerifyRequest {
    func options(_ layout: StoreLayout) throws -> AuditOptions {
        guard let depth = AuditOptions.Depth(rawValue: depth) else {
            throw Failure(.usage, "\(depth): no such depth", hint: "it is metadata, content or cyrus")
        }
        var options = AuditOptions(depth: depth, repair: repair ? .repair : .reportOnly, bytesPerSecondMax: maxRate)
        if let samplePart, let sampleParts {
            guard sampleParts > 0, 1...sampleParts ~= samplePart else {
                throw Failure(
                    .usage, "\(samplePart)/\(sampleParts): no such part", hint: "it is 1/7 to 7/7, for example")
            }
            options.sample = AuditOptions.Sample(part: samplePart, parts: sampleParts)
        }
        if let user { options.scope = .user(Array(user.utf8)) }
        if let mailbox { options.scope = .mailbox(Self.internalName(mailbox, layout)) }
        if let path {
            let parts = path.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            guard let root = parts.first, layout.root(RootName(String(root))) != nil,
                let place = StorePath(root: RootName(String(root)), path: parts.count > 1 ? Array(parts[1].utf8) : [])
            else {
                let roots = layout.roots.map(\.name.name).joined(separator: ", ")
                throw Failure(.usage, "\(path): not a path of this store", hint: "it begins with one of \(roots)")
            }
            options.scope = .below(place)
        }
        return options
    }

    /// From how clients see a mailbox to how Cyrus writes it, which is how findings name it and is taken as well.
    static func internalName(_ name: String, _ layout: StoreLayout) -> [UInt8] {
        if name.hasPrefix("user."), !name.contains("/") { return Array(name.utf8) }
        var local = name[...]
        var domain = ""
        if let at = name.lastIndex(of: "@") {
            domain = name[name.index(after: at)...] + "!"
            local = name[..<at]
        }
        guard layout.hierarchySeparator == .slash else { return Array((domain + local).utf8) }
        let inner = local.map { $0 == "." ? "^" : $0 == "/" ? "." : $0 }
        return Array((domain + String(inner)).utf8)
    }
}

/// Runs one audit for somebody, and writes its lines.
struct VerifyService: Sendable {
    let primary: Primary
    let layout: StoreLayout
    let names: PeerNames

    private static let progressInterval = Duration.milliseconds(500)

    /// Blocks its thread. `send` returns false when nobody listens any more.
    func run(
        _ request: VerifyRequest, isCancelled: @escaping @Sendable () -> Bool, send: @escaping (VerifyLine) -> Void
    ) {
        do {
            var lastProgress = MonotonicTime(nanoseconds: 0)
            let end = try primary.audit(try request.options(layout), isCancelled: isCancelled) { event in
                switch event {
                case .finding(let finding): send(.finding(VerifyLine.Finding(finding, names)))
                case .progress(let progress):
                    guard MonotonicTime.now() - lastProgress > Self.progressInterval else { return }
                    lastProgress = .now()
                    send(.progress(VerifyLine.Progress(progress, names)))
                }
            }
            send(.end(VerifyLine.Progress(end, names)))
        } catch let failure as AuditFailure {
            let status: ExitStatus =
                switch failure.kind {
                case .unavailable: .unavailable
                case .interrupted: .tryAgain
                case .wrongScope: .usage
                }
            send(.failed(why: "verify: \(failure.why)", status: status.rawValue))
        } catch let failure as Failure {
            send(.failed(why: failure.description, status: failure.status.rawValue))
        } catch {
            send(.failed(why: "verify: \(error)", status: ExitStatus.systemError.rawValue))
        }
    }
}

import ArgumentParser
import Formats
import Foundation
import Replica
import Store

struct PromoteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "promote",
        abstract: "Make a primary of this replica: apply all it has, start a new epoch, fence the old primary.")

    @OptionGroup var common: CommonOptions
    @Flag(
        help:
            "Leave out what the removal brake holds, and all of the log behind it: the primary has lost much of its store."
    )
    var discardHeld = false

    func run() throws {
        let configuration = try common.read()
        let held: ReplicaEnd.HeldLog = discardHeld ? .discarded : .kept
        let state = try common.readState()
        let standing = try state.standing()
        guard standing.role == .replica else {
            let fenced = standing.fencedBy.map { StateDirectory.fencedReason($0) }
            throw Failure(
                .usage, fenced ?? "this end is the primary already", hint: fenced.map { _ in StateDirectory.fencedHint }
            )
        }
        if let warning = CyrusMaster.warning(for: configuration.imapdConf) {
            throw Failure(.configuration, warning, hint: "stop it, promote, and start it again")
        }
        var next = "the daemon goes on as the primary"
        do {
            switch try ControlClient(path: state.controlSocket).ask(.promote(held: held), timeout: .seconds(3600)) {
            case .done(let report): Output.print(report)
            case .failed(let why): throw Failure(.unavailable, why)
            case .status, .position, .reached, .notInTime: throw Failure(.bug, "the daemon answered another question")
            }
        } catch let failure as Failure where failure.status == .unavailable && failure.why.hasPrefix("no daemon") {
            Output.print(try OfflinePromotion(configuration: configuration, state: state, held: held).run())
            next = "\"mailsync run\" serves replicas of this end"
        }
        if configuration.listen == nil {
            next = "add \"listen: 0.0.0.0:2009\" to \(configuration.file) for \"mailsync run\""
        }
        Output.note("hint: Cyrus can be started here; \(next)")
    }
}

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract:
            "Let a replica go on that stopped because too much would be removed, or a primary whose store was moved."
    )

    static let noReplica = "this end is no replica: nothing is paused"

    @OptionGroup var common: CommonOptions

    func run() throws {
        let configuration = try common.read()
        let state = try common.readState()
        let standing = try state.standing()
        if let epoch = standing.fencedBy {
            throw Failure(.usage, StateDirectory.fencedReason(epoch), hint: StateDirectory.fencedHint)
        }
        let role = standing.role
        if try takeMovedRoots(configuration, state, role) { return }
        guard role == .replica else {
            throw Failure(
                .usage, Self.noReplica,
                hint: "run \"mailsync resume\" on the replica")
        }
        switch try ControlClient(path: state.controlSocket).ask(.resume) {
        case .done(let text): Output.print(text)
        case .failed(let why): throw Failure(.unavailable, why)
        case .status, .position, .reached, .notInTime: throw Failure(.bug, "the daemon answered another question")
        }
    }

    /// Where roots of a primary's store are other directories than before, no daemon runs; from now on these are the store's. False if
    /// they are the same. A replica's are compared with the primary's instead.
    private func takeMovedRoots(_ configuration: Configuration, _ state: StateDirectory, _ role: Role) throws -> Bool {
        let layout = try configuration.layout()
        let found = try KnownRoots(at: layout)
        let end: StrangeRoot.End = role == .primary ? .primary : .replica
        let strangers = try KnownRoots(in: state.path).strangers(layout, found, of: end)
        guard let first = strangers.first else { return false }
        guard role == .primary, first.isThere else { throw first }
        let hold = try state.hold()
        defer { withExtendedLifetime(hold) {} }
        try found.save(in: state.path)
        try state.giveToOwner()
        for root in strangers { Output.print("\(root.name): \(root.path): taken for the store as it is now") }
        Output.note("hint: \"mailsync run\" compares all of it, and tells the replicas what is not as before")
        return true
    }
}

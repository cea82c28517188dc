import Digests
import Formats
import Linux
import Logging
import Store

/// One audit, from its first directory to its last finding; a thread of its own runs it.
///
/// Flow: directories are planned, listed and their messages read (`AuditPlan`), and gathered into groups; a group goes to
/// the capturer, which puts a check into the log; a few groups are under way at once. What is equal costs a few bytes.
/// Of what is not, the directories are checked again by themselves, with all their entries (`narrow`): only that makes
/// a finding. Directories that somebody was writing in, or that changed before they were read, come again (`again`).
/// With repair, what a replica has otherwise goes through the log again, and is checked once more.
final class AuditWalk {
    struct Parts {
        let roots: StoreRoots
        let desk: AuditDesk
        let locks: CyrusLocks
        let log: Logger
        let alarms: @Sendable () -> [StorePath: CaptureStatus.Alarm]
        /// The store has changed a moment ago.
        let isCyrusAtWork: @Sendable () -> Bool
        /// Called for each directory that every replica was just proven to have alike.
        let proven: @Sendable (StorePath, AuditCheck.Depth) -> Void
        /// Somebody who asked for this has gone, or the daemon ends.
        let isCancelled: @Sendable () -> Bool
        let tell: (AuditEvent) -> Void
    }

    let parts: Parts
    let options: AuditOptions
    let reader: ListingReader
    let names: MailboxNames
    var progress: AuditProgress
    private var group = Group()
    private var metadataGroup = Group()
    private var underWay: [(number: UInt64, group: Group)] = []
    /// Of files with several names, where they are.
    var links = LinkNames()
    /// What both ends know this audit by.
    let number: UInt64
    private var attempts: [StorePath: Int] = [:]
    /// Replicas that have applied nothing while a check was waited for in vain.
    var standing: [String] = []
    var waiting: [(StorePath, AuditCheck.Depth)] = []
    var suspected: [(StorePath, AuditCheck.Depth)] = []
    var told: Set<Told> = []
    /// Compared, and not alike at some replica.
    var countedDifferent: Set<StorePath> = []
    private var pace: AuditPace
    private var haste = CheckRequest.Haste.withNextRound
    /// For depth `cyrus`.
    private var mailboxes: [(directory: StorePath, byteCount: Int64)] = []

    struct Told: Hashable {
        let path: StorePath
        let replica: String?
        let kind: AuditFinding.Kind
    }

    /// Neighbours that are checked together.
    private struct Group {
        var listings: [DirectoryListing] = []
        var entryCount = 0
        var byteCount: Int64 = 0
        /// Bytes of files that change, which are read under locks.
        var mutableBytes: Int64 = 0
        var depth = AuditCheck.Depth.content
        var kind = CheckRequest.Kind.combined

        mutating func add(_ listing: DirectoryListing) {
            listings.append(listing)
            entryCount += listing.items.count
            for item in listing.items where item.entry.kind == .file {
                byteCount += item.status.byteCount
                if !item.isMessage { mutableBytes += item.status.byteCount }
            }
        }

        var isFull: Bool {
            listings.count >= 256 || entryCount >= 8192 || byteCount >= 64 << 20 || mutableBytes >= 8 << 20
        }
    }

    private static let groupsUnderWayMax = 4
    /// Who was being written so often is asked about at once.
    private static let patientAttempts = 3
    static let narrowedMax = 16
    private static let indexName = Array("cyrus.index".utf8)

    init(_ options: AuditOptions, _ parts: Parts, totals: (files: Int, bytes: Int64)?) {
        self.options = options
        self.parts = parts
        pace = AuditPace(
            bytesPerSecondMax: options.bytesPerSecondMax, now: .now(), work: ProcessorTime.ofThisThread())
        number = parts.desk.begin()
        reader = ListingReader(parts.roots)
        names = MailboxNames(parts.roots)
        progress = AuditProgress()
        progress.replicas = parts.desk.following.sorted()
        if case .all = options.scope, let totals {
            progress.fileCountTotal = totals.files
            progress.byteCountTotal = totals.bytes
        }
    }

    /// Returns what was compared. Throws `AuditFailure` if that could not be finished.
    func run() throws -> AuditProgress {
        try? CurrentProcess.useDiskWhenIdle()  // only politeness
        CurrentProcess.useProcessorModestly()
        guard parts.desk.waitForReplica(timeout: .seconds(5)) else {
            throw AuditFailure(why: "no replica is connected", kind: .unavailable)
        }
        progress.replicas = parts.desk.following.sorted()
        var plan = try AuditPlan(options, parts.roots, reader)
        var isAnythingThere = false
        while let (listing, depth) = plan.next(read: { read in
            self.restForRate(read: read)
            self.rest()
        }) {
            try checkCancelled()
            isAnythingThere = true
            rest()
            progress.unreadable += plan.takeUnreadable()
            if options.depth == .cyrus, listing.items.contains(where: { $0.entry.name == Self.indexName }) {
                mailboxes.append((listing.directory, listing.byteCount))
            }
            try add(listing, depth, options.isOfNeighbours ? .range : .combined)
        }
        progress.unreadable += plan.takeUnreadable()
        if !isAnythingThere, progress.unreadable.isEmpty, let missing = options.scope.absence {
            throw AuditFailure(why: missing, kind: .wrongScope)
        }
        try submit(&group)
        try submit(&metadataGroup)
        try finish(plan)
        try check(links)
        try checkCyrus(mailboxes)
        tellAlarms()
        parts.tell(.progress(progress))
        return progress
    }

    private func finish(_ plan: AuditPlan) throws {
        while !underWay.isEmpty || !waiting.isEmpty || !suspected.isEmpty {
            try checkCancelled()
            while !underWay.isEmpty { try completeFirst() }
            try narrowSuspected(plan)
            let again = waiting
            waiting = []
            guard !again.isEmpty else { continue }
            // Somebody is at work there: they get a moment.
            let most = again.map { attempts[$0.0] ?? 1 }.max() ?? 1
            rest()
            parts.desk.pause(pace.pause(afterAttempts: most, isCyrusAtWork: parts.isCyrusAtWork()))
            haste = most > Self.patientAttempts ? .now : .withNextRound
            for (directory, depth) in again {
                guard let listing = listAgain(directory, depth, plan) else { continue }
                try add(listing, depth, .combined)
            }
            try submit(&group)
            try submit(&metadataGroup)
        }
    }

    /// As it is now; nothing if it cannot be looked at any more.
    func listAgain(_ directory: StorePath, _ depth: AuditCheck.Depth, _ plan: AuditPlan) -> DirectoryListing? {
        do throws(SystemError) { return try plan.again(directory, depth, read: { restForRate(read: $0) }) } catch {
            leaveOut(directory, error)
            return nil
        }
    }

    func isUnreadable(_ path: StorePath) -> Bool {
        progress.unreadable.contains { path.isWithin($0.path) }
    }

    func leaveOut(_ path: StorePath, _ error: SystemError) {
        progress.unreadable.append(AuditProgress.Unreadable(path: path, error: error))
    }

    func checkCancelled() throws {
        guard !parts.isCancelled() else { throw AuditFailure(why: "stopped", kind: .interrupted) }
        guard !parts.desk.isStopping else {
            throw AuditFailure(
                why: "the primary's daemon has paused or ended meanwhile; `mailsync status` there says why",
                kind: .interrupted)
        }
        guard standing.isEmpty else {
            let names = standing.joined(separator: ", ")
            throw AuditFailure(
                why: "\(names) applies nothing; `mailsync status` there says why, and whether it waits for a resume",
                kind: .interrupted)
        }
    }

    /// As long as `AuditPace` says.
    func rest() {
        let due = pace.rest(work: ProcessorTime.ofThisThread(), isCyrusAtWork: parts.isCyrusAtWork())
        if due > .zero { parts.desk.pause(due) }
    }

    /// What is read again is read at once, before somebody writes there again, but for a rate that was asked for.
    private func restForRate(read byteCount: Int) {
        let due = pace.rest(read: byteCount, now: .now())
        if due > .zero { parts.desk.pause(due) }
    }

    // MARK: - groups

    private func add(_ listing: DirectoryListing, _ depth: AuditCheck.Depth, _ kind: CheckRequest.Kind) throws {
        links.note(listing)
        if depth == options.checkDepth {
            try add(listing, to: &group, depth, kind)
        } else {
            try add(listing, to: &metadataGroup, depth, kind)
        }
    }

    private func add(
        _ listing: DirectoryListing, to group: inout Group, _ depth: AuditCheck.Depth, _ kind: CheckRequest.Kind
    ) throws {
        if let first = group.listings.first, first.directory.root != listing.directory.root { try submit(&group) }
        (group.depth, group.kind) = (depth, kind)
        group.add(listing)
        if group.isFull { try submit(&group) }
    }

    private func submit(_ group: inout Group) throws {
        guard let first = group.listings.first else { return }
        while underWay.count >= Self.groupsUnderWayMax { try completeFirst() }
        let number = parts.desk.submit(
            group.kind, group.listings, in: first.directory.root, group.depth, haste, of: self.number)
        // What is needed of it from here on is only which directories they are.
        var slim = group
        slim.listings = group.listings.map { DirectoryListing(directory: $0.directory, items: []) }
        underWay.append((number, slim))
        group = Group()
        while let first = underWay.first, parts.desk.isDone(first.number) { try completeFirst() }
    }

    private func completeFirst() throws {
        let (number, group) = underWay.removeFirst()
        let directories = group.listings.map(\.directory)
        guard let result = wait(for: number, byteCount: group.byteCount) else {
            return try comeAgain(directories, group.depth)
        }
        try tell(result.delivery.findings)
        try comeAgain(result.delivery.postponed, group.depth)
        let expected = result.delivery.expected
        var open: Set<StorePath> = []
        if result.verdicts.isEmpty, result.delivery.position != nil {
            try comeAgain(expected.map(\.directory), group.depth)
        }
        if !result.verdicts.isEmpty { progress.replicas.removeAll { result.verdicts[$0] == nil } }
        for (_, verdict) in result.verdicts {
            switch verdict {
            case .equal:
                continue
            case .directories(let states) where states.count == expected.count:
                for (state, claimed) in zip(states, expected) where open.insert(claimed.directory).inserted {
                    switch state {
                    // A replica that keeps no owners has another one where there are any; narrowing compares without them.
                    case .digest(claimed.digest): open.remove(claimed.directory)
                    case .digest, .absent: suspected.append((claimed.directory, group.depth))
                    case .movedOn: try comeAgain([claimed.directory], group.depth)
                    }
                }
            case .range(let found):
                let answer = RangeAnswer(number, expected, found)
                for directory in answer.different where open.insert(directory).inserted {
                    suspected.append((directory, group.depth))
                }
                let again = answer.isContradiction ? expected.map(\.directory) : answer.movedOn
                try comeAgain(again.filter { open.insert($0).inserted }, group.depth)
            case .lost, .directories, .details, .brokenLinks, .unsound:
                let lost = expected.map(\.directory).filter { open.insert($0).inserted }
                try comeAgain(lost, group.depth)
            }
        }
        if !result.verdicts.isEmpty { note(expected.filter { !open.contains($0.directory) }, group.depth) }
        parts.tell(.progress(progress))
    }

    func note(_ proven: [CheckDelivery.Expected], _ depth: AuditCheck.Depth) {
        for expected in proven {
            count(expected)
            // Who resumes behind this one must have left nothing before it.
            if waiting.isEmpty, suspected.isEmpty, progress.isComplete { parts.proven(expected.directory, depth) }
        }
    }

    func count(_ compared: CheckDelivery.Expected) {
        guard !countedDifferent.contains(compared.directory) else { return }
        progress.directoryCount += 1
        progress.fileCount += compared.fileCount
        progress.byteCount += compared.byteCount
    }

    func unfinished(_ paths: [StorePath]) { progress.unfinished += paths }

    /// These were not compared this time. Gives up on who was tried too often.
    func comeAgain(_ directories: [StorePath], _ depth: AuditCheck.Depth) throws {
        guard !directories.isEmpty else { return }
        try checkCancelled()
        try waitForReplica()
        for directory in directories where !isUnreadable(directory) {
            attempts[directory, default: 0] += 1
            guard attempts[directory] ?? 0 <= Self.attemptsMax else {
                progress.unfinished.append(directory)
                continue
            }
            waiting.append((directory, depth))
        }
    }
}

extension AuditOptions {
    /// Of most directories.
    var checkDepth: AuditCheck.Depth { depth == .metadata ? .metadata : .content }

    /// Whether all directories that come one after the other are audited, at one depth.
    var isOfNeighbours: Bool {
        guard sample == nil else { return false }
        return switch scope {
        case .all, .below: true
        case .user, .mailbox: false
        }
    }
}

import Formats
import Linux
import Primary
import Store

/// What audits may say, and what they must: nothing is told that is not so, and all that was damaged on purpose is.
///
/// Without damage there is nothing to be found, whatever was killed, cut off, written while the daemon was down, or is
/// just under way. But that a file of the replica cannot be read is so while its disk gives errors.
final class Judge {
    private let world: World
    private let primary: Host
    private let replica: Host
    private let oracle: Oracle
    /// What was damaged at rest, and not repaired yet.
    var damage: [Damage] = []
    /// Files of the replica that were damaged while it worked: what becomes of each is for the log to say as well.
    var harmed: Set<StorePath> = []
    /// What was mended lately: the scrub, which works beside, may still tell what it has seen before.
    private var mended: (damage: [Damage], harmed: Set<StorePath>, until: MonotonicTime)?
    private static let tellingInterval = Duration.seconds(2)
    /// What was missed is shipped with its being told, by whomever: nobody finds it again.
    private var settled: Set<Statement> = []
    private(set) var findingCount = 0
    private(set) var auditCount = 0
    private(set) var completeCount = 0

    /// One thing that is told.
    struct Statement: Hashable, Comparable, CustomStringConvertible {
        let path: StorePath
        let side: AuditFinding.Side
        let kind: AuditFinding.Kind

        var description: String { "\(kind): \(side): \(path)" }

        static func < (one: Statement, other: Statement) -> Bool {
            (one.path, one.kind.rawValue) < (other.path, other.kind.rawValue)
        }
    }

    /// It names all mailboxes.
    private static let mailboxList = StorePath(.configuration, "mailboxes.db")

    init(_ world: World, primary: Host, replica: Host, oracle: Oracle) {
        self.world = world
        self.primary = primary
        self.replica = replica
        self.oracle = oracle
        primary.found = { [self] finding in
            heard(Statement(path: finding.path, side: finding.side, kind: finding.kind), finding.evidence)
        }
        primary.alarmed = { [self] text in scrubbed(text) }
    }

    /// What the scrub finds stands in the log.
    private func scrubbed(_ text: String) {
        let words = text.split(separator: ": ", maxSplits: 4).map(String.init)
        guard words.count == 5, words[0] == "audit" else { return }
        guard let kind = AuditFinding.Kind(rawValue: words[1]), let side = AuditFinding.Side(rawValue: words[2]),
            let slash = words[3].firstIndex(of: "/")
        else { return world.fail("the scrub says what nobody understands: \(text)") }
        let path = StorePath(RootName(String(words[3][..<slash])), String(words[3][words[3].index(after: slash)...]))
        let statement = Statement(path: path, side: side, kind: kind)
        if !wasSo(statement) { heard(statement, words[4]) }
    }

    private func heard(_ statement: Statement, _ evidence: String) {
        // Who is dead says nothing.
        guard !primary.isDead else { return }
        findingCount += 1
        world.note("finding: \(statement): \(evidence)")
        if statement.kind == .missed { settled.insert(statement) }
        guard !isSo(statement, evidence) else { return }
        world.fail("false alarm: \(statement): \(evidence)")
    }

    /// All damage is mended.
    func forgetDamage() {
        mended = (damage, harmed, .now() + Self.tellingInterval)
        (damage, harmed) = ([], [])
    }

    private func wasSo(_ statement: Statement) -> Bool {
        guard let mended, .now() < mended.until else { return false }
        return mended.damage.contains { $0.allows(statement) }
            || statement.side == .replica && isOne(statement.path, of: mended.harmed)
    }

    /// A damaged file is so by the names, too, that the log gave it since, or gives it again after a crash.
    private func isOne(_ path: StorePath, of harmed: Set<StorePath>) -> Bool {
        var (name, seen): (StorePath?, Set<StorePath>) = (path, [])
        while let one = name, seen.insert(one).inserted {
            if harmed.contains(one) { return true }
            name = oracle.linked[one]
        }
        return false
    }

    private func isSo(_ statement: Statement, _ evidence: String) -> Bool {
        if damage.contains(where: { $0.allows(statement) }) { return true }
        // An index that is read beside a header which is not the one it was written with, say.
        if statement.kind == .corrupt, statement.side == .primary {
            return damage.contains { one in
                one.kind == .rot && one.statements.contains { $0.path.parent == statement.path.parent }
            }
        }
        // What no event tells of comes with a sweep; mailboxes.db, which is watched, is ahead of it.
        if primary.hasLackedWatches, [.missed, .unsound].contains(statement.kind) { return true }
        guard statement.side == .replica else { return false }
        if isOne(statement.path, of: harmed) { return true }
        if statement.kind == .unsound,
            harmed.contains(where: { $0.parent == statement.path.parent || $0.parent == statement.path })
                || harmed.contains(Self.mailboxList) && evidence.contains("mailboxes.db")
        {
            return true
        }
        // Of a mailbox is told what could not be read of it, whichever file that is.
        if statement.kind == .unsound, replica.unreadPaths.contains(where: { evidence.contains($0) }) { return true }
        guard let root = replica.layout.root(statement.path.root) else { return false }
        return replica.unreadPaths.contains(root.path + "/" + String(decoding: statement.path.path, as: UTF8.self))
    }

    /// A repair has told and healed all that differs, and nothing else.
    func check(_ repair: Audit, of different: Set<StorePath>) {
        let told = Set(repair.findings.map(\.path))
        guard told == different else {
            return world.fail(
                "\(different.sorted()) are not what they should be, and a repair told of \(told.sorted())")
        }
        if let sick = repair.findings.first(where: { $0.outcome != .healed }) {
            world.fail("\(sick.path) is \(sick.outcome): \(sick.evidence)")
        }
    }

    func note(_ audit: Audit) {
        auditCount += 1
        if audit.isComplete { completeCount += 1 }
    }

    /// An audit that came to its end has told what there is to be told at its depth, and no more.
    func check(_ audit: Audit, _ options: AuditOptions) {
        let told = Set(audit.findings.map { Statement(path: $0.path, side: $0.side, kind: $0.kind) })
        let due = Set(damage.flatMap { $0.due(options.depth) }).subtracting(settled)
        for lacking in due.subtracting(told).sorted() {
            return world.fail("an audit of \(options.depth) has not found what is so: \(lacking)")
        }
        for finding in audit.findings {
            let statement = Statement(path: finding.path, side: finding.side, kind: finding.kind)
            let wanted = damage.first { $0.allows(statement) }?.outcome(options) ?? finding.outcome
            guard finding.outcome == wanted else {
                return world.fail("\(statement) is \(finding.outcome), and should be \(wanted): \(finding.evidence)")
            }
        }
    }
}

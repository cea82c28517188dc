import Digests
import Formats
import Testing

@testable import Primary

@Suite struct ClassificationTests {
    private let path = StorePath(mail, "uuid/a/b/abc/1.")
    private let good = AuditEntry(
        name: utf8("1."), kind: .file, byteCount: 3, mode: 0o600, mtimeNanoseconds: 7, digest: Digest(of: utf8("abc")))

    private func changed(_ change: (inout AuditEntry) -> Void) -> AuditEntry {
        var entry = good
        change(&entry)
        return entry
    }

    private func guid(_ text: String) -> MessageGUID { MessageGUID(of: utf8(text)) }

    @Test func `what only one end has is missing or extra`() {
        #expect(Classification.finding(path, claimed: good, found: nil).kind == .missing)
        #expect(Classification.finding(path, claimed: nil, found: good).kind == .extra)
        let extra = Classification.finding(path, claimed: nil, found: good)
        if case .remove = extra.cure {} else { Issue.record("an extra name is to be removed") }
    }

    @Test func `another content and nothing else is rot, of the replica if nobody says otherwise`() {
        let finding = Classification.finding(
            path, claimed: good, found: changed { $0.digest = Digest(of: utf8("abd")) })
        #expect(finding.kind == .rot)
        #expect(finding.side == .replica)
        if case .whole = finding.cure {} else { Issue.record("it is to be sent whole") }
    }

    @Test func `where Cyrus vouches for the replica's copy, the primary's is rotten and never shipped over it`() {
        let found = changed { $0.digest = Digest(of: utf8("abd")) }
        let witness = Classification.Witness(guid: guid("abd"), primary: guid("abc"), replica: guid("abd"))
        let finding = Classification.finding(path, claimed: good, found: found, witness)
        #expect(finding.kind == .rot)
        #expect(finding.side == .primary)
        #expect(finding.cure.map { "\($0)" } == nil)
    }

    @Test func `where Cyrus vouches for the primary's copy, or for neither, the primary wins`() {
        let found = changed { $0.digest = Digest(of: utf8("abd")) }
        for vouched in ["abc", "neither"] {
            let witness = Classification.Witness(guid: guid(vouched), primary: guid("abc"), replica: guid("abd"))
            let finding = Classification.finding(path, claimed: good, found: found, witness)
            #expect(finding.side == .replica)
            #expect(finding.cure.map { "\($0)" } != nil)
        }
    }

    @Test func `where nothing was recorded of the primary's copy, it is not shipped unless Cyrus vouches for it`() {
        let found = changed { $0.digest = Digest(of: utf8("abd")) }
        for (vouched, isShipped) in [("abc", true), ("abd", false), ("neither", false), (nil, false)] {
            let witness = Classification.Witness(
                guid: vouched.map(guid), primary: guid("abc"), replica: guid("abd"), isRecorded: false)
            let finding = Classification.finding(path, claimed: good, found: found, witness)
            #expect(finding.kind == .rot)
            #expect(finding.side == (isShipped ? .replica : .primary))
            #expect((finding.cure != nil) == isShipped)
            #expect(finding.evidence.contains("no record"))
        }
    }

    @Test func `a copy that the replica cannot read is replaced, recorded or not`() {
        let witness = Classification.Witness(isRecorded: false)
        let finding = Classification.finding(path, claimed: good, found: changed { $0.digest = nil }, witness)
        #expect(finding.side == .replica)
        #expect(finding.cure != nil)
    }

    @Test func `other times, modes, owners, sizes or kinds are somebody's doing`() {
        let others = [
            changed { $0.mode = 0o644 }, changed { $0.mtimeNanoseconds = 8 }, changed { $0.owner = 0 },
            changed {
                $0.byteCount = 4
                $0.digest = Digest(of: utf8("abcd"))
            },
            AuditEntry(name: utf8("1."), kind: .directory, mode: 0o700),
        ]
        for other in others {
            let finding = Classification.finding(path, claimed: good, found: other)
            #expect(finding.kind == .tampered, "\(other)")
            #expect(finding.side == .replica)
        }
    }

    @Test func `right content with wrong metadata is not sent again`() {
        let finding = Classification.finding(path, claimed: good, found: changed { $0.mode = 0o644 })
        if case .metadata = finding.cure {} else { Issue.record("only its metadata is to be told") }
        #expect(finding.evidence.contains("644"))
    }
}

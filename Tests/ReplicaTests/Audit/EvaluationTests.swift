import Digests
import Formats
import Linux
import Store
import Testing

@testable import Replica

@Suite struct EvaluationTests {
    private let box = StorePath(RootName("partition-default"), "user/alice")
    private let content = Digest(of: Array("abc".utf8))

    private func entry(_ name: String, _ digest: Digest?, owner: UInt32? = nil) -> AuditEntry {
        AuditEntry(
            name: Array(name.utf8), kind: .file, byteCount: 3, mode: 0o600, owner: owner, mtimeNanoseconds: 7,
            digest: digest)
    }

    private func listing(_ entries: [AuditEntry]) -> Evaluation.State {
        let status = FileStatus(inode: 1, kind: .file, byteCount: 3)
        return .listed(
            DirectoryListing(
                directory: box,
                items: entries.map { DirectoryListing.Item(entry: $0, status: status, isMessage: true) }))
    }

    private func outcome(
        _ claim: AuditCheck.Claim, _ states: [Evaluation.State], depth: AuditCheck.Depth = .content,
        keepsOwners: Bool = true
    ) -> AuditVerdict.Outcome {
        let check = AuditCheck(
            number: 1, audit: 1, depth: depth, directories: states.map { _ in AuditCheck.Directory(path: box) },
            claim: claim)
        return Evaluation(check: check, states: states, keepsOwners: keepsOwners).outcome { _, _ in nil }
    }

    private func combined(_ directories: [[AuditEntry]]) -> AuditCheck.Claim {
        .combined(
            AuditEntry.digest(ofHashes: directories.map { AuditEntry.digest(of: $0) }),
            ownerless: AuditEntry.digest(
                ofHashes: directories.map { AuditEntry.digest(of: $0.map(\.ownerless)) }))
    }

    @Test func `equal directories are told in one word`() {
        let (one, two) = ([entry("1.", content)], [entry("2.", content)])
        #expect(outcome(combined([one, two]), [listing(one), listing(two)]) == .equal)
    }

    @Test func `else each directory says what it has, and one that is gone says so`() {
        let (one, two) = ([entry("1.", content)], [entry("2.", content)])
        let verdict = outcome(combined([one, two, two]), [listing(one), .absent, .movedOn(box)])
        #expect(verdict == .directories([.digest(AuditEntry.digest(of: one)), .absent, .movedOn]))
    }

    @Test func `of metadata no content is compared`() {
        let other = [entry("1.", Digest(of: []))]
        #expect(outcome(combined([[entry("1.", nil)]]), [listing(other)], depth: .metadata) == .equal)
    }

    @Test func `an end that cannot keep owners does not compare them, another does`() {
        let (owned, own) = ([entry("1.", content, owner: 0)], [entry("1.", content)])
        #expect(outcome(combined([owned]), [listing(own)], keepsOwners: false) == .equal)
        #expect(outcome(combined([owned]), [listing(own)]) != .equal)
        let claim = AuditCheck.Claim.entries([AuditCheck.Entries(of: owned)])
        #expect(
            outcome(claim, [listing(own)], keepsOwners: false) == .details([.found(missing: [], extra: [])]))
    }

    @Test func `details are what is missing, as it was claimed, and what is there instead`() {
        let claimed = [entry("1.", content), entry("2.", content), entry("3.", content, owner: 0)]
        let there = [entry("1.", content), entry("2.", Digest(of: [])), entry("4.", content)]
        let claim = AuditCheck.Claim.entries([AuditCheck.Entries(of: claimed)])
        for keepsOwners in [true, false] {
            let verdict = outcome(claim, [listing(there)], keepsOwners: keepsOwners)
            #expect(
                verdict
                    == .details([
                        .found(
                            missing: claimed[1...].map(\.hash),
                            extra: there[1...].map { AuditVerdict.Found(entry: $0) })
                    ]))
        }
    }

    private func range(_ directories: [[AuditEntry]]) -> AuditCheck.Claim {
        func digest(_ entries: [[AuditEntry]]) -> UInt64 {
            AuditEntry.digest(
                ofHashes: entries.flatMap { AuditCheck.hashes(box, digest: AuditEntry.digest(of: $0)) })
        }
        return .range(
            directoryCount: directories.count, digest: digest(directories),
            ownerless: digest(directories.map { $0.map(\.ownerless) }))
    }

    @Test func `a range that is as claimed is told in one word, another by a mark for each directory`() {
        let (one, two) = ([entry("1.", content)], [entry("2.", content)])
        #expect(outcome(range([one, two]), [listing(one), listing(two)]) == .equal)
        let mark = AuditCheck.mark(AuditCheck.hashes(box, digest: AuditEntry.digest(of: one)), check: 1)
        let marked = AuditVerdict.Range(
            owners: .kept, marks: [mark], movedOn: [AuditCheck.mark(box, check: 1)])
        #expect(outcome(range([one, two]), [listing(one), .movedOn(box)]) == .range(marked))
        #expect(outcome(range([one, two]), [listing(one)]) != .equal)
        #expect(outcome(range([one]), [listing(one), listing(two)]) != .equal)
    }

    @Test func `a range without its owners is compared without them by an end that cannot keep them`() {
        let (owned, own) = ([entry("1.", content, owner: 0)], [entry("1.", content)])
        #expect(outcome(range([owned]), [listing(own)], keepsOwners: false) == .equal)
        #expect(outcome(range([owned]), [listing(own)]) != .equal)
    }

    @Test func `links are gathered for the newest audits, and given away once`() {
        var ledgers = AuditLedgers()
        for audit in UInt64(1)...5 { ledgers.note(DirectoryListing(directory: box, items: []), audit) }
        #expect(ledgers.take(1) == nil)
        #expect(ledgers.take(5) != nil)
        #expect(ledgers.take(5) == nil)
    }
}

import Formats
import Testing

@testable import Primary

@Suite struct RangeAnswerTests {
    private func expected(_ name: String, _ digest: UInt64) -> CheckDelivery.Expected {
        CheckDelivery.Expected(
            directory: StorePath(mail, name), excluded: [], digest: digest, ownerlessDigest: digest + 100, fileCount: 1,
            byteCount: 1, entries: [], unrecorded: [])
    }

    private func mark(_ name: String, _ digest: UInt64) -> UInt32 {
        AuditCheck.mark(AuditCheck.hashes(StorePath(mail, name), digest: digest), check: 7)
    }

    private func answer(
        _ marks: [UInt32], movedOn: [UInt32] = [], owners: AuditVerdict.Range.Owners = .kept
    ) -> RangeAnswer {
        RangeAnswer(
            7, [expected("a", 1), expected("b", 2)],
            AuditVerdict.Range(owners: owners, marks: marks, movedOn: movedOn))
    }

    @Test func `a directory that is otherwise, or not there, is to be looked at by itself`() {
        #expect(answer([mark("b", 2), mark("a", 9)]).different == [StorePath(mail, "a")])
        #expect(answer([mark("a", 1)]).different == [StorePath(mail, "b")])
        #expect(answer([mark("a", 1), mark("a", 2)]).different == [StorePath(mail, "b")])
    }

    @Test func `one of which nothing is said is asked about again, and is no difference`() {
        let found = answer([mark("a", 1)], movedOn: [AuditCheck.mark(StorePath(mail, "b"), check: 7)])
        #expect(found.movedOn == [StorePath(mail, "b")])
        #expect(found.different.isEmpty)
        #expect(!found.isContradiction)
    }

    @Test func `a directory that only the replica has is no difference of those claimed`() {
        let found = answer([mark("c", 3), mark("b", 2), mark("a", 1)])
        #expect(found.different.isEmpty && found.movedOn.isEmpty && !found.isContradiction)
    }

    @Test func `all as claimed in a range that is not contradicts itself`() {
        #expect(answer([mark("a", 1), mark("b", 2)]).isContradiction)
    }

    @Test func `an end that ignores owners is held against what is claimed without them`() {
        #expect(answer([mark("a", 101), mark("b", 102)], owners: .ignored).different.isEmpty)
        #expect(answer([mark("a", 101), mark("b", 102)]).different.count == 2)
    }

    @Test func `marks are those of one check only`() {
        let hashes = AuditCheck.hashes(StorePath(mail, "a"), digest: 1)
        #expect(AuditCheck.mark(hashes, check: 7) != AuditCheck.mark(hashes, check: 8))
    }
}

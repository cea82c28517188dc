import Formats
import Testing

@testable import Primary

@Suite struct SoundnessTallyTests {
    private let one = AuditVerdict.Unsound(path: StorePath(mail, "a"), why: "message: gone")
    private let other = AuditVerdict.Unsound(path: StorePath(mail, "b"), why: "quota: 5 and 6")

    @Test func `a sound replica is asked once`() {
        var tally = SoundnessTally()
        tally.note(["r": []])
        #expect(tally.isDecided)
        #expect(tally.findings.isEmpty)
    }

    @Test func `what is found six times in a row is a finding, and nothing else`() {
        var tally = SoundnessTally()
        for time in 1...6 {
            #expect(!tally.isDecided)
            tally.note(["r": time == 4 ? [one] : [one, other]])
        }
        #expect(tally.isDecided)
        #expect(tally.findings == [SoundnessTally.Finding(replica: "r", what: one)])
    }

    @Test func `what is not found once is none any more`() {
        var tally = SoundnessTally()
        for found in [[one], [], [one]] as [Set<AuditVerdict.Unsound>] { tally.note(["r": found]) }
        #expect(tally.isDecided)
        #expect(tally.findings.isEmpty)
    }

    @Test func `a replica that joins late is asked as often as the others, and one that has left decides nothing`() {
        var tally = SoundnessTally()
        for _ in 1...3 { tally.note(["r": [one], "gone": [other]]) }
        for _ in 4...6 { tally.note(["r": [one], "late": [other]]) }
        #expect(!tally.isDecided)
        for _ in 7...9 { tally.note(["r": [one], "late": [other]]) }
        #expect(tally.isDecided)
        #expect(tally.findings.map(\.replica) == ["late", "r"])
    }
}

import Formats
import Testing

@Suite struct LinkLedgerTests {
    private let one = LinkLedger.Identity(device: 1, inode: 10)
    private let other = LinkLedger.Identity(device: 1, inode: 11)
    private func box(_ name: String) -> StorePath { StorePath(WireFixture.mail, name) }

    private func ledger(_ noted: [(String, [(String, LinkLedger.Identity)])]) -> LinkLedger {
        var ledger = LinkLedger()
        for (directory, files) in noted {
            ledger.note(box(directory), files.map { (utf8($0.0), $0.1) })
        }
        return ledger
    }

    @Test func `the same names are one file, on whatever device and in whatever order`() {
        let here = ledger([("a", [("1.", one)]), ("b", [("7.", one), ("8.", other)]), ("c", [("2.", other)])])
        let (third, fourth) = (LinkLedger.Identity(device: 9, inode: 1), LinkLedger.Identity(device: 9, inode: 2))
        let there = ledger([("c", [("2.", fourth)]), ("b", [("7.", third), ("8.", fourth)]), ("a", [("1.", third)])])
        #expect(here.digests == there.digests)
    }

    @Test func `a link that is broken or goes elsewhere makes another digest, in the part of the group`() {
        let whole = ledger([("a", [("1.", one)]), ("b", [("7.", one)])])
        let part = LinkLedger.part(of: [box("a/1."), box("b/7.")])
        for different in [
            ledger([("a", [("1.", one)]), ("b", [("7.", other)])]), ledger([("a", [("1.", one)])]),
        ] {
            let places = (0..<LinkLedger.partCount).filter { whole.digests[$0] != different.digests[$0] }
            #expect(places == [part])
        }
    }

    @Test func `what is noted of a directory replaces what was`() {
        var ledger = ledger([("a", [("1.", one)]), ("b", [("7.", one)])])
        ledger.note(box("b"), [])
        #expect(ledger.digests == LinkLedger().digests)
    }
}

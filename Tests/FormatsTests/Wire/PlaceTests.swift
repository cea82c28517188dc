import Formats
import Testing

@Suite struct PlaceTests {
    @Test(arguments: ["mail1", "mail-2.example.org", "m_3"]) func `a host's name is plain`(host: String) {
        #expect(Place(host: host, roots: [RootName("sieve"): utf8("/var/spool/sieve")]).isPlain)
    }

    /// The last is a quote and an accent above it, which are one character.
    @Test(arguments: ["", "-e sh", "a b", "x;y", "x'y", "x\u{1b}[2J", "x'\u{301};y"])
    func `a host's name that does more is not`(
        host: String
    ) {
        #expect(!Place(host: host, roots: [:]).isPlain)
    }

    @Test func `a root that is no absolute path is not plain`() {
        #expect(!Place(host: "mail1", roots: [RootName("sieve"): utf8("--delete")]).isPlain)
    }
}

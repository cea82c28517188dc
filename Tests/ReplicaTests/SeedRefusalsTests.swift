import Formats
import Testing

@testable import Replica

@Suite struct SeedRefusalsTests {
    @Test func `who waits is told when the last peer has said no`() throws {
        var refusals = SeedRefusals(peerCount: 2, .onceEachPeer)
        try refusals.note("a:1: connect: Connection refused")
        let end = #expect(throws: SeedNotBegun.self) { try refusals.note("b:1: no answer") }
        #expect(end?.description == "seed: a:1: connect: Connection refused; b:1: no answer")
        #expect(end?.isRefused == false)
        #expect(end?.hint != nil)
    }

    @Test(arguments: [
        (Refusal.wrongStore, true), (.wrongVersion, true), (.notPrimary, false), (.fenced, false), (.failed, false),
    ]) func `what another try does not help is a matter of the configuration`(refusal: Refusal, isRefused: Bool) {
        var refusals = SeedRefusals(peerCount: 1, .onceEachPeer)
        let end = #expect(throws: SeedNotBegun.self) { try refusals.note("no", refusal) }
        #expect(end?.isRefused == isRefused)
        #expect((end?.hint != nil) == (refusal == .wrongStore))
    }

    @Test func `a daemon tries for ever, and so does who has begun`() throws {
        var daemon = SeedRefusals(peerCount: 1, .untilSeeded)
        var begun = SeedRefusals(peerCount: 1, .onceEachPeer)
        begun.excuse()
        for _ in 0..<3 {
            try daemon.note("no", .wrongStore)
            try begun.note("closed by the other end")
        }
    }
}

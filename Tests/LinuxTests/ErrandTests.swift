import Linux
import Testing

@Suite struct ErrandTests {
    private let errand = Errand<String, String>()

    private func waiting(for number: Int) async throws -> String? {
        let errand = errand
        return try await Thread.run(name: "wait") { errand.wait(for: number, timeout: .seconds(60)) }
    }

    /// Who asked for a promotion, gave up and asked again could wait for an hour, and the end of the daemon with it.
    @Test func `who asks for what is under way gets the same answer, and it is done once`() async throws {
        let first = try #require(errand.ask(for: "promote"))
        let again = try #require(errand.ask(for: "promote"))
        #expect(errand.take() == "promote")
        let late = try #require(errand.ask(for: "promote"))
        #expect(errand.take() == nil)
        async let answers = [waiting(for: first), waiting(for: again), waiting(for: late)]
        #expect(errand.join("promote") == first)
        errand.answer("promoted")
        #expect(try await answers == ["promoted", "promoted", "promoted"])
        #expect(errand.join("promote") == nil)
    }

    @Test func `something else is not asked for meanwhile, and is then`() async throws {
        _ = try #require(errand.ask(for: "promote"))
        #expect(errand.ask(for: "promote, and discard") == nil)
        _ = errand.take()
        errand.answer("refused")
        let other = try #require(errand.ask(for: "promote, and discard"))
        #expect(errand.take() == "promote, and discard")
        errand.answer("promoted")
        #expect(try await waiting(for: other) == "promoted")
    }

    @Test func `nobody waits beyond the end`() async throws {
        let number = try #require(errand.ask(for: "promote"))
        async let answer = waiting(for: number)
        errand.end()
        #expect(try await answer == nil)
        #expect(errand.ask(for: "promote") == nil)
    }
}

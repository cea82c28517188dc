import Formats
import Seeded
import Testing

@Suite struct DListTests {
    private func parse(_ text: String) throws -> DList { try DList(decoding: utf8(text)) }

    @Test func `pairs, lists, text, literals and NIL`() throws {
        let list = try parse(
            "%(T e N \"a \\\"b\\\\\" A %(x lrs y \"\") U (k1 NIL k2) L {3}\r\na)b M {2+}\r\n() V 12)\n")
        #expect(list["T"]?.string == "e")
        #expect(list["N"]?.string == "a \"b\\")
        #expect(list["A"]?.pairs?.count == 2)
        #expect(list["A"]?["y"]?.text == [])
        #expect(list["U"]?.items?.map(\.string) == ["k1", nil, "k2"])
        #expect(list["L"]?.string == "a)b")
        #expect(list["M"]?.string == "()")
        #expect(list["V"]?.number == 12)
        #expect(list["Z"] == nil)
    }

    @Test func `a key may be quoted or a literal`() throws {
        #expect(try parse("%(\"a b\" 1 {1}\r\nc 2)")["a b"]?.number == 1)
        #expect(try parse("%(\"a b\" 1 {1}\r\nc 2)")["c"]?.number == 2)
    }

    @Test func `empty lists`() throws {
        #expect(try parse("()") == .list([]))
        #expect(try parse("%()") == .pairs([]))
    }

    @Test(arguments: [
        "", " ", "(", "%", "%(", "%(a", "%(a )", "%(a b", "(a  b)", "(a b", "\"x", "\"x\\", "{3}\r\nab", "{3}ab",
        "{a}\r\n",
        "{99999999999999999999}\r\n", "%(NIL x)", "a b", "(a))", "%(a b)c", "%x", ")",
    ])
    func `what is not a value is refused`(_ text: String) {
        #expect(throws: MalformedBytes.self) { try parse(text) }
    }

    @Test func `nesting is bounded`() throws {
        let deep = String(repeating: "(", count: 100_000)
        #expect(throws: MalformedBytes.self) { try parse(deep) }
        #expect(throws: MalformedBytes.self) { try parse(deep + String(repeating: ")", count: 100_000)) }
        #expect(throws: Never.self) { try parse("((((a))))") }
    }

    @Test func `truncations and mutations never trap`() {
        let text = utf8("%(T e N \"a b\" I 9vvj A %(x lrs y lr) U (k1 NIL) L {3}\r\nabc H (%(N x M 1) %(N y)))")
        for count in 0..<text.count { #expect(throws: MalformedBytes.self) { try DList(decoding: text[..<count]) } }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<5000 { _ = try? DList(decoding: text.mutated(using: &generator)) }
    }
}

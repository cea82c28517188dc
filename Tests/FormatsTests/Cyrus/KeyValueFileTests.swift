import Formats
import Seeded
import Testing

@Suite struct KeyValueFileTests {
    private func parse(_ text: String) throws -> KeyValueFile { try KeyValueFile.parse(text, named: "f") }

    @Test func `keys are lower-cased, values trimmed, comments and empty lines passed by`() throws {
        let file = try parse("# one\n\n  ConfigDirectory:\t/var/lib/cyrus  \nadmins: a: b # c\r\n")
        #expect(file.entries.map(\.key) == ["configdirectory", "admins"])
        #expect(file["configdirectory"] == "/var/lib/cyrus")
        #expect(file["admins"] == "a: b # c")
        #expect(file.entry("admins")?.source == KeyValueFile.Source(file: "f", line: 4))
    }

    @Test func `a backslash at the end of a line joins the next without a blank`() throws {
        let file = try parse("option:\\\n  value1 value2 \\\n   value3\nnext: x\n")
        #expect(file["option"] == "value1 value2    value3")
        #expect(file.entry("option")?.source.line == 1)
        #expect(file.entry("next")?.source.line == 4)
    }

    @Test func `a joined line may be the last`() throws {
        #expect(try parse("a: b\\")["a"] == "b")
        #expect(try parse("a: b\\\n")["a"] == "b")
        #expect(try parse("").entries.isEmpty)
    }

    @Test func `the later of two entries is in force and the earlier is told`() throws {
        let file = try parse("a: 1\nb: 2\nA: 3\n")
        #expect(file["a"] == "3")
        #expect(file.overridden.map(\.value) == ["1"])
    }

    @Test(arguments: [
        ("no colon here\n", 1, "no option name: no colon here"),
        ("a: 1\nb c: 2\n", 2, "no option name: b c: 2"),
        (": x\n", 1, "no option name: : x"),
        ("a:   \n", 1, "a: empty value"),
        ("\n\n@frob: x\n", 3, "no directive: @frob"),
    ])
    func `an error names file and line`(_ text: String, _ line: Int, _ why: String) {
        #expect(throws: ConfigurationError(KeyValueFile.Source(file: "f", line: line), why)) { try parse(text) }
    }

    @Test func `an included file's lines stand where it's included`() throws {
        let files = ["b": "x: 2\n@Include: c\n", "c": "y: 3\n"]
        let file = try KeyValueFile.parse("x: 1\n@include: b\nz: 4\n", named: "a") {
            (name: String) throws(IncludeFailure) in
            guard let text = files[name] else { throw IncludeFailure("no such file") }
            return text
        }
        #expect(file.entries.map(\.value) == ["1", "2", "3", "4"])
        #expect(file["x"] == "2")
        #expect(file.entry("y")?.source == KeyValueFile.Source(file: "c", line: 1))
    }

    @Test func `a file is included once`() {
        #expect(throws: ConfigurationError(KeyValueFile.Source(file: "b", line: 1), "included twice: a")) {
            try KeyValueFile.parse("@include: b\n", named: "a") { (_: String) throws(IncludeFailure) in "@include: a\n"
            }
        }
    }

    @Test func `an include that cannot be had is told with the line that wants it`() {
        #expect(throws: ConfigurationError(KeyValueFile.Source(file: "a", line: 2), "cannot include b: gone")) {
            try KeyValueFile.parse("x: 1\n@include: b\n", named: "a") {
                (_: String) throws(IncludeFailure) in throw IncludeFailure("gone")
            }
        }
    }

    @Test(arguments: [
        ("yes", true), ("1", true), ("on", true), ("t", true), ("no", false), ("off", false), ("0", false),
    ])
    func `switches are read by their first letters`(_ text: String, _ value: Bool) throws {
        #expect(try parse("a: \(text)\n").flag("a") == value)
    }

    @Test func `what is no switch, number, duration or size is refused`() throws {
        let file = try parse("a: maybe\n")
        #expect(throws: ConfigurationError.self) { try file.flag("a") }
        #expect(throws: ConfigurationError.self) { try file.integer("a") }
        #expect(throws: ConfigurationError.self) { try file.duration("a", unit: .seconds) }
        #expect(throws: ConfigurationError.self) { try file.byteCount("a") }
        #expect(try file.flag("b") == nil)
        #expect(throws: ConfigurationError.self) { try parse("a: 999999999999d\n").duration("a", unit: .seconds) }
        #expect(throws: ConfigurationError.self) { try parse("a: 9999999999999T\n").byteCount("a") }
        #expect(throws: ConfigurationError.self) { try parse("a: h\n").duration("a", unit: .seconds) }
    }

    @Test func `durations add up and a bare number is in the option's unit`() throws {
        let file = try parse("a: 1h30m\nb: 10\nc: 7d\nd: 250ms\ne: 1m5\n")
        #expect(try file.duration("a", unit: .seconds) == .seconds(5400))
        #expect(try file.duration("b", unit: .minutes) == .seconds(600))
        #expect(try file.duration("c", unit: .seconds) == .seconds(604_800))
        #expect(try file.duration("d", unit: .seconds) == .milliseconds(250))
        #expect(try file.duration("e", unit: .seconds) == .seconds(65))
    }

    @Test func `sizes are in powers of 1024`() throws {
        let file = try parse("a: 512\nb: 64k\nc: 2G\n")
        #expect(try file.byteCount("a") == 512)
        #expect(try file.byteCount("b") == 65536)
        #expect(try file.byteCount("c") == 2 << 30)
    }

    @Test func `entries of a prefix are sorted and the prefix alone is none`() throws {
        let file = try parse("partition-b: /b\npartition-a: /a\npartition-: /x\nother: 1\n")
        #expect(file.entries(prefix: "partition-").map(\.value) == ["/a", "/b"])
    }

    @Test func `the configuration directory is put in for its name, in options that Cyrus knows`() throws {
        let file = try parse("configdirectory: /c\nsievedir: {configdirectory}/sieve\n")
        #expect(ImapdConf(file).path("sievedir") == "/c/sieve")
        #expect(ImapdConf(file).path("configdirectory") == "/c")
    }

    @Test func `mutations never trap`() {
        let text = utf8("# c\nconfigdirectory: /var/lib/cyrus\npartition-default: /x\\\n y\n@include: z\nadmins: a\n")
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            let mutant = String(decoding: text.mutated(using: &generator), as: UTF8.self)
            _ = try? KeyValueFile.parse(mutant, named: "m") { (_: String) throws(IncludeFailure) in "k: v" }
        }
    }
}

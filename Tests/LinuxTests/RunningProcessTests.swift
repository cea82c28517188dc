import Testing

@testable import Linux

@Suite struct RunningProcessTests {
    @Test func `this process is among them`() throws {
        let own = try RunningProcess.all().first { $0.identifier == CurrentProcess.identifier }
        #expect(own?.arguments == CommandLine.arguments)
    }

    @Test func `words end with a NUL each, and may be empty`() {
        #expect(RunningProcess.words(Array("a\0\0b c\0".utf8)) == ["a", "", "b c"])
        #expect(RunningProcess.words(Array("cut".utf8)) == ["cut"])
        #expect(RunningProcess.words([]) == [])
    }
}

import Glibc
import Linux
import Testing

@Suite struct CurrentProcessTests {
    @Test func `it knows itself`() throws {
        #expect(CurrentProcess.identifier == getpid())
        #expect(CurrentProcess.effectiveUser == geteuid())
        #expect(try CurrentProcess.residentBytes() > 1 << 20)
    }

    @Test func `the number of open files is raised, never lowered`() throws {
        let before = try CurrentProcess.openFilesMax()
        #expect(try CurrentProcess.raiseOpenFilesMax(to: 1) == before.current)
        #expect(try CurrentProcess.raiseOpenFilesMax(to: .max) == before.ceiling)
        #expect(try CurrentProcess.openFilesMax().current == before.ceiling)
    }

    @Test func `a thread may step back from the disk`() async throws {
        try await Thread.run(name: "idle") { try CurrentProcess.useDiskWhenIdle() }
    }

    @Test func `an account is found by name, or isn't`() throws {
        #expect(try Account.named("root") == Account(name: "root", user: 0, group: 0))
        #expect(try Account.named("no-such-user") == nil)
    }

    @Test func `entropy comes in any number, and differs`() {
        #expect(Entropy.bytes(0) == [])
        #expect(Entropy.bytes(1000).count == 1000)
        #expect(Entropy.bytes(16) != Entropy.bytes(16))
    }
}

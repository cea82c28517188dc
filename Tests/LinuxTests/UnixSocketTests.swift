import Linux
import Scratch
import Testing

@Suite struct UnixSocketTests {
    let directory = TemporaryDirectory()

    private func accept(_ listener: borrowing UnixListener, timeout: Duration? = nil) throws -> Descriptor {
        _ = try Poller.wait([Poller.Interest(listener.raw)], timeout: .seconds(60))
        guard let connection = try listener.accept(timeout: timeout) else {
            throw SystemError(call: "accept4", path: directory("s"), errno: .wouldBlock)
        }
        return connection
    }

    @Test func `bytes go both ways and end`() throws {
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: .seconds(60))
        let server = try accept(listener, timeout: .seconds(60))
        try client.send(all: bytes("status\n"))
        try client.endSending()
        #expect(try server.receive(max: 100) == bytes("status\n"))
        #expect(try server.receive(max: 100) == [])
        try server.send(all: bytes("fine\n"))
        #expect(try client.receive(max: 2) == bytes("fi"))
        #expect(try client.receive(max: 100) == bytes("ne\n"))
    }

    @Test func `more than the kernel buffers is sent whole`() async throws {
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: .seconds(60))
        let path = directory("s")
        let server = try accept(listener, timeout: .seconds(60))
        let thread = try Thread.start(name: "sender") { [server = Held(server)] in
            do {
                try server.descriptor.send(all: [UInt8](repeating: 9, count: 4 << 20))
                try server.descriptor.endSending()
            } catch {
                Issue.record("\(path): \(error)")
            }
        }
        var count = 0
        while case let some = try client.receive(max: 65_536), !some.isEmpty { count += some.count }
        #expect(count == 4 << 20)
        thread.join()
    }

    private final class Held: Sendable {
        let descriptor: Descriptor
        init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    }

    @Test func `nobody waits, nobody is accepted`() throws {
        let listener = try UnixSocket.listen(directory("s"))
        let nobody = try listener.accept(timeout: nil) == nil
        #expect(nobody)
    }

    @Test func `only the owner may connect`() throws {
        _ = try UnixSocket.listen(directory("s"))
        #expect(try FileStatus.of(directory("s"))?.mode == 0o600)
    }

    @Test func `a socket left by a crash is replaced, one that lives is not`() throws {
        do { _ = try UnixSocket.listen(directory("s")) }
        #expect(try FileStatus.of(directory("s"))?.kind == .other)
        #expect(try errno { _ = try UnixSocket.connect(directory("s"), timeout: nil) } == .connectionRefused)
        let living = try UnixSocket.listen(directory("s"))
        #expect(try errno { _ = try UnixSocket.listen(directory("s")) } == .addressInUse)
        _ = try UnixSocket.connect(directory("s"), timeout: nil)
        _ = try accept(living)
    }

    @Test func `a file of that name is not touched`() throws {
        try directory.root().write("precious", to: "s")
        #expect(try errno { _ = try UnixSocket.listen(directory("s")) } == .addressInUse)
        #expect(try directory.root().text(of: "s") == "precious")
    }

    @Test func `who says nothing is waited for so long and no longer`() throws {
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: .milliseconds(5))
        let server = try accept(listener, timeout: .milliseconds(5))
        #expect(try errno { _ = try client.receive(max: 1) } == .wouldBlock)
        #expect(try errno { try server.send(all: [UInt8](repeating: 0, count: 16 << 20)) } == .wouldBlock)
    }

    @Test func `sending to who is gone is an error, not a signal`() throws {
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: nil)
        do { _ = try accept(listener) }
        #expect(try errno { try client.send(all: bytes("x")) } == .brokenPipe)
    }

    @Test func `a path too long for a socket is told as such`() throws {
        let long = directory(String(repeating: "n", count: 108))
        #expect(try errno { _ = try UnixSocket.listen(long) } == .nameTooLong)
        #expect(try errno { _ = try UnixSocket.connect("", timeout: nil) } == .invalid)
    }
}

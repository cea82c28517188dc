import Glibc
import Linux
import Scratch
import Testing

/// Each on a thread of its own, which takes its restrictions with it.
@Suite(.enabled(if: Landlock.reach != .nothing, "this kernel has no Landlock"))
struct LandlockTests {
    @Test func `what may be written is written, and nothing else, by links and renames neither`() async throws {
        let scratch = TemporaryDirectory()
        let root = scratch.path
        for name in ["mine", "also", "theirs"] { _ = try Directory.make(root + "/" + name) }
        try Self.put(root + "/theirs/old")
        try Directory(root).symlink(Array("../theirs".utf8), at: Array("mine/link".utf8))
        let outcome = try await Thread.run(name: "restricted") { () -> [String: Bool] in
            let rules = Landlock(writable: [root + "/mine", root + "/also"], listening: [], connecting: [])
            guard try rules.restrict() != .nothing else { return [:] }
            func may(_ body: () throws -> Void) -> Bool {
                do {
                    try body()
                    return true
                } catch { return false }
            }
            let mine = try Directory(root + "/mine")
            let (also, theirs) = (try Directory(root + "/also"), try Directory(root + "/theirs"))
            func name(_ text: String) -> [UInt8] { Array(text.utf8) }
            return [
                "make": may { try Self.put(root + "/mine/a") },
                "move between": may { try mine.rename(name("a"), to: name("a"), in: also) },
                "read theirs": may { _ = try Descriptor.open(root + "/theirs/old", for: .reading).readAll(max: 10) },
                "list theirs": may { _ = try theirs.entries() },
                "no make": !may { try Self.put(root + "/theirs/new") },
                "no make by link": !may { try Self.put(root + "/mine/link/new") },
                "no change": !may { _ = try Descriptor.open(root + "/theirs/old", for: .updating) },
                "no removal": !may { try theirs.unlink(name("old")) },
                "no move out": !may { try also.rename(name("a"), to: name("a"), in: theirs) },
                "no move in": !may { try theirs.rename(name("old"), to: name("old"), in: mine) },
                "no link out": !may { try also.link(name("a"), to: name("b"), in: theirs) },
                "no directory": !may { try theirs.makeDirectory(name("d")) },
                "no truncation": !may { try Self.truncate(root + "/theirs/old") } || Landlock.version < 3,
            ]
        }
        #expect(outcome.count == 13)
        #expect(outcome.filter { !$0.value }.keys.sorted() == [])
        #expect(try Directory(root + "/theirs").entries().count == 1)
        // Others go on as they were.
        try Self.put(root + "/theirs/new")
    }

    @Test(.enabled(if: Landlock.reach == .filesAndNetwork, "this kernel's Landlock knows no ports"))
    func `only the ports that were named are bound and connected to`() async throws {
        let (open, port) = try Self.listen(0)
        let (another, otherPort) = try Self.listen(0)
        defer {
            close(open)
            close(another)
        }
        let errors = try await Thread.run(name: "restricted") { () -> [CInt] in
            let rules = Landlock(writable: [], listening: [], connecting: [port])
            _ = try rules.restrict()
            return [Self.connect(port), Self.connect(otherPort), Self.bindingError()]
        }
        #expect(errors == [0, EACCES, EACCES])
    }

    @Test func `what is to be writable must be there`() async throws {
        let scratch = TemporaryDirectory()
        let path = scratch.path
        let error = await #expect(throws: SystemError.self) {
            try await Thread.run(name: "restricted") {
                _ = try Landlock(writable: [path + "/none"], listening: [], connecting: []).restrict()
            }
        }
        #expect(error?.errno == .noEntry)
    }

    // MARK: - pieces

    private static func put(_ path: String) throws {
        try Descriptor.open(path, for: .creatingNew).write(Array("x".utf8), at: 0)
    }

    private static func truncate(_ path: String) throws {
        guard Glibc.truncate(path, 0) == 0 else {
            throw SystemError(call: "truncate", path: path, errno: Errno(rawValue: errno))
        }
    }

    private static func withLoopback<Value>(
        _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value
    ) -> Value {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// The socket and its port.
    private static func listen(_ port: UInt16) throws -> (CInt, UInt16) {
        let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        let isBound = withLoopback(port) { bind(raw, $0, $1) } == 0
        var address = sockaddr_in()
        var count = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isNamed = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(raw, $0, &count) }
        }
        guard isBound, isNamed == 0, Glibc.listen(raw, 8) == 0 else {
            throw SystemError(call: "listen", path: "127.0.0.1", errno: Errno(rawValue: errno))
        }
        return (raw, UInt16(bigEndian: address.sin_port))
    }

    private static func connect(_ port: UInt16) -> CInt {
        let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(raw) }
        return withLoopback(port) { Glibc.connect(raw, $0, $1) } == 0 ? 0 : errno
    }

    private static func bindingError() -> CInt {
        let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(raw) }
        return withLoopback(0) { bind(raw, $0, $1) } == 0 ? 0 : errno
    }
}

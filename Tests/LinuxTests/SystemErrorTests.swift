import Glibc
import Testing

@testable import Linux

@Suite struct SystemErrorTests {
    @Test func `a message says what, where and why`() {
        let error = SystemError(call: "openat2", path: "/a/b", errno: .noEntry)
        #expect("\(error)" == "openat2: /a/b: No such file or directory")
    }

    @Test func `an unknown number still has words`() {
        #expect("\(Errno(rawValue: 9999))" == "Unknown error 9999")
    }

    @Test func `an interrupted call is made again`() throws {
        var calls = 0
        let result = try kernel("read", "x") { () -> Int in
            calls += 1
            Glibc.errno = EINTR
            return calls < 3 ? -1 : 7
        }
        #expect(result == 7)
        #expect(calls == 3)
    }

    @Test func `a refused call is made once`() {
        var calls = 0
        #expect(throws: SystemError(call: "read", path: "x", errno: .inputOutput)) {
            try kernel("read", "x") { () -> Int in
                calls += 1
                Glibc.errno = EIO
                return -1
            }
        }
        #expect(calls == 1)
    }

    @Test func `calls that return the error number are understood`() throws {
        var answers = [EINTR, 0]
        try kernel(returningError: "posix_fallocate", "x") { answers.removeFirst() }
        #expect(answers.isEmpty)
        #expect(throws: SystemError(call: "posix_fallocate", path: "x", errno: .noSpace)) {
            try kernel(returningError: "posix_fallocate", "x") { ENOSPC }
        }
    }

    @Test func `what runs out is a shortage, and the hint says of what`() {
        func error(_ call: String, _ errno: Errno) -> SystemError { SystemError(call: call, path: "x", errno: errno) }
        #expect(error("pwrite", .noSpace).isShortage && error("openat2", .tooManyOpenFiles).isShortage)
        #expect(!error("pwrite", .inputOutput).isShortage && !error("openat2", .accessDenied).isShortage)
        #expect(error("pwrite", .noSpace).shortageHint == "free some space")
        #expect(error("inotify_add_watch", .noSpace).shortageHint == "raise fs.inotify.max_user_watches")
        #expect(error("inotify_init1", .tooManyOpenFiles).shortageHint == "raise fs.inotify.max_user_instances")
        #expect(error("openat2", .tooManyOpenFiles).shortageHint.contains("LimitNOFILE"))
    }

    @Test func `a NUL in a path is refused, not cut off at`() {
        #expect(throws: SystemError(call: "open", path: "a\0b", errno: .invalid)) {
            try terminated(bytes("a\0b"), for: "open")
        }
    }
}

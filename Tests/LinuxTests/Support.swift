import Glibc
import Linux
import Scratch

extension TemporaryDirectory {
    func root(_ parents: ParentResolution = .always) throws -> Directory { try Directory(path, parents: parents) }
}

/// Paths in tests are mostly text.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Directory {
    func write(_ text: String, to path: String) throws {
        try open(bytes(path), for: .updatingOrCreating).write(bytes(text), at: 0)
    }

    func text(of path: String) throws -> String {
        String(decoding: try open(bytes(path), for: .reading).readAll(max: 1 << 20), as: UTF8.self)
    }

    func names(in path: String = "") throws -> Set<String> {
        Set(try entries(of: bytes(path)).map { String(decoding: $0.name, as: UTF8.self) })
    }
}

/// The errno that `body` throws, or nothing if it throws none.
func errno(of body: () throws -> Void) throws -> Errno? {
    do {
        try body()
        return nil
    } catch let error as SystemError {
        return error.errno
    }
}

/// Another process, running a Python script that says lines and is told lines.
final class PythonProcess {
    private let process: pid_t
    private let toChild: CInt
    private let fromChild: CInt

    init(_ script: String, _ arguments: String...) {
        let input = Self.newPipe()
        let output = Self.newPipe()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, input.read, 0)
        posix_spawn_file_actions_adddup2(&actions, output.write, 1)
        var child: pid_t = 0
        let words = ["python3", "-u", "-c", script] + arguments
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        let result = posix_spawnp(&child, "python3", &actions, nil, &pointers, environ)
        precondition(result == 0, "python3 does not start: \(Errno(rawValue: result))")
        for pointer in pointers { free(pointer) }
        posix_spawn_file_actions_destroy(&actions)
        close(input.read)
        close(output.write)
        (process, toChild, fromChild) = (child, input.write, output.read)
    }

    /// Waits for the next line the script prints; empty when it has ended.
    func line() -> String {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while read(fromChild, &byte, 1) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
        return String(decoding: line, as: UTF8.self)
    }

    func tell(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        precondition(write(toChild, bytes, bytes.count) == bytes.count)
    }

    deinit {
        close(toChild)
        close(fromChild)
        kill(process, SIGKILL)
        waitpid(process, nil, 0)
    }

    private static func newPipe() -> (read: CInt, write: CInt) {
        var ends: [CInt] = [-1, -1]
        precondition(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }
}

import Digests
import Formats
import Glibc
import Linux
import ReplicationLog
import Seeded
import Store

@testable import Primary

/// A new directory that goes, with all in it, when the test lets go of it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/mailsync-primary-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "mkdtemp: \(Glibc.errno)")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        // What can't be removed stays in /tmp; no test depends on it.
        guard let root = try? Directory(path) else { return }
        try? Self.empty(root, [])
        rmdir(path)
    }

    private static func empty(_ root: Directory, _ path: [UInt8]) throws {
        for entry in try root.entries(of: path) {
            let inner = path.isEmpty ? entry.name : path + [UInt8(ascii: "/")] + entry.name
            if entry.kind == .directory {
                try empty(root, inner)
                try root.removeDirectory(inner)
            } else {
                try root.unlink(inner)
            }
        }
    }

    func callAsFunction(_ name: String) -> String { path + "/" + name }

    /// A small store in `conf` and `mail`.
    func makeStore() throws -> StoreRoots {
        for name in ["conf", "mail"] { _ = try Directory.make(self(name)) }
        let text = "configdirectory: \(path)/conf\npartition-default: \(path)/mail\nsieveusehomedir: yes\n"
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        return try StoreRoots(try StoreLayout(conf))
    }

    /// The file has exactly `bytes` then; its inode stays, if it has one.
    func put(_ bytes: [UInt8], at name: String) throws {
        let file = try Descriptor.open(self(name), for: .updatingOrCreating)
        try file.truncate(to: 0)
        try file.write(bytes, at: 0)
    }

    func bytes(_ name: String) throws -> [UInt8] {
        try Descriptor.open(self(name), for: .reading).readAll(max: 1 << 30)
    }

    func file(_ name: String) throws -> Descriptor { try Descriptor.open(self(name), for: .reading) }
}

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

let mail = RootName("partition-default")

func content(_ byteCount: Int, seed: UInt64 = 1) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return generator.bytes(byteCount)
}

extension MonotonicTime {
    static func milliseconds(_ count: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: count * 1_000_000) }
}

/// What a file would have been read as.
extension FileVersion {
    static func read(
        _ directory: TemporaryDirectory, _ name: String, old: PageTable? = nil, appendOnly: Bool = false
    ) throws -> FileVersion {
        let file = try directory.file(name)
        return try FileVersion(
            reading: file, try file.status(), old: old, appendOnly: appendOnly,
            copyingTo: try OwnFiles(directory("spare")))
    }
}

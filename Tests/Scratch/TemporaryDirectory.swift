import Glibc
import Linux

/// A new directory that goes, with all in it, when the test lets go of it.
package final class TemporaryDirectory: Sendable {
    package let path: String

    package init(in parent: String = "/tmp") {
        var template = Array("\(parent)/mailsync-test-XXXXXX".utf8CString)
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

    package func callAsFunction(_ name: String) -> String { path + "/" + name }

    package func bytes(_ name: String) throws -> [UInt8] {
        try Descriptor.open(self(name), for: .reading).readAll(max: 1 << 30)
    }

    /// The file has exactly `bytes` then; its inode stays, if it has one.
    package func put(_ bytes: [UInt8], at name: String) throws {
        let file = try Descriptor.open(self(name), for: .updatingOrCreating)
        try file.truncate(to: 0)
        try file.write(bytes, at: 0)
    }
}

import Digests
import Formats
import Linux
import ReplicationLog
import Scratch
import Seeded
import Store

@testable import Primary

extension TemporaryDirectory {
    /// A small store in `conf` and `mail`.
    func makeStore(_ more: String = "") throws -> StoreRoots {
        for name in ["conf", "mail"] { _ = try Directory.make(self(name)) }
        let text = "configdirectory: \(path)/conf\npartition-default: \(path)/mail\nsieveusehomedir: yes\n\(more)"
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        return try StoreRoots(try StoreLayout(conf))
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

/// A link to nobody: it keeps what is sent, and stays open.
final class Wire: LinkTransport {
    let sent = Condition<[Message]>([])
    private let full = Condition(false)

    var messages: [Message] { sent.withLock { $0 } }

    var isFull: Bool {
        get { full.withLock { $0 } }
        set { full.withLock { $0 = newValue } }
    }

    var batchCount: Int { messages.count { if case .batch = $0 { true } else { false } } }

    var refusals: [Refusal] {
        messages.compactMap { if case .refuse(let refusal, _) = $0 { refusal } else { nil } }
    }

    var isWritable: Bool { !isFull }
    var isOpen: Bool { true }

    func write(_ head: [UInt8], _ body: [UInt8]) {
        guard let message = try? Message(decoding: (head + body)[4...]) else { return }  // none of ours
        sent.update { $0.append(message) }
    }

    func flush() {}
    func close() {}
    func setReading(paused: Bool) {}
    func onLoop(_ body: @escaping @Sendable () -> Void) { body() }
}

import Digests
import Formats
import Foundation
import Linux
import Store

/// A copy of Fixtures/cyrus/store that a test may spoil; gone when the test lets go of it.
final class StoreCopy {
    let path: String
    let layout: StoreLayout

    static let inbox = StorePath(RootName("partition-default"), "uuid/l/j/ljgd9k8h3vff2hiubbtt9vds")
    static let sent = StorePath(RootName("partition-default"), "uuid/h/7/h7mp450j03hydsqm1ziu8gat")

    private static let fixture = URL(filePath: #filePath).deletingLastPathComponent().appending(
        path: "../../../Fixtures/cyrus/store"
    ).standardized.path

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "mailsync-store-\(UUID().uuidString)").path
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: path)
        try FileManager.default.createDirectory(atPath: path + "/lock/a", withIntermediateDirectories: true)
        let text = """
            configdirectory: \(path)/conf
            partition-default: \(path)/mail
            mboxname_lockpath: \(path)/lock
            hashimapspool: yes
            conversations: yes

            """
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        layout = try StoreLayout(conf)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }  // what stays in /tmp harms no test

    func file(_ path: StorePath) -> String {
        String(decoding: layout.absolutePath(of: path) ?? [], as: UTF8.self)
    }

    func bytes(_ path: StorePath) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(filePath: file(path))))
    }

    func write(_ bytes: [UInt8], to path: StorePath) throws {
        try Data(bytes).write(to: URL(filePath: file(path)))
    }

    func remove(_ path: StorePath) throws { try FileManager.default.removeItem(atPath: file(path)) }

    /// Changes the index of `mailbox` and gives its header a good checksum again.
    func changeIndex(of mailbox: StorePath, _ change: (inout [UInt8]) -> Void) throws {
        var bytes = try bytes(mailbox.appending("cyrus.index"))
        change(&bytes)
        put(crc32(bytes[..<156]), at: 156, in: &bytes)
        try write(bytes, to: mailbox.appending("cyrus.index"))
    }

    func check(_ standing: CyrusCheck.Standing = .atRest, patience: Duration = .seconds(5)) throws -> CyrusCheck {
        CyrusCheck(roots: try StoreRoots(layout), standing: standing, patience: patience)
    }

    func locks() -> CyrusLocks { CyrusLocks(directory: path + "/lock", rules: layout.rules.paths) }

    func kinds(of mailbox: StorePath) throws -> Set<CyrusFinding.Kind> {
        Set(try check().mailbox(mailbox).findings.map(\.kind))
    }

    func storeKinds() throws -> Set<CyrusFinding.Kind> { Set(try check().store().findings.map(\.kind)) }
}

func put(_ value: UInt32, at offset: Int, in bytes: inout [UInt8]) {
    for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32(index))) }
}

func number(at offset: Int, in bytes: [UInt8]) -> UInt32 {
    bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
}

import Foundation
import Testing

// The rules of the house that the compiler does not keep: which room may name what. Each test reads the sources as text.

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

private struct Source {
    /// Below `Sources`.
    let path: String
    let lines: [String]

    var target: String { String(path.prefix { $0 != "/" }) }

    /// The modules it imports.
    var imports: [String] {
        lines.compactMap { line in
            let words = line.split(separator: " ")
            guard let index = words.firstIndex(of: "import"), index <= 1, index + 1 < words.count else { return nil }
            return String(words[index + 1])
        }
    }

    func mentions(_ name: String) -> Bool {
        lines.contains { line in
            let code = line.prefix { $0 != "/" }
            return code.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.contains { $0 == name }
        }
    }
}

private let sources: [Source] = {
    let top = root.appending(path: "Sources")
    let files = FileManager.default.enumerator(atPath: top.path)?.compactMap { $0 as? String } ?? []
    return files.filter { $0.hasSuffix(".swift") }.sorted().map { path in
        let text = (try? String(contentsOf: top.appending(path: path), encoding: .utf8)) ?? ""
        return Source(path: path, lines: text.components(separatedBy: "\n"))
    }
}()

/// What each room may import besides the rooms that the package gives it.
private let outside: [String: Set<String>] = [
    "Linux": ["Glibc", "CKernel"],
    "Digests": ["CDigest", "CZlib", "Crypto"],
    "Formats": [],
    "Delta": ["CLibrsync", "CLZ4"],
    "Store": [],
    "ReplicationLog": [
        "Crypto", "Foundation", "Logging", "NIOCore", "NIOPosix", "NIOSSL", "NIOTLS", "SwiftASN1", "Synchronization",
        "X509",
    ],
    "Primary": ["Foundation", "GRDB", "GRDBSQLite", "Logging", "Synchronization"],
    "Replica": ["Logging", "Synchronization"],
    "mailsync": ["ArgumentParser", "Foundation", "Logging", "Synchronization"],
]

private let rooms: [String: Set<String>] = [
    "Linux": [],
    "Digests": [],
    "Formats": ["Digests"],
    "Delta": ["Digests", "Formats"],
    "Store": ["Linux", "Formats", "Digests"],
    "ReplicationLog": ["Linux", "Formats", "Digests"],
    "Primary": ["Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog"],
    "Replica": ["Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog"],
    "mailsync": ["Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog", "Primary", "Replica"],
]

@Suite struct TidyTests {
    @Test func `there are sources to read`() {
        #expect(sources.count > 100)
    }

    @Test func `a room imports only what its floor allows`() {
        for source in sources {
            let allowed = (rooms[source.target] ?? []).union(outside[source.target] ?? [])
            for module in source.imports {
                #expect(allowed.contains(module), "\(source.path) imports \(module)")
            }
        }
    }

    @Test func `below the program Foundation is only where a library asks for it`() {
        let asked = ["ReplicationLog/Link/Identity.swift", "Primary/Catalogue/Catalogue.swift"]
        for source in sources where source.target != "mailsync" && !asked.contains(source.path) {
            #expect(!source.imports.contains("Foundation"), "\(source.path) imports Foundation")
        }
    }

    @Test func `only the replica names the writer of a mail store`() {
        for source in sources where source.target != "Replica" {
            #expect(!source.mentions("StoreWriter"), "\(source.path) names StoreWriter")
        }
    }

    /// Calls of `Directory` and `Descriptor` that change something; of the primary's own files only three may.
    @Test func `the primary and the store's readers change no file of a mail store`() {
        let own: Set = [
            "Primary/Capture/ShadowStore.swift", "Primary/Capture/FileVersion.swift", "Primary/Watch/Watcher.swift",
        ]
        let changing = [
            "creatingNew", "updatingOrCreating", "updating", "unlink", "makeDirectory", "removeDirectory", "setOwner",
            "setMode", "truncate",
        ]
        for source in sources where ["Primary", "Store"].contains(source.target) && !own.contains(source.path) {
            for call in changing { #expect(!source.mentions(call), "\(source.path) says \(call)") }
            // The word alone is a kind of file; in the primary, of record.
            let makesLinks = source.target == "Store" && source.lines.contains { $0.contains("symlink(") }
            #expect(!makesLinks, "\(source.path) makes links")
        }
    }

    @Test func `no file is so long that it hides a second idea`() {
        for source in sources {
            #expect(source.lines.count <= 500, "\(source.path) has \(source.lines.count) lines")
        }
    }

    @Test func `nothing is left for later in the code`() {
        for source in sources {
            for (number, line) in source.lines.enumerated() {
                let isLeft = ["TODO", "FIXME", "XXX"].contains { line.contains($0) }
                #expect(!isLeft, "\(source.path):\(number + 1)")
            }
        }
    }

    @Test func `an error dropped has its reason beside it`() {
        for source in sources {
            for (number, line) in source.lines.enumerated() where line.contains(#/(^|[^A-Za-z])try\? /#) {
                let before = number > 0 ? source.lines[number - 1] : ""
                let after = number + 1 < source.lines.count ? source.lines[number + 1] : ""
                let isExplained = [before, line, after].contains { $0.contains("//") }
                #expect(isExplained, "\(source.path):\(number + 1): \(line)")
            }
        }
    }
}

import ArgumentParser
import Formats
import Foundation
import Linux
import Replica
import Store

struct QuarantineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine",
        abstract: "What was removed from this end's store or overwritten in it, and is kept.",
        discussion: "Works with and without a daemon, and changes nothing in the store.",
        subcommands: [List.self, Show.self, Restore.self, Expire.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what is kept, oldest first.")

        @OptionGroup var common: CommonOptions
        @OptionGroup var filter: Filter
        @Flag(help: "One JSON object a line.") var json = false

        func run() throws {
            guard let kept = try Quarantined(common) else {
                if !json { Output.note("0 entries, 0 bytes") }
                return
            }
            try filter.check(kept.roots.layout)
            var (count, byteCount) = (0, Int64(0))
            for batch in try kept.view.batches() {
                for entry in try kept.view.entries(of: batch) where filter.includes(entry) {
                    let mailbox = kept.mailbox(entry)
                    json ? try printJSON(entry, mailbox) : Output.print(Self.line(entry, mailbox))
                    count += 1
                    byteCount += entry.byteCount
                }
            }
            if !json { Output.note("\(count) entries, \(byteCount) bytes") }
        }

        private static func line(_ entry: QuarantineView.Entry, _ mailbox: MailboxName?) -> String {
            "\(entry.taken.iso8601) \(entry.byteCount) \(entry.name)\(mailbox.map { " (\($0))" } ?? "")"
        }

        private struct Line: Encodable {
            let entry: String
            let batch: UInt64
            let path: String
            let kind: String
            let bytes: Int64
            let taken: String
            let mailbox: String?
        }

        private func printJSON(_ entry: QuarantineView.Entry, _ mailbox: MailboxName?) throws {
            let line = Line(
                entry: entry.name, batch: entry.batch.number, path: "\(entry.path)", kind: "\(entry.kind)",
                bytes: entry.byteCount, taken: entry.taken.iso8601, mailbox: mailbox.map { "\($0)" })
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            Output.print(String(decoding: try encoder.encode(line), as: UTF8.self))
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the bytes of an entry, or what is known of it.")

        @OptionGroup var common: CommonOptions
        @Argument(help: "As \"list\" shows it: NUMBER/ROOT/PATH.") var entry: String
        @Flag(help: "What is known of it, instead of its bytes.") var metadata = false

        func run() throws {
            let kept = try Quarantined.demanded(common)
            let entry = try kept.one(self.entry)
            if metadata { return describe(entry, kept.mailbox(entry)) }
            do {
                switch entry.kind {
                case .file:
                    let file = try kept.view.open(entry)
                    try file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in
                        try StandardStream.output.write(Array(piece))
                    }
                case .symlink: try StandardStream.output.write(try kept.view.readLink(entry))
                case .directory, .other: throw Failure(.usage, "\(entry.name): has no bytes", hint: "try --metadata")
                }
            } catch let error as SystemError where error.errno == .brokenPipe {
                throw ExitCode(ExitStatus.inputOutput.rawValue)  // who reads has seen enough
            }
        }

        private func describe(_ entry: QuarantineView.Entry, _ mailbox: MailboxName?) {
            Output.print("entry: \(entry.name)")
            Output.print("kind: \(entry.kind)")
            Output.print("bytes: \(entry.byteCount)")
            Output.print("modified: \(Timestamp(nanoseconds: entry.mtimeNanoseconds).iso8601)")
            Output.print("taken: \(entry.taken.iso8601), by batch \(entry.batch)")
            if let mailbox { Output.print("mailbox: \(mailbox)") }
        }
    }

    struct Restore: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Copy entries to a directory outside of the store.",
            discussion: "How a message gets from there into a mailbox, mailsync(8) says under QUARANTINE.")

        @OptionGroup var common: CommonOptions
        @Argument(help: "As \"list\" shows them: NUMBER/ROOT/PATH; of a directory, or NUMBER alone, all that is in it.")
        var entries: [String]
        @Option(help: ArgumentHelp("Where to; made if it is not there.", valueName: "directory")) var to: String

        func run() throws {
            let kept = try Quarantined.demanded(common)
            let target = try RestoreTarget(to, roots: kept.roots, state: kept.state)
            for name in entries {
                for entry in try kept.matching(name) { Output.print(try target.copy(entry, of: kept.view)) }
            }
        }
    }

    struct Expire: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove what is kept, for good.")

        @OptionGroup var common: CommonOptions
        @Option(help: ArgumentHelp("What was taken longer ago than this, as in 2d.", valueName: "time")) var older:
            String?
        @Flag(help: "All of it.") var all = false

        func validate() throws {
            guard all != (older != nil) else { throw ValidationError("say either --all or --older TIME") }
            if let older, Configuration.duration(older) == nil { throw ValidationError("not a time: \(older)") }
        }

        func run() throws {
            guard let kept = try Quarantined(common) else { return }
            let age = older.flatMap { Configuration.duration($0) } ?? .zero
            let batches = try kept.view.batches()
            let spared = try kept.isDaemonRunning() ? kept.view.beingFilled(of: batches, by: kept.state) : []
            let removed = try kept.view.expire(batches.filter { !spared.contains($0) }, olderThan: age, now: .now())
            for batch in removed {
                Output.print("removed \(batch.batch): \(batch.entryCount) entries, \(batch.byteCount) bytes")
            }
            for batch in batches where all && spared.contains(batch) {
                Output.note("kept \(batch): a daemon is running, and may be adding to it")
            }
            Output.note(
                "\(removed.reduce(0) { $0 + $1.entryCount }) entries, \(removed.reduce(0) { $0 + $1.byteCount }) bytes removed"
            )
        }
    }

    /// Which entries to show.
    struct Filter: ParsableArguments {
        @Option(help: ArgumentHelp("What was taken longer ago than this, as in 2d.", valueName: "time")) var older:
            String?
        @Option(help: ArgumentHelp("What was below this in the store: ROOT/PATH.", valueName: "path")) var path: String?

        func validate() throws {
            if let older, Configuration.duration(older) == nil { throw ValidationError("not a time: \(older)") }
        }

        func check(_ layout: StoreLayout) throws {
            guard let path, let root = path.split(separator: "/").first else { return }
            guard layout.root(RootName(String(root))) != nil else {
                throw Failure(
                    .usage, "--path \(path): \(root): is no root of this store",
                    hint: "the roots are \(layout.roots.map(\.name.name).joined(separator: ", "))")
            }
        }

        func includes(_ entry: QuarantineView.Entry) -> Bool {
            if let path, "\(entry.path)" != path, !"\(entry.path)".hasPrefix(path.hasSuffix("/") ? path : path + "/") {
                return false
            }
            guard let age = older.flatMap({ Configuration.duration($0) }) else { return true }
            return Timestamp.now() - entry.taken > age
        }
    }
}

/// The quarantine of this end, with the store it came from.
struct Quarantined {
    let view: QuarantineView
    let state: String
    let roots: StoreRoots
    private let names: MailboxNames

    /// Nothing if nothing was ever taken.
    init?(_ common: CommonOptions) throws {
        let configuration = try common.read()
        state = configuration.state
        roots = try StoreRoots(try configuration.layout())
        names = MailboxNames(roots)
        guard let view = try QuarantineView(state: state) else { return nil }
        self.view = view
    }

    static func demanded(_ common: CommonOptions) throws -> Quarantined {
        guard let kept = try Quarantined(common) else {
            throw Failure(.unavailable, "\(try common.read().state)/quarantine: nothing was ever put there")
        }
        return kept
    }

    func mailbox(_ entry: QuarantineView.Entry) -> MailboxName? { names.name(of: entry.path) }

    /// The entry of that name, or all below a directory of that name, or of that batch.
    func matching(_ name: String) throws -> [QuarantineView.Entry] {
        guard let batch = UInt64(name.prefix { $0 != "/" }) else {
            throw Failure(
                .usage, "\(name): begins with no number of a batch", hint: "\"mailsync quarantine list\" shows names")
        }
        let found = try view.entries(of: SequenceNumber(batch)).filter {
            $0.name == name || $0.name.hasPrefix(name.hasSuffix("/") ? name : name + "/")
        }
        guard !found.isEmpty else {
            throw Failure(
                .unavailable, "\(name): not in the quarantine", hint: "\"mailsync quarantine list\" shows what is kept")
        }
        return found
    }

    func one(_ name: String) throws -> QuarantineView.Entry {
        let found = try matching(name)
        guard found.count == 1, found[0].name == name else {
            throw Failure(.usage, "\(name): a directory with \(found.count) entries", hint: "name one of them")
        }
        return found[0]
    }

    func isDaemonRunning() throws -> Bool {
        do {
            _ = try StateDirectory(path: state).hold()
            return false
        } catch let failure as Failure where failure.status == .tryAgain {
            return true
        }
    }
}

/// A directory for copies, which is no part of the store.
struct RestoreTarget {
    private let directory: Directory

    init(_ path: String, roots: StoreRoots, state: String) throws {
        guard !path.split(separator: "/").contains("..") else {
            throw Failure(.usage, "--to \(path): leads back over \"..\"", hint: "name the directory itself")
        }
        if let place = RealPath.place(of: path, among: roots.layout.roots.map(\.path) + [state]) {
            throw Failure(
                .usage, "\(path): is within \(place): nothing but the applier writes there",
                hint: "copy it elsewhere, and deliver it to the primary")
        }
        do throws(SystemError) { directory = try Directory.makeAll(path) } catch {
            throw Failure(.inputOutput, "--to \(path): \(error)", hint: "name a directory that this user can make")
        }
    }

    /// Returns where it is now. What is there already stays, and is an error.
    func copy(_ entry: QuarantineView.Entry, of view: QuarantineView) throws -> String {
        let place = Array("\(entry.batch)/\(entry.path.root.name)/".utf8) + entry.path.path
        try makeParents(of: place)
        do throws(SystemError) {
            switch entry.kind {
            case .directory: _ = try directory.makeDirectory(place)
            case .symlink: try directory.symlink(try view.readLink(entry), at: place)
            case .file: try copy(try view.open(entry), entry, to: place)
            case .other: break
            }
        } catch {
            guard error.errno == .exists else { throw Failure(.inputOutput, "\(error)") }
            throw Failure(.usage, "\(directory.path)/\(entry.name): is there already", hint: "name another directory")
        }
        return directory.path + "/" + entry.name
    }

    private func copy(
        _ source: borrowing Descriptor, _ entry: QuarantineView.Entry, to place: [UInt8]
    ) throws(SystemError) {
        let target = try directory.open(place, for: .creatingNew)
        var offset: Int64 = 0
        try source.readPieces(of: 256 << 10) { (piece) throws(SystemError) in
            try target.write(piece, at: offset)
            offset += Int64(piece.count)
        }
        try target.setTimes(mtimeNanoseconds: entry.mtimeNanoseconds)
        try target.flush()
    }

    private func makeParents(of place: [UInt8]) throws(SystemError) {
        for (index, byte) in place.enumerated() where byte == UInt8(ascii: "/") {
            let parent = Array(place[..<index])
            if try directory.status(of: parent) == nil { _ = try directory.makeDirectory(parent) }
        }
    }
}

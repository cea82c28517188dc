import ArgumentParser
import Digests
import Formats
import Foundation
import Linux
import ReplicationLog
import Store

/// `mailsync verify --offline DIR --manifest FILE`: a store at rest, as a backup or a disk has it, against a manifest.
struct OfflineOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Compare a store at rest with a manifest instead: its roots are where imapd.conf says, below this.",
            valueName: "directory"))
    var offline: String?
    @Option(help: ArgumentHelp("With --offline: what \"mailsync manifest\" wrote.", valueName: "file")) var manifest:
        String?
    @Option(help: ArgumentHelp("With --offline: where this root is.", valueName: "name=directory")) var root: [String] =
        []
    @Option(
        help: ArgumentHelp(
            "With --offline: who may have signed, besides this end and its peers.", valueName: "fingerprint"))
    var signer: String?

    var isAsked: Bool { offline != nil || manifest != nil }

    func validate() throws {
        guard isAsked else {
            guard root.isEmpty, signer == nil else { throw ValidationError("--root and --signer go with --offline") }
            return
        }
        guard manifest != nil, offline != nil || !root.isEmpty else {
            throw ValidationError(
                manifest == nil
                    ? "--offline needs --manifest FILE, which \"mailsync manifest\" wrote"
                    : "--manifest needs --offline DIRECTORY, below which the store is; --offline / is where it is now")
        }
        if let wrong = root.first(where: { !$0.contains("=") }) {
            throw ValidationError("not NAME=DIRECTORY: \(wrong)")
        }
        if let signer, Fingerprint(signer) == nil { throw ValidationError("not a fingerprint: \(signer)") }
    }
}

struct OfflineVerify {
    let configuration: Configuration
    let options: OfflineOptions
    private(set) var findingCount = 0
    private var entryCount = 0
    private var byteCount: UInt64 = 0

    init(_ configuration: Configuration, _ options: OfflineOptions) {
        self.configuration = configuration
        self.options = options
    }

    /// Prints what differs; throws `ExitCode` 1 if something does.
    mutating func run() throws {
        let manifest = try ManifestReader(options.manifest ?? "")
        try checkSigner(manifest.signer)
        let roots = try StoreRoots(try layout(manifest))
        let walk = ManifestWalk(roots)
        var expected = try manifest.next()
        do {
            try walk.run { line in
                while let wanted = expected, ManifestLine.isOrdered(wanted.path, line.path) {
                    tell("missing", wanted.path, "in the manifest, and not here")
                    expected = try manifest.next()
                }
                guard let wanted = expected, wanted.path == line.path else {
                    return tell("extra", line.path, "here, and not in the manifest")
                }
                entryCount += 1
                byteCount += line.entry.byteCount
                if let why = Self.difference(wanted, line) { tell("differs", line.path, why) }
                expected = try manifest.next()
            }
            while let wanted = expected {
                tell("missing", wanted.path, "in the manifest, and not here")
                expected = try manifest.next()
            }
            try walk.checkAtRest()
        } catch let failure as ManifestWalk.Failure {
            throw Failure(.tryAgain, "\(failure)", hint: "nothing may write there meanwhile")
        }
        Output.print(
            "\(entryCount) entries, \(byteCount) bytes compared with the manifest of \(manifest.value("made") ?? "?"), "
                + "signed by \(manifest.signer): \(findingCount == 0 ? "equal" : "\(findingCount) findings")")
        if findingCount > 0 { throw ExitCode(ExitStatus.differences.rawValue) }
    }

    private mutating func tell(_ kind: String, _ path: StorePath, _ why: String) {
        findingCount += 1
        Output.print("\(kind): \(ManifestLine.escaped(path)): \(why)")
    }

    /// Pure: what is not as the manifest says.
    static func difference(_ wanted: ManifestLine, _ found: ManifestLine) -> String? {
        let (one, other) = (wanted.entry, found.entry)
        guard one.kind == other.kind else { return "a \(other.kind), and was a \(one.kind)" }
        var reasons: [String] = []
        if one.byteCount != other.byteCount { reasons.append("\(other.byteCount) bytes, and had \(one.byteCount)") }
        if one.byteCount == other.byteCount, wanted.hash != found.hash {
            reasons.append(one.kind == .symlink ? "another target" : "another content")
        }
        if one.mode != other.mode {
            reasons.append("mode \(String(other.mode, radix: 8)), and had \(String(one.mode, radix: 8))")
        }
        if one.mtimeNanoseconds != other.mtimeNanoseconds {
            reasons.append(
                "of \(Timestamp(nanoseconds: other.mtimeNanoseconds).iso8601), and was of "
                    + Timestamp(nanoseconds: one.mtimeNanoseconds).iso8601)
        }
        if one.owner != other.owner || one.group != other.group { reasons.append("another owner or group") }
        return reasons.isEmpty ? nil : reasons.joined(separator: "; ")
    }

    private func checkSigner(_ signer: Fingerprint) throws {
        var known = configuration.peers.compactMap(\.fingerprint)
        if let given = options.signer.flatMap({ Fingerprint($0) }) { known.append(given) }
        // An end without an identity knows its peers' all the same.
        if let own = try? StateDirectory(path: configuration.state).identity().fingerprint { known.append(own) }
        guard known.contains(signer) else {
            throw Failure(
                .dataError, "\(options.manifest ?? ""): signed by \(signer), whom nothing here names",
                hint: "if you know that fingerprint to be right, say --signer \(signer)")
        }
    }

    private func layout(_ manifest: ManifestReader) throws -> StoreLayout {
        let own = try configuration.layout()
        var places: [String: String] = [:]
        for option in options.root {
            let words = option.split(separator: "=", maxSplits: 1).map(String.init)
            guard words.count == 2, own.root(RootName(words[0])) != nil else {
                throw Failure(.usage, "--root \(option): imapd.conf has no such root")
            }
            places[words[0]] = words[1]
        }
        let unknown = manifest.roots.filter { name in !own.roots.contains { $0.name.name == name } }
        guard unknown.isEmpty else {
            throw Failure(
                .configuration,
                "\(configuration.imapdConf): has no \(unknown.joined(separator: ", ")), which the manifest has")
        }
        let prefix = options.offline ?? ""
        let missing = own.roots.first {
            places[$0.name.name] == nil && options.offline == nil && $0.origin == .configured
        }
        if let missing {
            throw Failure(
                .usage, "where is \(missing.name)?", hint: "say --offline DIRECTORY, or --root \(missing.name)=…")
        }
        return own.relocated { places[$0.name.name] ?? prefix + $0.path }
    }
}

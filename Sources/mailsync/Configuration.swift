import Formats
import Linux
import Replica
import ReplicationLog
import Store

/// mailsync.conf, read and checked: `key: value` lines as in imapd.conf.
struct Configuration: Sendable {
    let file: String
    /// The name both ends use.
    let store: String
    let imapdConf: String
    /// The state directory.
    let state: String
    let listen: Address?
    let peers: [Peer]
    let sweepPeriod: Duration
    /// Nothing: no continuous audit.
    let scrubPeriod: Duration?
    let journalBytesMax: Int
    let journalKeep: Duration
    let quarantineKeep: Duration
    /// Of a replica's files, what may be removed in an hour; nothing: no limit.
    let removalLimit: RemovalLimit?
    /// Instead of imapd.conf's mboxname_lockpath.
    let lockPath: String?

    struct Peer: Sendable {
        let name: String
        let address: Address?
        let fingerprint: Fingerprint?

        /// As the file has it: `peer`, or `peer.NAME`.
        func key(_ base: String) -> String { name.isEmpty ? base : "\(base).\(name)" }
    }

    var peerNames: PeerNames { PeerNames(peers) }

    static let defaultFile = "/etc/mailsync.conf"
    /// The log is let go of by whole segments.
    private static let journalBytesMin = 2 * Journal.segmentBytes
    private static let keys: Set<String> = [
        "store", "imapd_conf", "state", "listen", "peer", "peer_fingerprint", "sweep_period", "journal_max",
        "journal_keep", "quarantine_keep", "lock_path", "removal_brake", "scrub_period",
    ]

    /// Throws `Failure` with exit code 78, naming the line.
    init(reading file: String) throws {
        self.file = file
        let text: String
        do throws(SystemError) {
            text = try Self.text(file)
        } catch {
            throw Failure(
                .configuration, "\(file): cannot be read: \(error.errno)",
                hint: "write it as in mailsync.conf(5), or name another with --config")
        }
        let values: KeyValueFile
        do throws(ConfigurationError) {
            values = try KeyValueFile.parse(text, named: file)
        } catch {
            throw Failure(.configuration, "\(error)", hint: "mailsync.conf(5) shows how its lines look")
        }
        for entry in values.entries {
            let base = entry.key.split(separator: ".", maxSplits: 1).first.map(String.init) ?? entry.key
            guard Self.keys.contains(base) else {
                throw Failure(
                    .configuration, "\(entry.source): \(entry.key): no such key",
                    hint: "the keys are \(Self.keys.sorted().joined(separator: ", ")); "
                        + "and of more ends peer.NAME, peer_fingerprint.NAME")
            }
        }
        func required(_ key: String) throws -> String {
            guard let value = values.entry(key)?.value, !value.isEmpty else {
                throw Failure(.configuration, "\(file): \(key): is missing", hint: "add a line \"\(key): …\"")
            }
            return value
        }
        store = try required("store")
        imapdConf = values.entry("imapd_conf")?.value ?? "/etc/imapd.conf"
        state = try required("state")
        lockPath = values.entry("lock_path")?.value
        listen = try values.entry("listen").map { try Self.address($0) }
        peers = try Self.peers(values)
        sweepPeriod = try Self.duration(values.entry("sweep_period"), default: .seconds(3600))
        let scrub = values.entry("scrub_period")
        scrubPeriod = scrub?.value == "off" ? nil : try Self.duration(scrub, default: .seconds(7 * 86400))
        quarantineKeep = try Self.duration(values.entry("quarantine_keep"), default: .seconds(7 * 86400))
        journalKeep = try Self.duration(values.entry("journal_keep"), default: .seconds(7 * 86400))
        removalLimit = try Self.share(values.entry("removal_brake"), default: 0.2).map { RemovalLimit(shareMax: $0) }
        let journalMax = values.entry("journal_max")
        journalBytesMax = try Self.bytes(journalMax, default: 8 << 30)
        if let journalMax, journalBytesMax < Self.journalBytesMin {
            throw Failure(
                .configuration, "\(journalMax.source): journal_max: \(journalMax.value): holds hardly a batch",
                hint:
                    "give at least \(Self.journalBytesMin >> 20)M; of what a replica misses beyond it whole files are sent"
            )
        }
        for (key, path) in [("state", state), ("lock_path", lockPath ?? "/")] where !path.hasPrefix("/") {
            throw Failure(
                .configuration, "\(file): \(key): \(path): is not an absolute path",
                hint: key == "state" ? "as in /var/lib/mailsync/\(store)" : "as in /run/cyrus/lock")
        }
    }

    private static func peers(_ values: KeyValueFile) throws -> [Peer] {
        var addresses: [String: Address] = [:]
        var fingerprints: [String: Fingerprint] = [:]
        for entry in values.entries {
            let parts = entry.key.split(separator: ".", maxSplits: 1).map(String.init)
            let name = parts.count > 1 ? parts[1] : ""
            if parts[0] == "peer" { addresses[name] = try address(entry) }
            if parts[0] == "peer_fingerprint", !entry.value.isEmpty {
                guard let fingerprint = Fingerprint(entry.value) else {
                    throw Failure(
                        .configuration, "\(entry.source): \(entry.key): not a fingerprint: \(entry.value)",
                        hint: "take what \"mailsync fingerprint\" prints on the other end")
                }
                if fingerprint != placeholder { fingerprints[name] = fingerprint }
            }
        }
        return Set(addresses.keys).union(fingerprints.keys).sorted().map {
            Peer(name: $0, address: addresses[$0], fingerprint: fingerprints[$0])
        }
    }

    /// As it stands in the example, to be filled in.
    private static let placeholder = Fingerprint("SHA256:" + String(repeating: "0", count: 64))

    private static func address(_ entry: KeyValueFile.Entry) throws -> Address {
        guard let address = Address(entry.value) else {
            throw Failure(
                .configuration, "\(entry.source): \(entry.key): \(entry.value): is not host:port",
                hint: "write it as in mail2.example.org:2009, 192.0.2.1:2009 or [2001:db8::1]:2009")
        }
        return address
    }

    private static func duration(_ entry: KeyValueFile.Entry?, default standard: Duration) throws -> Duration {
        guard let entry else { return standard }
        guard let duration = duration(entry.value) else {
            throw Failure(
                .configuration, "\(entry.source): \(entry.key): \(entry.value): is not a time",
                hint: "write a number and s, m, h or d, as in 7d")
        }
        return duration
    }

    /// `90`, `90s`, `5m`, `12h`, `7d`; nothing for anything else.
    static func duration(_ text: String) -> Duration? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        let unit = text.last.flatMap { units[$0] }
        guard let count = Int64(unit == nil ? text[...] : text.dropLast()), count > 0, count < 1 << 32 else {
            return nil
        }
        return .seconds(count * (unit ?? 1))
    }

    /// `20%`; `off` is none.
    private static func share(_ entry: KeyValueFile.Entry?, default standard: Double) throws -> Double? {
        guard let entry else { return standard }
        if entry.value == "off" { return nil }
        guard entry.value.hasSuffix("%"), let percent = Double(entry.value.dropLast()), percent > 0, percent <= 100
        else {
            throw Failure(
                .configuration, "\(entry.source): \(entry.key): \(entry.value): is not a share",
                hint: "write a percentage, as in 20%, or off")
        }
        return percent / 100
    }

    /// `1000000`, `64M`, `8G`.
    private static func bytes(_ entry: KeyValueFile.Entry?, default standard: Int) throws -> Int {
        guard let entry else { return standard }
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = entry.value.last.flatMap { units[$0] }
        let digits = unit == nil ? entry.value[...] : entry.value.dropLast()
        guard let count = Int(digits), count > 0, count < 1 << 20 || unit == nil else {
            throw Failure(
                .configuration, "\(entry.source): \(entry.key): \(entry.value): is not a number of bytes",
                hint: "write a number and K, M, G or T, as in 8G")
        }
        return count * (unit ?? 1)
    }

    // MARK: - the store

    /// That of Cyrus's configdirectory; nothing while there is none, or imapd.conf cannot be read.
    func storeOwner() throws(SystemError) -> FileStatus? {
        guard let path = (try? layout())?.root(.configuration)?.path else { return nil }  // `check` tells why
        return try FileStatus.of(path)
    }

    /// What imapd.conf says of the store.
    func layout() throws -> StoreLayout {
        let hint = "imapd_conf in \(file) names Cyrus's configuration"
        let text: String
        do throws(SystemError) { text = try Self.text(imapdConf) } catch {
            throw Failure(.configuration, "\(imapdConf): cannot be read: \(error.errno)", hint: hint)
        }
        let conf: ImapdConf
        do throws(ConfigurationError) {
            conf = try ImapdConf.parse(text, named: imapdConf) { name throws(IncludeFailure) in
                do throws(SystemError) { return try Self.text(name) } catch { throw IncludeFailure("\(error.errno)") }
            }
        } catch {
            throw Failure(.configuration, "\(error)", hint: hint)
        }
        do throws(LayoutRefusal) {
            return try StoreLayout(conf).keepingOut([state] + (lockPath.map { [$0] } ?? []))
        } catch {
            throw Failure(.configuration, "\(error)")
        }
    }

    private static func text(_ name: String) throws(SystemError) -> String {
        String(decoding: try Descriptor.open(name, for: .reading).readAll(max: 1 << 20), as: UTF8.self)
    }

    func lockRoot(of layout: StoreLayout) -> String { lockPath ?? layout.lockRoot }
}

import Formats
import Linux

/// Every database of the configuration directory by itself: that it can be read, and its own checksums.
struct DatabaseCheck {
    let check: CyrusCheck
    private(set) var found = CyrusVerdict()
    /// What quota files there are, by root.
    private(set) var quotas: [[UInt8]: QuotaFile] = [:]

    private static let byteCountMax = 2 << 30

    init(check: CyrusCheck) { self.check = check }

    mutating func run() throws(SystemError) {
        var paths: [(StorePath, DatabaseKind)] = []
        let layout = check.layout
        let configuration = StorePath(root: .configuration)
        let forbidden = try StoreWalk(roots: check.roots).files(below: configuration) { (path) throws(SystemError) in
            let role = layout.role(of: path)
            if role.shipping == .always, let kind = role.databaseKind, kind != .plain { paths.append((path, kind)) }
        }
        found.busy += forbidden
        for (path, kind) in paths { try look(at: path, kind) }
        for database in [CyrusDatabase.mailboxes] where try check.roots.status(of: layout.path(of: database)) == nil {
            found.findings.append(CyrusFinding(.missing, layout.path(of: database), nil, "there is none"))
        }
    }

    private mutating func look(at path: StorePath, _ kind: DatabaseKind) throws(SystemError) {
        switch try bytes(path, kind) {
        case .bytes(let bytes):
            check.read(bytes.count)
            for problem in DatabaseImage.problems(bytes, kind) {
                let kind: CyrusFinding.Kind = problem.isUnfinished ? .unfinished : .unreadable
                found.findings.append(CyrusFinding(kind, path, nil, problem.why))
            }
            if check.layout.rules.relocated[path] == .quota || path == StorePath(.configuration, "quotas.db") {
                takeQuotas(bytes, kind)
            } else if kind == .quota, case .quota(let root) = check.layout.unit(of: path) {
                // One that cannot be read was told of above.
                if let quota = try? QuotaFile(decoding: bytes) { quotas[root] = quota }
            }
        case .gone: break
        case nil: found.busy.append(path)
        }
    }

    private mutating func takeQuotas(_ bytes: [UInt8], _ kind: DatabaseKind) {
        // What cannot be read was told of before.
        try? DatabaseImage.forEachEntry(bytes, kind) { (key, value) throws(MalformedBytes) in
            quotas[Array(key)] = try QuotaFile(decoding: Array(value))
        }
    }

    private enum Content {
        case gone
        case bytes([UInt8])
    }

    /// Nothing if it was written all the time.
    private func bytes(_ path: StorePath, _ kind: DatabaseKind) throws(SystemError) -> Content? {
        let locking: FileLocking =
            switch kind {
            case .twoskip, .skiplist: .whole
            case .sqlite: .sqlite
            case .flat, .quota, .counters, .plain: .none
            }
        let roots = check.roots
        return try check.still([]) { () throws(SystemError) -> Content? in
            do throws(SystemError) {
                guard let file = try roots.openLocked(path, locking) else {
                    return try roots.status(of: path) == nil ? .gone : nil
                }
                return .bytes(try file.file.readAll(max: Self.byteCountMax))
            } catch {
                guard error.errno == .noEntry else { throw error }
                return .gone
            }
        }
    }
}

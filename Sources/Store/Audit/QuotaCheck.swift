import Formats
import Linux

/// What the mailboxes of each quota root use together.
struct QuotaUsage {
    private(set) var byRoot: [[UInt8]: Sum] = [:]

    struct Sum: Equatable {
        var bytes: UInt64 = 0, messages: UInt64 = 0, annotationBytes: UInt64 = 0, folders: UInt64 = 0
    }

    mutating func add(_ root: [UInt8]?, _ index: IndexHeader) {
        guard let root else { return }
        byRoot[root, default: Sum()].bytes += index.quotaMailboxUsed
        byRoot[root, default: Sum()].messages += UInt64(index.exists)
        byRoot[root, default: Sum()].annotationBytes += index.quotaAnnotationsUsed
        byRoot[root, default: Sum()].folders += 1
    }
}

/// Quota files against the mailboxes that count for them.
struct QuotaCheck {
    let check: CyrusCheck

    func run(
        _ usage: QuotaUsage, _ quotas: [[UInt8]: QuotaFile], _ found: inout CyrusVerdict
    ) throws(SystemError) {
        for root in Set(usage.byRoot.keys).union(quotas.keys).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            guard problem(quotas[root], usage.byRoot[root]) != nil else { continue }
            switch try confirm(root) {
            case .fine: break
            case .wrong(let why): found.findings.append(CyrusFinding(.quota, path(root), nil, why))
            case nil: found.busy.append(path(root))
            }
        }
    }

    private func path(_ root: [UInt8]) -> StorePath {
        guard check.layout.rules.engines[.quota] == .quota else { return check.layout.path(of: .quota) }
        return StorePath(root: .configuration, path: StoreUnit.quotaPath(root, rules: check.layout.rules.paths))
            ?? StorePath(root: .configuration)
    }

    private func problem(_ quota: QuotaFile?, _ sum: QuotaUsage.Sum?) -> String? {
        guard let quota else { return "mailboxes count for a quota root that is not there" }
        // In the middle of "quota -f": what was counted so far is in it too.
        if quota.isBeingScanned { return nil }
        let sum = sum ?? QuotaUsage.Sum()
        for (name, resource, computed) in [
            ("bytes", quota.storage, sum.bytes), ("messages", quota.messages, sum.messages),
            ("bytes of annotations", quota.annotationStorage, sum.annotationBytes),
            ("folders", quota.folders, sum.folders),
        ] {
            guard let resource, resource.used != computed else { continue }
            return "\(resource.used) \(name) used, its mailboxes have \(computed)"
        }
        return nil
    }

    private enum Confirmation {
        case fine
        case wrong(String)
    }

    /// All again, for this root, while nobody writes any mailbox below it.
    private func confirm(_ root: [UInt8]) throws(SystemError) -> Confirmation? {
        let check = check
        guard let list = try MailboxList.read(check) else { return nil }
        let users = Set(mailboxes(below: root, list).map(\.name.userID) + [name(root).userID])
        return try check.still(users.sorted { ($0 ?? []).lexicographicallyPrecedes($1 ?? []) }) {
            () throws(SystemError) -> Confirmation? in
            guard let list = try MailboxList.read(check) else { return nil }
            var usage = QuotaUsage()
            for (name, entry) in mailboxes(below: root, list) {
                // Somebody who came after the locks were chosen.
                guard users.contains(name.userID) else { return nil }
                guard let place = list.place(name, entry),
                    let header = MailboxView.decoded(try MailboxView.headerBytes(place, check.roots)).0,
                    header.quotaRoot == root, let index = try MailboxView.index(place, check.roots, .never).0
                else { continue }
                usage.add(root, index.header)
            }
            let quota = try quota(root)
            if quota == nil, usage.byRoot[root] == nil { return .fine }
            return problem(quota, usage.byRoot[root]).map { .wrong($0) } ?? .fine
        }
    }

    private func name(_ root: [UInt8]) -> MailboxName {
        MailboxName(internalName: root, rules: check.layout.rules.paths)
    }

    /// Those whose name is the root's or below it; which of them count for it, their headers say.
    private func mailboxes(
        below root: [UInt8], _ list: MailboxList
    ) -> [(name: MailboxName, entry: MailboxEntry)] {
        list.live.filter { live in
            let name = live.name.internalName(rules: list.rules)
            return name.starts(with: root)
                && (name.count == root.count || root.last == UInt8(ascii: "!") || name[root.count] == UInt8(ascii: "."))
        }
    }

    private func quota(_ root: [UInt8]) throws(SystemError) -> QuotaFile? {
        let roots = check.roots
        let kind = check.layout.rules.engines[.quota]
        guard let file = try roots.openIfThere(path(root)) else { return nil }
        let bytes = try file.readAll(max: 1 << 30)
        guard kind != .quota else { return Self.decoded(bytes) }
        var found: QuotaFile?
        // One that cannot be read was told of before.
        try? DatabaseImage.forEachEntry(bytes, kind) { (key, value) throws(MalformedBytes) in
            if key.elementsEqual(root) { found = try QuotaFile(decoding: Array(value)) }
        }
        return found
    }

    /// Nothing if it cannot be read, of which is told elsewhere.
    private static func decoded(_ bytes: [UInt8]) -> QuotaFile? { try? QuotaFile(decoding: bytes) }  // told elsewhere
}

import Formats
import Linux
import Store

// Files with several names. Each name is checked with its directory; here, that the names are one file on the replica
// too, within a root, as roots may be file systems of their own there.

extension AuditWalk {
    func check(links: [AuditPlan.LinkKey: [StorePath]]) throws {
        var byRoot: [RootName: [[StorePath]]] = [:]
        for (key, group) in links where group.count > 1 { byRoot[key.root, default: []].append(group) }
        for (root, groups) in byRoot.sorted(by: { $0.key < $1.key }) {
            var chunk: [[StorePath]] = []
            var directories: Set<StorePath> = []
            for group in groups {
                let its = Set(group.map(\.parent))
                guard its.count <= AuditCheck.directoryCountMax else { continue }
                if directories.union(its).count > AuditCheck.directoryCountMax || chunk.count >= 2048 {
                    try check(links: chunk, in: root)
                    (chunk, directories) = ([], [])
                }
                chunk.append(group)
                directories.formUnion(its)
            }
            if !chunk.isEmpty { try check(links: chunk, in: root) }
        }
    }

    private func check(links groups: [[StorePath]], in root: RootName) throws {
        for _ in 0..<Self.attemptsMax {
            try checkCancelled()
            var broken: [String: [[StorePath]]] = [:]
            var isLost = false
            let number = parts.desk.submit(.links(groups), [], in: root, .metadata)
            if let result = parts.desk.wait(for: number, timeout: Self.verdictTimeout) {
                if result.delivery.position == nil { return }
                if result.verdicts.isEmpty { isLost = true }
                for (replica, verdict) in result.verdicts {
                    switch verdict {
                    case .equal: continue
                    case .brokenLinks(let places):
                        broken[replica] = places.compactMap { place in
                            place < result.delivery.links.count ? result.delivery.links[place] : nil
                        }
                    case .lost, .details, .directories: isLost = true
                    }
                }
            } else {
                isLost = true
            }
            guard isLost else { return try report(broken, root) }
            if parts.desk.following.isEmpty, !parts.desk.waitForReplica(timeout: Self.replicaTimeout) {
                throw AuditFailure(why: "the replica went away and did not come back", kind: .interrupted)
            }
            parts.desk.pause(.milliseconds(100))
        }
    }

    private func report(_ broken: [String: [[StorePath]]], _ root: RootName) throws {
        for (replica, groups) in broken {
            for group in groups {
                var outcome = AuditFinding.Outcome.found
                if case .repair = options.repair {
                    parts.desk.repair(group.dropFirst().map { Repair(path: $0, cure: .link(target: group[0])) })
                    outcome = try isOneFile(group, at: replica, root) ? .healed : .notHealed
                }
                let others = group.dropFirst().map { "\($0)" }.joined(separator: ", ")
                var finding = AuditFinding(
                    kind: .tampered, side: .replica, path: group[0],
                    evidence: "one file with \(others) on the primary, several files on the replica")
                finding.replica = replica
                tell(finding, outcome)
            }
        }
    }

    private func isOneFile(_ group: [StorePath], at replica: String, _ root: RootName) throws -> Bool {
        for _ in 0..<Self.attemptsMax {
            try checkCancelled()
            let number = parts.desk.submit(.links([group]), [], in: root, .metadata)
            guard let result = parts.desk.wait(for: number, timeout: Self.verdictTimeout) else { continue }
            switch result.verdicts[replica] {
            case .equal: return true
            case .brokenLinks: return false
            case .lost, .details, .directories, nil:
                if result.delivery.position == nil { return true }
                parts.desk.pause(.milliseconds(100))
            }
        }
        return false
    }
}

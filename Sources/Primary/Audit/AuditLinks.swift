import Formats
import Linux
import Store

// Files with several names. Each name is checked with its directory; here, that the names are one file on the replica too,
// where the roots they are in are on one file system there. Both ends have gathered over the audit what they saw, and
// compare digests; of the parts that differ each link is asked about, as at some position of the log.

/// Names of files that have several, by the directory they were seen in last.
struct LinkNames {
    private var names: [StorePath: [(name: [UInt8], identity: LinkLedger.Identity)]] = [:]

    mutating func note(_ listing: DirectoryListing) {
        let found = listing.manyNamed
        names[listing.directory] = found.isEmpty ? nil : found
    }

    var isEmpty: Bool { names.isEmpty }

    var ledger: LinkLedger {
        var ledger = LinkLedger()
        for (directory, found) in names { ledger.note(directory, found) }
        return ledger
    }

    /// The names of one file each, two at least, sorted.
    var groups: [[StorePath]] {
        var groups: [LinkLedger.Identity: [StorePath]] = [:]
        for (directory, found) in names {
            for item in found { groups[item.identity, default: []].append(directory.appending(item.name)) }
        }
        return groups.values.filter { $0.count > 1 }.map { $0.sorted() }.sorted { $0[0] < $1[0] }
    }
}

extension AuditWalk {
    func check(_ links: LinkNames) throws {
        guard !links.isEmpty, let different = try differentParts(links.ledger) else { return }
        var chunk: [[StorePath]] = []
        var nameCount = 0
        for group in links.groups where different.contains(LinkLedger.part(of: group)) {
            for piece in Self.pieces(of: group) {
                if nameCount + piece.count > Self.linkNamesMax, !chunk.isEmpty {
                    try check(links: chunk)
                    (chunk, nameCount) = ([], 0)
                }
                chunk.append(piece)
                nameCount += piece.count
            }
        }
        if !chunk.isEmpty { try check(links: chunk) }
    }

    /// A check is one record, which has its bound; so many of the longest names are far below it.
    private static let linkNamesMax = 4096

    /// A message to everybody has very many names: each piece begins with the first of them.
    private static func pieces(of group: [StorePath]) -> [[StorePath]] {
        stride(from: 1, to: group.count, by: linkNamesMax - 1).map { start in
            [group[0]] + group[start..<min(start + linkNamesMax - 1, group.count)]
        }
    }

    /// The parts that are not alike at some replica; nothing if all are. What cannot be compared counts as different.
    private func differentParts(_ ledger: LinkLedger) throws -> Set<Int>? {
        let all = Set(0..<LinkLedger.partCount)
        guard let result = ask(.linkDigests(ledger.digests)), !result.verdicts.isEmpty else { return all }
        var different: Set<Int> = []
        for verdict in result.verdicts.values {
            switch verdict {
            case .equal: continue
            case .brokenLinks(let places): different.formUnion(places)
            case .lost, .details, .directories, .range, .unsound: return all
            }
        }
        return different.isEmpty ? nil : different
    }

    private func check(links groups: [[StorePath]]) throws {
        guard let broken = try untilAnswered(pausing: Self.linkPause, { brokenLinks(groups) }) else {
            return unfinished(Set(groups.map { $0[0].parent }).sorted())
        }
        try report(broken)
    }

    private static let linkPause = Duration.milliseconds(100)

    /// Those that are several files, by replica; nothing if a replica says nothing of them.
    private func brokenLinks(_ groups: [[StorePath]]) -> [String: [[StorePath]]]? {
        guard let result = ask(.links(groups)) else { return nil }
        // The log has told of none of them as one file by now.
        guard result.delivery.position != nil else { return [:] }
        var broken: [String: [[StorePath]]] = [:]
        for (replica, verdict) in result.verdicts {
            switch verdict {
            case .equal: continue
            case .brokenLinks(let places):
                broken[replica] = places.compactMap { place in
                    place < result.delivery.links.count ? result.delivery.links[place] : nil
                }
            case .lost, .details, .directories, .range, .unsound: return nil
            }
        }
        return result.verdicts.isEmpty ? nil : broken
    }

    private func report(_ broken: [String: [[StorePath]]]) throws {
        for (replica, groups) in broken {
            for group in groups {
                var outcome = AuditFinding.Outcome.found
                if case .repair = options.repair {
                    parts.desk.repair(group.dropFirst().map { Repair(path: $0, cure: .link(target: group[0])) })
                    outcome = try isOneFile(group, at: replica) ? .healed : .notHealed
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

    private func isOneFile(_ group: [StorePath], at replica: String) throws -> Bool {
        let broken = try untilAnswered(pausing: Self.linkPause) { brokenLinks([group]) }
        return broken.map { $0[replica] == nil } ?? false
    }
}

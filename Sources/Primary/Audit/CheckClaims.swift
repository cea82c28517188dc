import Digests
import Formats
import Linux
import Store

/// The check records that say what directories hold by the catalogue's rows, once each is held against the disk.
struct CheckClaims {
    let roots: StoreRoots
    let catalogue: Catalogue

    private static let exceptionsMax = AuditCheck.directoryCountMax / 2

    func combined(_ request: CheckRequest, _ expected: [CheckDelivery.Expected]) -> Record {
        let digest = AuditEntry.digest(ofHashes: expected.map(\.digest))
        let ownerless = AuditEntry.digest(ofHashes: expected.map(\.ownerlessDigest))
        return record(request, expected, .combined(digest, ownerless: ownerless))
    }

    /// Of all directories that the log has told of between the first and the last of the request. `subdirectories` are
    /// those in the request's directories. What is expected afterwards is what is claimed, in its order.
    func range(
        _ request: CheckRequest, _ subdirectories: [StorePath: [[UInt8]]], _ delivery: inout CheckDelivery
    ) throws -> Record {
        let (first, last) = (request.listings[0].directory, request.listings[request.listings.count - 1].directory)
        var proven: [StorePath: CheckDelivery.Expected] = [:]
        for expected in delivery.expected { proven[expected.directory] = expected }
        var claimed: [CheckDelivery.Expected] = []
        var exceptions: [AuditCheck.Directory] = []
        var walk = try RangeWalk(from: first, through: last) { try catalogue.subdirectories(of: $0) }
        while let directory = walk.next() {
            guard directory.isRoot || roots.isShipped(directory) else { continue }
            let inside = subdirectories[directory]
            walk.descend(into: directory, try inside ?? catalogue.subdirectories(of: directory))
            if let expected = proven[directory] {
                claimed.append(expected)
                guard !expected.excluded.isEmpty else { continue }
                exceptions.append(AuditCheck.Directory(path: directory, excluded: expected.excluded))
            } else {
                exceptions.append(AuditCheck.Directory(path: directory))
                // Made since the request's directories were listed.
                if inside == nil { delivery.postponed.append(directory) }
            }
        }
        // Names in such a number are better told one by one, of those that are claimed.
        guard exceptions.count <= Self.exceptionsMax else { return combined(request, delivery.expected) }
        delivery.expected = claimed
        let digest = AuditEntry.digest(
            ofHashes: claimed.flatMap { AuditCheck.hashes($0.directory, digest: $0.digest) })
        let ownerless = AuditEntry.digest(
            ofHashes: claimed.flatMap { AuditCheck.hashes($0.directory, digest: $0.ownerlessDigest) })
        let check = AuditCheck(
            number: request.number, audit: request.audit, depth: request.depth,
            directories: [AuditCheck.Directory(path: first), AuditCheck.Directory(path: last)] + exceptions,
            claim: .range(directoryCount: claimed.count, digest: digest, ownerless: ownerless))
        return Record(StorePath(root: request.root), .check(check))
    }

    func record(
        _ request: CheckRequest, _ expected: [CheckDelivery.Expected], _ claim: AuditCheck.Claim,
        _ records: AuditCheck.Records = .unasked
    ) -> Record {
        let check = AuditCheck(
            number: request.number, audit: request.audit, depth: request.depth, records: records,
            directories: expected.map { AuditCheck.Directory(path: $0.directory, excluded: $0.excluded) }, claim: claim)
        return Record(StorePath(root: request.root), .check(check))
    }
}

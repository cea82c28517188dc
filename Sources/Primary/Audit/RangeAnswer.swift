import Formats

/// What a replica's word about a range says of each directory that was claimed; pure.
struct RangeAnswer {
    /// To be checked by themselves.
    var different: [StorePath] = []
    /// Of which the replica says nothing: to be asked again.
    var movedOn: [StorePath] = []
    /// All is as claimed, and yet the range is not: two states have one mark.
    var isContradiction = false

    init(_ number: UInt64, _ expected: [CheckDelivery.Expected], _ found: AuditVerdict.Range) {
        var marks: [UInt32: Int] = [:]
        for mark in found.marks { marks[mark, default: 0] += 1 }
        let silent = Set(found.movedOn)
        for claimed in expected {
            let digest = found.owners == .kept ? claimed.digest : claimed.ownerlessDigest
            let mark = AuditCheck.mark(AuditCheck.hashes(claimed.directory, digest: digest), check: number)
            if let count = marks[mark], count > 0 {
                marks[mark] = count - 1
            } else if silent.contains(AuditCheck.mark(claimed.directory, check: number)) {
                movedOn.append(claimed.directory)
            } else {
                different.append(claimed.directory)
            }
        }
        // What only the replica has is an entry of a directory, and found there.
        let hasMore = marks.values.contains { $0 > 0 } || !silent.isEmpty
        isContradiction = different.isEmpty && movedOn.isEmpty && !hasMore
    }
}

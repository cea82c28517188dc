import Digests
import Formats
import Testing

@Suite struct AuditEntryTests {
    private let file = AuditEntry(
        name: utf8("1."), kind: .file, byteCount: 300, mode: 0o600, mtimeNanoseconds: 5, digest: WireFixture.new)

    @Test func `whatever an audit compares changes the hash`() {
        var others: [AuditEntry] = []
        func other(_ change: (inout AuditEntry) -> Void) {
            var entry = file
            change(&entry)
            others.append(entry)
        }
        other { $0.name = utf8("2.") }
        other { $0.kind = .symlink }
        other { $0.byteCount = 301 }
        other { $0.mode = 0o640 }
        other { $0.owner = 0 }
        other { $0.group = 0 }
        other { $0.mtimeNanoseconds = 6 }
        other { $0.digest = WireFixture.old }
        other { $0.digest = nil }
        other { $0.attributes = WireFixture.old }
        #expect(Set(others.map(\.hash) + [file.hash]).count == others.count + 1)
    }

    @Test func `without owners, an entry of the store's own user is as it was`() {
        #expect(file.ownerless == file)
        var foreign = file
        (foreign.owner, foreign.group) = (0, 8)
        #expect(foreign.ownerless == file)
        let claim = AuditCheck.Entries(of: [file, foreign])
        #expect(claim.hashes == [file.hash, foreign.hash])
        #expect(claim.withoutOwners == [file.hash, file.hash])
    }

    @Test func `a directory's digest tells order and number`() {
        let other = AuditEntry(name: utf8("2."), kind: .file)
        let digests = [[], [file], [other], [file, other], [other, file]].map { AuditEntry.digest(of: $0) }
        #expect(Set(digests).count == 5)
    }
}

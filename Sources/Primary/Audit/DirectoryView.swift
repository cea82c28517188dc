import Digests
import Formats
import Linux
import Store

/// One directory between its rows and its listing: what the log told of it, and whether each name of it is proven.
struct DirectoryView {
    private let listing: DirectoryListing
    private let depth: AuditCheck.Depth
    private let keepsEntries: Bool
    private var entries: [AuditEntry] = []
    private var excluded: [[UInt8]] = []
    private var unrecorded: Set<[UInt8]> = []
    private var byteCount: Int64 = 0
    private var fileCount = 0
    /// The directories in it, as the log has told.
    private(set) var subdirectories: [[UInt8]] = []
    /// Not proven, and what was told of them: a round has to look at them.
    private(set) var unseen: [(path: StorePath, row: CatalogueEntry?)] = []
    /// Messages that are the file they were, with another content than the one recorded; anything else of that kind has to be
    /// looked at under its owner's lock.
    private(set) var rotten: [(path: StorePath, recorded: Digest)] = []

    init(_ listing: DirectoryListing, depth: AuditCheck.Depth, keepsEntries: Bool) {
        self.listing = listing
        self.depth = depth
        self.keepsEntries = keepsEntries
    }

    /// `rows` are sorted by name, as the listing is.
    mutating func merge(
        _ rows: [(name: [UInt8], entry: CatalogueEntry)], _ roots: StoreRoots, looked: (StorePath) -> Bool
    ) throws {
        entries.reserveCapacity(rows.count)
        var next = listing.items.startIndex
        for (name, row) in rows {
            if row.kind == .directory { subdirectories.append(name) }
            while next < listing.items.endIndex, listing.items[next].entry.name.lexicographicallyPrecedes(name) {
                noteUntold(listing.items[next], looked)
                next += 1
            }
            var item: DirectoryListing.Item?
            if next < listing.items.endIndex, listing.items[next].entry.name == name {
                item = listing.items[next]
                next += 1
            }
            add(name, row, item, roots, looked)
        }
        while next < listing.items.endIndex {
            noteUntold(listing.items[next], looked)
            next += 1
        }
    }

    /// There, and never told of.
    private mutating func noteUntold(_ item: DirectoryListing.Item, _ looked: (StorePath) -> Bool) {
        let path = listing.directory.appending(item.entry.name)
        if !looked(path) { unseen.append((path, nil)) }
    }

    private mutating func add(
        _ name: [UInt8], _ row: CatalogueEntry, _ item: DirectoryListing.Item?, _ roots: StoreRoots,
        _ looked: (StorePath) -> Bool
    ) {
        let isProven = item.map { isToldOf($0, row) } ?? false
        if !isProven {
            let path = listing.directory.appending(name)
            guard looked(path) else { return unseen.append((path, row)) }
        }
        guard var entry = AuditEntry(name, row, roots) else { return excluded.append(name) }
        if isProven, let found = item?.entry.digest {
            if let recorded = row.digest, recorded != found {
                rotten.append((listing.directory.appending(name), recorded))
            }
            if entry.digest == nil {
                (entry.digest, entry.attributes) = (found, item?.entry.attributes)
                if keepsEntries { unrecorded.insert(name) }
            }
        }
        if entry.kind == .symlink, entry.digest == nil { entry.digest = item?.entry.digest }
        if depth == .metadata { entry = entry.contentless }
        let isKnown = entry.kind == .directory || depth == .metadata && entry.kind == .file || entry.digest != nil
        guard isKnown else { return excluded.append(name) }
        if entry.kind == .file {
            fileCount += 1
            byteCount += row.byteCount
        }
        entries.append(entry)
    }

    /// The file told of; where its content was read, with the same attributes. Of a message another content is no other file;
    /// anything else was read without a lock, so it is proven by the very content that was told.
    private func isToldOf(_ item: DirectoryListing.Item, _ row: CatalogueEntry) -> Bool {
        guard row.stillDescribes(item.status, asMessage: item.isMessage) else { return false }
        if item.isMessage {
            return row.digest == nil || item.entry.digest == nil || item.entry.attributes == row.attributesDigest
        }
        switch row.kind {
        case .directory: return true
        case .file where depth == .metadata: return true
        case .file, .symlink:
            return row.digest != nil && item.entry.digest == row.digest && item.entry.attributes == row.attributesDigest
        case .other: return false
        }
    }

    func expected(_ roots: StoreRoots) -> CheckDelivery.Expected {
        let claim = AuditCheck.Entries(of: entries)
        let digest = AuditEntry.digest(ofHashes: claim.hashes)
        return CheckDelivery.Expected(
            directory: listing.directory, excluded: excluded, digest: digest,
            ownerlessDigest: claim.ownerless.isEmpty ? digest : AuditEntry.digest(ofHashes: claim.withoutOwners),
            fileCount: fileCount, byteCount: byteCount, entries: keepsEntries ? entries : [],
            unrecorded: unrecorded)
    }
}

extension AuditEntry {
    /// As a row tells of it. Nothing if the row does not know enough, as after a crash.
    init?(_ name: [UInt8], _ row: CatalogueEntry, _ roots: StoreRoots) {
        guard row.inode != 0, !row.isUnlikeAny else { return nil }
        let status = FileStatus(
            inode: row.inode, kind: row.kind, mode: row.mode, owner: row.owner, group: row.group,
            byteCount: row.byteCount, mtimeNanoseconds: row.mtimeNanoseconds)
        self.init(name, status, roots)
        if kind != .directory { digest = row.digest }
        if kind == .file { attributes = row.attributesDigest }
    }
}

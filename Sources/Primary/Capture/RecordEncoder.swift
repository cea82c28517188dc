import Delta
import Digests
import Formats
import Linux
import Store

extension FileStatus {
    /// Of two file systems two files may have one inode's number.
    var identity: LinkLedger.Identity { LinkLedger.Identity(device: device, inode: inode) }
}

/// Of each message with several names the one under which it was told first.
typealias LinkTargets = [LinkLedger.Identity: (path: StorePath, digest: Digest)]

/// Makes records of what was captured: the smallest that lead from what was last shipped to what is there now.
struct RecordEncoder {
    let roots: StoreRoots
    let catalogue: Catalogue
    let shadows: ShadowStore
    /// Called with what an operator should know.
    let alarm: (StorePath, AlarmCause) -> Void

    private static let partBytes = 8 << 20

    /// What is to be noted once the records that `add` got are in the journal. Nothing where nothing is to be told, or noted.
    ///
    /// `linkTargets` has the files of this round, for hard links. `add` is called as the content is read: what throws may have
    /// added parts, which are nothing without the record that names them.
    func encode(
        _ captured: Captured, linkTargets shippedNow: inout LinkTargets,
        add: (Record) throws -> Void
    ) throws -> Shipped? {
        let path = captured.path
        let entry = try catalogue.entry(path)
        switch captured.found {
        case .nothing:
            guard entry != nil else { return nil }
            try add(Record(path, .remove))
            return Shipped(path: path, entry: nil)
        case .directory(let status):
            let now = CatalogueEntry(status, digest: nil)
            if let entry, entry.kind == .directory, entry.stillDescribes(status) { return nil }
            try add(Record(path, .directory(roots.metadata(status))))
            return Shipped(path: path, entry: now)
        case .symlink(let target, let status):
            let now = CatalogueEntry(status, digest: Digest(of: target))
            if let entry, entry.stillDescribes(status), entry.digest ?? now.digest == now.digest { return nil }
            try add(Record(path, .symlink(roots.metadata(status), target: target)))
            return Shipped(path: path, entry: now)
        case .file(let version, let old):
            return try encode(path, version, old, entry, add)
        case .message(let message):
            return try encode(path, message, entry, &shippedNow, add)
        }
    }

    // MARK: - files that change

    private func encode(
        _ path: StorePath, _ version: FileVersion, _ old: PageTable?, _ entry: CatalogueEntry?,
        _ add: (Record) throws -> Void
    ) throws -> Shipped? {
        let result = version.table.digest
        let metadata = roots.metadata(version.status, attributes: version.attributes)
        var shipped = Shipped(
            path: path, entry: CatalogueEntry(version.status, digest: result, attributes: version.attributes))
        if version.table.byteCount >= ShadowStore.fileBytesMin, old?.digest != result {
            shipped.shadow = (version, old)
        }
        if let entry, entry.kind == .file, entry.digest == result {
            let sameMetadata =
                entry.mode == version.status.mode && entry.owner == version.status.owner
                && entry.group == version.status.group && entry.mtimeNanoseconds == version.status.mtimeNanoseconds
                && entry.has(version.attributes)
            if !sameMetadata { try add(Record(path, .metadata(metadata, result: result))) }
            return shipped
        }
        // A row from the first start, before there was a replica: whoever is seeded gets the file as it is.
        if let entry, entry.digest == nil, entry.stillDescribes(version.status) {
            return shipped
        }
        try addContent(path, version, old, metadata, add)
        return shipped
    }

    private func addContent(
        _ path: StorePath, _ version: FileVersion, _ old: PageTable?, _ metadata: Metadata,
        _ add: (Record) throws -> Void
    ) throws {
        let result = version.table.digest
        let byteCount = version.table.byteCount
        let read = { (range: Range<Int>) throws(SystemError) -> [UInt8] in
            try version.bytes(range) { (page) throws(SystemError) in try shadows.bytes(of: path, page) }
        }
        guard let old else { return try Self.addWhole(path, metadata, result, byteCount, read, add) }
        let choice = try DeltaChoice.smallest(
            from: old, to: version.table, payloadBytesMax: Record.contentBytesMax,
            oldBytes: { try shadows.bytes(of: path, $0) }, newBytes: { try read($0) })
        switch choice {
        case .extents(let extents):
            let pieces = try extents.map { Record.ExtentBytes(offset: $0.offset, bytes: try read($0.range)) }
            try add(
                Record(path, .extents(metadata, basis: old.digest, result: result, byteCount: byteCount, pieces)))
        case .delta(let delta):
            try add(
                Record(path, .delta(metadata, basis: old.digest, result: result, byteCount: byteCount, delta: delta)))
        case .same:
            try add(Record(path, .metadata(metadata, result: result)))
        case .whole:
            try Self.addWhole(path, metadata, result, byteCount, read, add)
        }
    }

    /// One record, or parts and the record that names them.
    static func addWhole(
        _ path: StorePath, _ metadata: Metadata, _ result: Digest, _ byteCount: Int,
        _ read: (Range<Int>) throws(SystemError) -> [UInt8], _ add: (Record) throws -> Void
    ) throws {
        if byteCount <= partBytes {
            return try add(Record(path, .whole(metadata, result: result, bytes: try read(0..<byteCount))))
        }
        for start in stride(from: 0, to: byteCount, by: partBytes) {
            let bytes = try read(start..<min(start + partBytes, byteCount))
            try add(Record(path, .part(result: result, offset: start, bytes: bytes)))
        }
        try add(Record(path, .assembled(metadata, result: result, byteCount: byteCount)))
    }

    // MARK: - messages

    private func encode(
        _ path: StorePath, _ message: OpenMessage, _ entry: CatalogueEntry?,
        _ shippedNow: inout LinkTargets, _ add: (Record) throws -> Void
    ) throws -> Shipped? {
        let status = message.status
        let attributes = try message.file.extendedAttributes()
        let metadata = roots.metadata(status, attributes: attributes)
        let (result, whole) = try message.content()
        let shipped = Shipped(path: path, entry: CatalogueEntry(status, digest: result, attributes: attributes))
        // One that had one name when it was opened may have got others, which were opened since.
        let hasOthers = try message.file.status().linkCount > 1
        if hasOthers, shippedNow[status.identity] == nil {
            shippedNow[status.identity] = (path, result)
        }
        // A row that the log was replayed to knows the content, and nothing of the file.
        if let entry, entry.kind == .file, entry.digest == result,
            try isNameOfSameFiles(path, entry, status, shippedNow)
        {
            let sameMetadata = entry.stillDescribes(status, asMessage: true) && entry.has(attributes)
            if !sameMetadata { try add(Record(path, .metadata(metadata, result: result))) }
            return shipped
        }
        // Messages never change; where one did, its index must say that it is what it was meant to be.
        // A row from the first start has no digest: who was seeded since has the file as it was then. One without an inode is
        // of a file that is wanted whole.
        let isShipped = entry.map { $0.kind == .file && ($0.digest != nil || $0.inode != 0) } ?? false
        let guid = isShipped ? try roots.indexedGUID(of: path) : message.guid
        if let guid, !guid.isNull, let whole, MessageGUID(of: whole) != guid {
            alarm(path, .unsound("its SHA-1 is not the GUID in the index: the message was damaged"))
            // A copy that was good when it was shipped is better than this one; a missing one is not.
            if isShipped { return nil }
        }
        if hasOthers, let target = try linkTarget(of: path, status, result, shippedNow) {
            try add(Record(path, .link(target: target, result: result)))
            return shipped
        }
        let read = { (range: Range<Int>) throws(SystemError) -> [UInt8] in
            if let whole { return Array(whole[range]) }
            return try message.file.read(at: Int64(range.lowerBound), count: range.count)
        }
        try Self.addWhole(path, metadata, result, Int(status.byteCount), read, add)
        return shipped
    }

    /// Another name of the same file that the replica has, or gets before this one.
    private func linkTarget(
        of path: StorePath, _ status: FileStatus, _ result: Digest,
        _ shippedNow: LinkTargets
    ) throws -> StorePath? {
        if let first = shippedNow[status.identity], first.path != path, first.digest == result { return first.path }
        var gone: StorePath?
        for candidate in try catalogue.paths(ofInode: status.inode) where candidate != path {
            // Of a row from the first start no digest is known; the same file has the same.
            guard let known = try catalogue.entry(candidate), known.digest ?? result == result,
                try areOnOneDevice(candidate.root, path.root)
            else { continue }
            // It may have got its time since.
            if try roots.status(of: candidate)?.inode == status.inode { return candidate }
            // Gone from the disk by now, and not from the replica; others may be names of another file there.
            if known.isSameFile(as: status, digest: result) { gone = gone ?? candidate }
        }
        return gone
    }

    private func areOnOneDevice(_ one: RootName, _ other: RootName) throws -> Bool {
        guard one != other else { return true }
        return try roots.status(of: StorePath(root: one))?.device == roots.status(of: StorePath(root: other))?.device
    }

    /// Whether `path`, whose content is as it was shipped, has the same other names as then, as far as the replica has
    /// them: a mailbox that was moved may come back as links, or as copies.
    private func isNameOfSameFiles(
        _ path: StorePath, _ entry: CatalogueEntry, _ status: FileStatus,
        _ shippedNow: LinkTargets
    ) throws -> Bool {
        guard entry.inode != status.inode, let digest = entry.digest else { return true }
        if try status.linkCount > 1 && linkTarget(of: path, status, digest, shippedNow) != nil { return false }
        return try entry.inode == 0
            || !catalogue.paths(ofInode: entry.inode).contains { other in
                try other != path && catalogue.entry(other)?.digest == digest
            }
    }
}

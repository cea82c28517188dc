package import Digests
package import Formats
package import Linux

/// What of one directory travels, as it stood when it was looked at: names and status; contents may come later.
package struct DirectoryListing: Sendable {
    package let directory: StorePath
    /// Sorted by name. Sockets, pipes and what is never shipped are not in it.
    package var items: [Item]
    /// Files that are there and could not be read, but for want of a permission.
    package var unreadable: [(name: [UInt8], error: SystemError)] = []

    package init(directory: StorePath, items: [Item]) {
        self.directory = directory
        self.items = items
    }

    package struct Item: Sendable {
        /// Without a digest until it was read; a symbolic link has it.
        package var entry: AuditEntry
        package let status: FileStatus
        /// Never changes once it is there, so it may be read later than it was listed.
        package let isMessage: Bool

        package init(entry: AuditEntry, status: FileStatus, isMessage: Bool) {
            self.entry = entry
            self.status = status
            self.isMessage = isMessage
        }
    }
}

extension DirectoryListing {
    /// By name.
    package var subdirectories: [[UInt8]] {
        items.compactMap { $0.entry.kind == .directory ? $0.entry.name : nil }
    }

    /// Of all its files.
    package var byteCount: Int64 {
        items.reduce(0) { $0 + ($1.entry.kind == .file ? $1.status.byteCount : 0) }
    }

    /// Messages that have other names too, here or elsewhere.
    package var manyNamed: [(name: [UInt8], identity: LinkLedger.Identity)] {
        items.compactMap { item in
            guard item.isMessage, item.status.linkCount > 1 else { return nil }
            return (item.entry.name, LinkLedger.Identity(device: item.status.device, inode: item.status.inode))
        }
    }
}

/// Whether a file opened later is the one that was listed; of a message that is enough to say its content is the same.
///
/// The change time is not asked for: another name for the file moves it.
package func isSameFile(_ one: FileStatus, _ other: FileStatus) -> Bool {
    one.inode == other.inode && one.device == other.device && one.byteCount == other.byteCount
        && one.mtimeNanoseconds == other.mtimeNanoseconds && other.kind == one.kind
}

/// Lists directories and digests files through one buffer. One thread uses it; it changes nothing.
package final class ListingReader {
    private let roots: StoreRoots
    private let buffer: UnsafeMutableRawBufferPointer

    private static let bufferBytes = 1 << 20

    package init(_ roots: StoreRoots) {
        self.roots = roots
        buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.bufferBytes, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// Names and status as of now. Nothing if there is no such directory, or if it is a link.
    package func list(_ directory: StorePath) throws(SystemError) -> DirectoryListing? {
        try list(directory) { (held, found) throws(SystemError) in
            guard let status = try held.statusOfName(found.name) else { return nil }
            return Self.Found(status: status)
        }
    }

    /// The same, with the digests of all files and of their attributes; no lock is taken.
    ///
    /// What cannot be read, or is another length by now, stays without a digest. `read` is told the bytes of each file, before
    /// the next one: the place to wait, if that was fast enough.
    package func listReading(
        _ directory: StorePath, read: (Int) -> Void = { _ in }
    ) throws(SystemError) -> DirectoryListing? {
        try list(directory) { (held, found) throws(SystemError) in
            guard found.kind == .file, let read = try self.read(found.name, in: held, read) else {
                guard let status = try held.statusOfName(found.name) else { return nil }
                return Self.Found(status: status)
            }
            return read
        }
    }

    /// What was found of one name.
    private struct Found {
        let status: FileStatus
        var digest: Digest?
        var attributes: Digest?
        var error: SystemError?
    }

    private func list(
        _ directory: StorePath, _ look: (Directory, DirectoryEntry) throws(SystemError) -> Found?
    ) throws(SystemError) -> DirectoryListing? {
        guard let held = try open(directory) else { return nil }
        let roles = DirectoryRoles(directory, roots)
        var names: [(DirectoryEntry, FileRole)] = []
        for found in try held.entries() where StorePath.isName(found.name) {
            if let role = roles.role(of: found.name) { names.append((found, role)) }
        }
        names.sort { $0.0.name.lexicographicallyPrecedes($1.0.name) }
        var items: [DirectoryListing.Item] = []
        items.reserveCapacity(names.count)
        var unreadable: [(name: [UInt8], error: SystemError)] = []
        for (found, role) in names {
            guard let its = try look(held, found), var entry = AuditEntry(found.name, its.status, roots) else {
                continue
            }
            if entry.kind == .symlink {
                guard let target = try readLink(found.name, in: held) else { continue }
                entry.digest = Digest(of: target)
            } else {
                (entry.digest, entry.attributes) = (its.digest, its.attributes)
            }
            let isMessage = if case .message = role { its.status.kind == .file } else { false }
            items.append(DirectoryListing.Item(entry: entry, status: its.status, isMessage: isMessage))
            if let error = its.error { unreadable.append((found.name, error)) }
        }
        var listing = DirectoryListing(directory: directory, items: items)
        listing.unreadable = unreadable
        return listing
    }

    /// Nothing if it is gone, or no link any more.
    private func readLink(_ name: [UInt8], in held: Directory) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            return try held.readLink(name)
        } catch {
            guard error.errno == .noEntry || error.errno == .invalid else { throw error }
            return nil
        }
    }

    /// Nothing if no file of that name can be opened; without a digest if it cannot be read.
    private func read(
        _ name: [UInt8], in held: Directory, _ told: (Int) -> Void
    ) throws(SystemError) -> Found? {
        var found: Found?
        do throws(SystemError) {
            let file = try held.openFile(name)
            let status = try file.status()
            guard status.kind == .file else { return nil }
            found = Found(status: status)
            found?.digest = try digest(file, status.byteCount)
            if found?.digest != nil { found?.attributes = AuditEntry.digest(of: try file.extendedAttributes()) }
            told(Int(status.byteCount))
        } catch {
            guard !Self.isOurs(error) else { throw error }
            found?.digest = nil
            // A file that is gone, or may not be read, is no trouble of the disk's.
            if error.errno == .inputOutput { found?.error = error }
        }
        return found
    }

    /// A shortage of our own says nothing of the file.
    private static func isOurs(_ error: SystemError) -> Bool {
        [.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory].contains(error.errno)
    }

    /// The names of the directories in `directory` that travel, in no order; none if there is no such directory.
    package func subdirectories(of directory: StorePath) throws(SystemError) -> [[UInt8]] {
        var names: [[UInt8]] = []
        _ = try roots.forEachEntry(of: directory) { (found) throws(SystemError) in
            guard found.kind == .directory || found.kind == nil, StorePath.isName(found.name) else { return }
            let path = directory.appending(found.name)
            guard roots.isShipped(path) else { return }
            if found.kind == nil {
                guard try roots.status(of: path)?.kind == .directory else { return }
            }
            names.append(found.name)
        }
        return names
    }

    /// Reads the contents of those items that `isWanted`, and notes their digests, and those of their attributes.
    ///
    /// Returns the names that are gone or another file by now; their entries stay without a digest. Files that change must be
    /// locked by the caller, or be nobody's.
    package func digest(
        _ listing: inout DirectoryListing, where isWanted: (DirectoryListing.Item) -> Bool
    ) throws(SystemError) -> [[UInt8]] {
        let wanted = listing.items.indices.filter {
            listing.items[$0].entry.kind == .file && isWanted(listing.items[$0])
        }
        guard !wanted.isEmpty else { return [] }
        guard let held = try open(listing.directory) else { return wanted.map { listing.items[$0].entry.name } }
        var gone: [[UInt8]] = []
        for index in wanted {
            let (name, status) = (listing.items[index].entry.name, listing.items[index].status)
            do throws(SystemError) {
                let file = try held.openFile(name)
                guard isSameFile(status, try file.status()), let digest = try digest(file, status.byteCount) else {
                    gone.append(name)
                    continue
                }
                listing.items[index].entry.digest = digest
                listing.items[index].entry.attributes = AuditEntry.digest(of: try file.extendedAttributes())
            } catch {
                guard !Self.isOurs(error) else { throw error }
                // What is there and cannot be read stays without a digest, and is like nothing that has one.
                if [.noEntry, .notDirectory, .symbolicLink].contains(error.errno) { gone.append(name) }
            }
        }
        return gone
    }

    /// Nothing where a link leads away.
    private func open(_ directory: StorePath) throws(SystemError) -> Directory? {
        do throws(SystemError) {
            return try roots.directory(directory)
        } catch {
            guard error.errno == .symbolicLink else { throw error }
            return nil
        }
    }

    /// Of the first `byteCount` bytes; nothing if there are fewer.
    package func digest(_ file: borrowing Descriptor, _ byteCount: Int64) throws(SystemError) -> Digest? {
        guard byteCount > 0 else { return .empty }
        guard byteCount <= Int64(Self.bufferBytes) else { return try digestInPieces(file, byteCount) }
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(byteCount)])
        guard try file.read(into: room, at: 0) == room.count else { return nil }
        return PageTable(of: UnsafeRawBufferPointer(room)).digest
    }

    private func digestInPieces(_ file: borrowing Descriptor, _ byteCount: Int64) throws(SystemError) -> Digest? {
        var table = PageTable()
        var offset: Int64 = 0
        while offset < byteCount {
            let room = UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<Int(min(Int64(buffer.count), byteCount - offset))])
            guard try file.read(into: room, at: offset) == room.count else { return nil }
            table.append(UnsafeRawBufferPointer(room))
            offset += Int64(room.count)
        }
        return table.digest
    }
}

extension AuditEntry {
    /// Of those in `user.`; the machine has its own in `security.`, which a replica may not be able to set.
    package static func digest(of attributes: [ExtendedAttribute]) -> Digest? {
        var writer = ByteWriter()
        for attribute in attributes where attribute.name.starts(with: "user.".utf8) {
            writer.write(string: attribute.name)
            writer.write(string: attribute.value)
        }
        return writer.count == 0 ? nil : Digest(of: writer.bytes)
    }

    /// Without a digest. Nothing for what is neither file, directory nor link.
    package init?(_ name: [UInt8], _ status: FileStatus, _ roots: StoreRoots) {
        let kind: Kind
        let mode: UInt16
        switch status.kind {
        case .file: (kind, mode) = (.file, Metadata.keptMode(ofFile: status.mode))
        case .directory: (kind, mode) = (.directory, Metadata.keptMode(ofDirectory: status.mode))
        case .symlink: (kind, mode) = (.symlink, 0)
        case .other: return nil
        }
        self.init(
            name: name, kind: kind, byteCount: kind == .file ? UInt64(status.byteCount) : 0,
            mode: mode, owner: status.owner == roots.owner ? nil : status.owner,
            group: status.group == roots.group ? nil : status.group,
            mtimeNanoseconds: kind == .file ? status.mtimeNanoseconds : 0)
    }
}

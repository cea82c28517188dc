package import Digests
package import Formats
package import Linux

/// What of one directory travels, as it stood when it was looked at: names and status; contents may come later.
package struct DirectoryListing: Sendable {
    package let directory: StorePath
    /// Sorted by name. Sockets, pipes and what is never shipped are not in it.
    package var items: [Item]

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
        guard let held = try open(directory) else { return nil }
        var items: [DirectoryListing.Item] = []
        for found in try held.entries() where StorePath.isName(found.name) {
            let path = directory.appending(found.name)
            let role = roots.layout.role(of: path)
            guard roots.isShipped(path, as: role), let status = try held.status(of: found.name) else {
                continue
            }
            let isMessage = if case .message = role { status.kind == .file } else { false }
            guard var entry = AuditEntry(found.name, status, roots) else { continue }
            if entry.kind == .symlink {
                do throws(SystemError) {
                    entry.digest = Digest(of: try held.readLink(found.name))
                } catch {
                    guard error.errno == .noEntry || error.errno == .invalid else { throw error }
                    continue
                }
            }
            items.append(DirectoryListing.Item(entry: entry, status: status, isMessage: isMessage))
        }
        items.sort { AuditEntry.isOrdered($0.entry, $1.entry) }
        return DirectoryListing(directory: directory, items: items)
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
    /// `read` is told the bytes of each, before the next one: the place to wait, if that was fast enough. Returns the
    /// names that are gone or another file by now; their entries stay without a digest. Files that change must be
    /// locked by the caller, or be nobody's.
    package func digest(
        _ listing: inout DirectoryListing, where isWanted: (DirectoryListing.Item) -> Bool,
        read: (Int) -> Void = { _ in }
    ) throws(SystemError) -> [[UInt8]] {
        guard let held = try open(listing.directory) else {
            return listing.items.filter { $0.entry.kind == .file && isWanted($0) }.map(\.entry.name)
        }
        var gone: [[UInt8]] = []
        for index in listing.items.indices
        where listing.items[index].entry.kind == .file && isWanted(listing.items[index]) {
            let item = listing.items[index]
            do throws(SystemError) {
                let file = try held.open(item.entry.name, for: .reading)
                guard isSameFile(item.status, try file.status()), let digest = try digest(file, item.status.byteCount)
                else {
                    gone.append(item.entry.name)
                    continue
                }
                listing.items[index].entry.digest = digest
                listing.items[index].entry.attributes = AuditEntry.digest(of: try file.extendedAttributes())
                read(Int(item.status.byteCount))
            } catch {
                // A shortage of our own says nothing of the file.
                guard ![.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory].contains(error.errno) else {
                    throw error
                }
                // What is there and cannot be read stays without a digest, and is like nothing that has one.
                if [.noEntry, .notDirectory, .symbolicLink].contains(error.errno) { gone.append(item.entry.name) }
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

    /// Of the whole content; nothing if it has another length than `byteCount`.
    package func digest(_ file: borrowing Descriptor, _ byteCount: Int64) throws(SystemError) -> Digest? {
        guard byteCount > 0 else { return .empty }
        guard byteCount < Int64(Self.bufferBytes) else { return try digestInPieces(file, byteCount) }
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(Int(byteCount) + 1)])
        guard try file.read(into: room, at: 0) == Int(byteCount) else { return nil }
        return PageTable(of: UnsafeRawBufferPointer(rebasing: room[..<Int(byteCount)])).digest
    }

    private func digestInPieces(_ file: borrowing Descriptor, _ byteCount: Int64) throws(SystemError) -> Digest? {
        var table = PageTable()
        var offset: Int64 = 0
        while true {
            let count = try file.read(into: buffer, at: offset)
            if count > 0 { table.append(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            offset += Int64(count)
            if count < buffer.count || offset > byteCount { break }
        }
        return offset == byteCount ? table.digest : nil
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

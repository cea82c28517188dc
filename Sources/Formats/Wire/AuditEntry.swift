package import Digests

/// One name of a directory as an audit sees it: all that both ends must have alike, and nothing else.
///
///     kind    1   1 file, 2 directory, 3 symbolic link
///     flags   1   bit 0 owner follows, bit 1 group follows, bit 2 digest follows, bit 3 digest of attributes follows
///     name        count, bytes
///     mode    2   permission bits
///     bytes       count: of a file its size, else 0
///     mtime   8   of a file, else 0
///     owner   count, group count, digest 16, digest of attributes 16: only if told by the flags
///
/// The hash of an entry is XXH3-64 of these bytes. Not in it: a directory's and a link's times, which nothing depends
/// on, and the number of names a file has, which what is not shipped changes too.
package struct AuditEntry: Hashable, Sendable {
    package var name: [UInt8]
    package var kind: Kind
    /// Of a file; else 0.
    package var byteCount: UInt64
    /// 0 of a symbolic link.
    package var mode: UInt16
    /// Nothing: the user that owns the store.
    package var owner: UInt32?
    /// Nothing: the group that owns the store.
    package var group: UInt32?
    /// Of a file, since 1970; else 0.
    package var mtimeNanoseconds: Int64
    /// Of a file's content (`PageTable.digest`), or of a link's target. Nothing at a depth where it was not read.
    package var digest: Digest?
    /// Of a file's extended attributes in `user.`, XXH3-128 of names and values (count, bytes each), sorted by name. Nothing
    /// where there are none, or at a depth where they were not read.
    package var attributes: Digest?

    package enum Kind: UInt8, Sendable {
        case file = 1, directory, symlink
    }

    package init(
        name: [UInt8], kind: Kind, byteCount: UInt64 = 0, mode: UInt16 = 0, owner: UInt32? = nil, group: UInt32? = nil,
        mtimeNanoseconds: Int64 = 0, digest: Digest? = nil
    ) {
        self.name = name
        self.kind = kind
        self.byteCount = byteCount
        self.mode = mode
        self.owner = owner
        self.group = group
        self.mtimeNanoseconds = mtimeNanoseconds
        self.digest = digest
    }
}

extension AuditEntry {
    /// By name, byte by byte.
    package static func isOrdered(_ one: AuditEntry, _ other: AuditEntry) -> Bool {
        one.name.lexicographicallyPrecedes(other.name)
    }

    /// The same without owner and group, as an end sees it that may not give files away.
    package var ownerless: AuditEntry {
        var entry = self
        (entry.owner, entry.group) = (nil, nil)
        return entry
    }

    /// The same without its content and attributes, as at depth metadata.
    package var contentless: AuditEntry {
        var entry = self
        if kind == .file { (entry.digest, entry.attributes) = (nil, nil) }
        return entry
    }

    /// Tells entries apart, within one check of some thousands.
    package var hash: UInt64 {
        var writer = ByteWriter(reserving: name.count + 48)
        encode(into: &writer)
        return writer.bytes.withUnsafeBytes { checksum64($0) }
    }

    /// Of a directory's entries, sorted by name: XXH3-64 of their hashes, one after the other.
    package static func digest(of entries: some Sequence<AuditEntry>) -> UInt64 {
        digest(ofHashes: entries.map(\.hash))
    }

    package static func digest(ofHashes hashes: some Sequence<UInt64>) -> UInt64 {
        var writer = ByteWriter()
        for hash in hashes { writer.write(hash) }
        return writer.bytes.withUnsafeBytes { checksum64($0) }
    }
}

// MARK: - bytes

extension AuditEntry {
    private enum Flag {
        static let owner: UInt8 = 1
        static let group: UInt8 = 2
        static let digest: UInt8 = 4
        static let attributes: UInt8 = 8
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(flags)
        writer.write(string: name)
        writer.write(mode)
        writer.write(count: byteCount)
        writer.write(mtimeNanoseconds)
        if let owner { writer.write(count: UInt64(owner)) }
        if let group { writer.write(count: UInt64(group)) }
        if let digest { writer.write(digest) }
        if let attributes { writer.write(attributes) }
    }

    private var flags: UInt8 {
        (owner == nil ? 0 : Flag.owner) | (group == nil ? 0 : Flag.group) | (digest == nil ? 0 : Flag.digest)
            | (attributes == nil ? 0 : Flag.attributes)
    }

    package init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        let number = try reader.read(UInt8.self, "entry: kind")
        let flags = try reader.read(UInt8.self, "entry: flags")
        guard let kind = Kind(rawValue: number), flags < 16 else {
            throw MalformedBytes("entry: kind", at: reader.offset, "unknown kind \(number) or flags \(flags)")
        }
        self.kind = kind
        name = Array(try reader.readString(max: StorePath.nameBytesMax, "entry: name"))
        guard StorePath.isName(name) else { throw MalformedBytes("entry: name", at: reader.offset, "not a name") }
        mode = try reader.read(UInt16.self, "entry: mode")
        byteCount = try reader.readCount(max: Record.fileBytesMax, "entry: bytes")
        mtimeNanoseconds = try reader.read(Int64.self, "entry: mtime")
        let idMax = UInt64(UInt32.max)
        owner = flags & Flag.owner == 0 ? nil : UInt32(try reader.readCount(max: idMax, "entry: owner"))
        group = flags & Flag.group == 0 ? nil : UInt32(try reader.readCount(max: idMax, "entry: group"))
        digest = flags & Flag.digest == 0 ? nil : try reader.readDigest("entry: digest")
        attributes = flags & Flag.attributes == 0 ? nil : try reader.readDigest("entry: attributes")
    }
}

/// What a file is besides its content.
///
///     flags   1  bit 0 owner follows, bit 1 group follows (else: the owner and group of the store itself),
///                bit 2 extended attributes follow
///     mode    2  permission bits
///     mtime   8  nanoseconds since 1970, signed; a message's internal date
///     owner   count, group count              only if told by the flags
///     attributes: count, then name and value  only if told by the flags
///
/// The store's own user may have another number on the other host, so the usual case is not a number.
package struct Metadata: Hashable, Sendable {
    /// Permission bits, 0o7777 at most.
    package var mode: UInt16
    package var mtimeNanoseconds: Int64
    /// Nothing: the user that owns the store.
    package var owner: UInt32?
    /// Nothing: the group that owns the store.
    package var group: UInt32?
    package var attributes: [Attribute]

    package struct Attribute: Hashable, Sendable {
        package let name: [UInt8]
        package let value: [UInt8]

        package init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }
    }

    package init(
        mode: UInt16, mtimeNanoseconds: Int64, owner: UInt32? = nil, group: UInt32? = nil, attributes: [Attribute] = []
    ) {
        self.mode = mode
        self.mtimeNanoseconds = mtimeNanoseconds
        self.owner = owner
        self.group = group
        self.attributes = attributes
    }

    private enum Flag {
        static let owner: UInt8 = 1
        static let group: UInt8 = 2
        static let attributes: UInt8 = 4
    }

    /// More than fit in the 64 KiB of names that listxattr(2) gives.
    static let attributeCountMax: UInt64 = 10_000
    static let attributeBytesMax = 65536

    package func encode(into writer: inout ByteWriter) {
        var flags: UInt8 = 0
        if owner != nil { flags |= Flag.owner }
        if group != nil { flags |= Flag.group }
        if !attributes.isEmpty { flags |= Flag.attributes }
        writer.write(flags)
        writer.write(mode)
        writer.write(mtimeNanoseconds)
        if let owner { writer.write(count: UInt64(owner)) }
        if let group { writer.write(count: UInt64(group)) }
        guard !attributes.isEmpty else { return }
        writer.write(count: UInt64(attributes.count))
        for attribute in attributes {
            writer.write(string: attribute.name)
            writer.write(string: attribute.value)
        }
    }

    package init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        let flags = try reader.read(UInt8.self, "metadata: flags")
        guard flags & ~(Flag.owner | Flag.group | Flag.attributes) == 0 else {
            throw MalformedBytes("metadata: flags", at: reader.offset, "unknown flags \(flags)")
        }
        mode = try reader.read(UInt16.self, "metadata: mode")
        guard mode <= 0o7777 else { throw MalformedBytes("metadata: mode", at: reader.offset, "not permission bits") }
        mtimeNanoseconds = try reader.read(Int64.self, "metadata: mtime")
        let idMax = UInt64(UInt32.max)
        owner = flags & Flag.owner == 0 ? nil : UInt32(try reader.readCount(max: idMax, "metadata: owner"))
        group = flags & Flag.group == 0 ? nil : UInt32(try reader.readCount(max: idMax, "metadata: group"))
        attributes = []
        guard flags & Flag.attributes != 0 else { return }
        for _ in 0..<(try reader.readCount(max: Self.attributeCountMax, "metadata: attributes")) {
            let name = try reader.readString(max: StorePath.nameBytesMax, "metadata: attribute name")
            guard !name.isEmpty, !name.contains(0) else {
                throw MalformedBytes("metadata: attribute name", at: reader.offset, "not a name")
            }
            let value = try reader.readString(max: Self.attributeBytesMax, "metadata: attribute value")
            attributes.append(Attribute(name: Array(name), value: Array(value)))
        }
    }
}

// MARK: - what a replica keeps of a mode

extension Metadata {
    /// Nothing that would run as its owner.
    package static func keptMode(ofFile mode: UInt16) -> UInt16 { mode & 0o777 }
    /// One that the replica itself can go on writing into.
    package static func keptMode(ofDirectory mode: UInt16) -> UInt16 { mode & 0o3777 | 0o700 }
}

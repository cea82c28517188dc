package import Digests

/// One change to one path: "this now has this content, starting from that content".
///
/// Records are of states, not of operations: applying one twice is applying it once.
///
///     kind  1   see `Kind`
///     root      count, bytes: the root's name
///     path      count, bytes: below the root
///     …         what the kind needs, in the order of the case's values; counts in LEB128, the rest big-endian
package struct Record: Hashable, Sendable {
    package let path: StorePath
    package let change: Change

    package init(_ path: StorePath, _ change: Change) {
        self.path = path
        self.change = change
    }

    package enum Change: Hashable, Sendable {
        /// A directory that is to be there.
        case directory(Metadata)
        /// A file's whole content.
        case whole(Metadata, result: Digest, bytes: [UInt8])
        /// Bytes that differ from the basis, at their places; the file is `byteCount` long afterwards.
        case extents(Metadata, basis: Digest, result: Digest, byteCount: Int, [ExtentBytes])
        /// librsync's delta from the basis; the file is `byteCount` long afterwards.
        case delta(Metadata, basis: Digest, result: Digest, byteCount: Int, delta: [UInt8])
        /// A piece of a content too large for one batch, to be kept aside until `assembled` names it.
        case part(result: Digest, offset: Int, bytes: [UInt8])
        /// A file whose whole content came before in parts.
        case assembled(Metadata, result: Digest, byteCount: Int)
        /// Another name for the file at `target`.
        case link(target: StorePath, result: Digest)
        case symlink(Metadata, target: [UInt8])
        /// A file whose content (`result`) stays and whose metadata changed.
        case metadata(Metadata, result: Digest)
        /// A name that is to be gone: a file, a link, or a directory with all below it.
        case remove
        /// What is there is kept in the quarantine as well: what follows is a repair, and replaces it.
        case keep
        /// No change: a claim about directories of this root, which holds at this place of the log.
        case check(AuditCheck)
    }

    /// Bytes and where they go.
    package struct ExtentBytes: Hashable, Sendable {
        package let offset: Int
        package let bytes: [UInt8]

        package init(offset: Int, bytes: [UInt8]) {
            self.offset = offset
            self.bytes = bytes
        }
    }

    /// Whether it only asks, and changes nothing.
    package var isCheck: Bool {
        if case .check = change { true } else { false }
    }

    /// The digest that a file is to have after this record; nothing where no content is told.
    package var result: Digest? {
        switch change {
        case .whole(_, let result, _), .extents(_, _, let result, _, _), .delta(_, _, let result, _, _),
            .assembled(_, let result, _), .link(_, let result), .metadata(_, let result):
            result
        case .directory, .part, .symlink, .remove, .keep, .check: nil
        }
    }
}

// MARK: - bytes

extension Record {
    /// Pieces that take some eighty bytes of memory each, however few they have on the wire.
    package var pieceCount: Int {
        switch change {
        case .extents(let metadata, _, _, _, let extents): extents.count + metadata.attributes.count
        case .directory(let metadata), .whole(let metadata, _, _), .delta(let metadata, _, _, _, _),
            .assembled(let metadata, _, _), .symlink(let metadata, _), .metadata(let metadata, _):
            metadata.attributes.count
        case .check(let check): check.directories.count
        case .part, .link, .remove, .keep: 0
        }
    }
    /// In one batch; a primary closes one at 4 MiB.
    package static let pieceCountMax = 1 << 22

    private enum Kind: UInt8 {
        case directory = 1, whole, extents, delta, part, assembled, link, symlink, metadata, remove, keep, check
    }

    /// Bytes of one file's content in one record; a larger content travels in parts.
    package static let contentBytesMax = 16 << 20
    /// Bytes a file may have.
    package static let fileBytesMax = UInt64(1) << 46
    private static let extentCountMax: UInt64 = 1 << 20
    /// PATH_MAX.
    private static let targetBytesMax = 4096

    package func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(path)
        switch change {
        case .directory(let metadata):
            metadata.encode(into: &writer)
        case .whole(let metadata, let result, let bytes):
            metadata.encode(into: &writer)
            writer.write(result)
            writer.write(string: bytes)
        case .extents(let metadata, let basis, let result, let byteCount, let extents):
            metadata.encode(into: &writer)
            writer.write(basis)
            writer.write(result)
            writer.write(count: UInt64(byteCount))
            writer.write(count: UInt64(extents.count))
            Self.encode(extents, into: &writer)
        case .delta(let metadata, let basis, let result, let byteCount, let delta):
            metadata.encode(into: &writer)
            writer.write(basis)
            writer.write(result)
            writer.write(count: UInt64(byteCount))
            writer.write(string: delta)
        case .part(let result, let offset, let bytes):
            writer.write(result)
            writer.write(count: UInt64(offset))
            writer.write(string: bytes)
        case .assembled(let metadata, let result, let byteCount):
            metadata.encode(into: &writer)
            writer.write(result)
            writer.write(count: UInt64(byteCount))
        case .link(let target, let result):
            writer.write(target)
            writer.write(result)
        case .symlink(let metadata, let target):
            metadata.encode(into: &writer)
            writer.write(string: target)
        case .metadata(let metadata, let result):
            metadata.encode(into: &writer)
            writer.write(result)
        case .remove, .keep:
            break
        case .check(let check):
            check.encode(into: &writer)
        }
    }

    /// Offsets as the gap from the end of the extent before: small numbers, so small counts.
    private static func encode(_ extents: [ExtentBytes], into writer: inout ByteWriter) {
        var end = 0
        for extent in extents {
            precondition(extent.offset >= end, "extents out of order: \(extent.offset) after \(end)")
            writer.write(count: UInt64(extent.offset - end))
            writer.write(string: extent.bytes)
            end = extent.offset + extent.bytes.count
        }
    }

    package init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        let number = try reader.read(UInt8.self, "record: kind")
        guard let kind = Kind(rawValue: number) else {
            throw MalformedBytes("record: kind", at: reader.offset, "unknown kind \(number)")
        }
        let path = try reader.readStorePath("record: path")
        self.init(path, try Self.change(of: kind, at: path, from: &reader))
    }

    private static func change(
        of kind: Kind, at path: StorePath, from reader: inout ByteReader
    ) throws(MalformedBytes) -> Change {
        switch kind {
        case .directory:
            return .directory(try Metadata(decoding: &reader))
        case .whole:
            let metadata = try Metadata(decoding: &reader)
            let result = try reader.readDigest("record: result")
            return .whole(metadata, result: result, bytes: try content(from: &reader))
        case .extents:
            let metadata = try Metadata(decoding: &reader)
            let basis = try reader.readDigest("record: basis")
            let result = try reader.readDigest("record: result")
            let byteCount = try fileBytes(from: &reader)
            let extents = try extents(within: byteCount, from: &reader)
            return .extents(metadata, basis: basis, result: result, byteCount: byteCount, extents)
        case .delta:
            let metadata = try Metadata(decoding: &reader)
            let basis = try reader.readDigest("record: basis")
            let result = try reader.readDigest("record: result")
            let byteCount = try fileBytes(from: &reader)
            return .delta(
                metadata, basis: basis, result: result, byteCount: byteCount, delta: try content(from: &reader))
        case .part:
            let result = try reader.readDigest("record: result")
            let offset = try fileBytes(from: &reader)
            return .part(result: result, offset: offset, bytes: try content(from: &reader))
        case .assembled:
            let metadata = try Metadata(decoding: &reader)
            let result = try reader.readDigest("record: result")
            return .assembled(metadata, result: result, byteCount: try fileBytes(from: &reader))
        case .link:
            let target = try reader.readStorePath("record: target")
            return .link(target: target, result: try reader.readDigest("record: result"))
        case .symlink:
            let metadata = try Metadata(decoding: &reader)
            let target = try reader.readString(max: targetBytesMax, "record: target")
            return .symlink(metadata, target: Array(target))
        case .metadata:
            let metadata = try Metadata(decoding: &reader)
            return .metadata(metadata, result: try reader.readDigest("record: result"))
        case .remove:
            return .remove
        case .keep:
            return .keep
        case .check:
            guard path.isRoot else { throw MalformedBytes("record: check", at: reader.offset, "not of a root") }
            return .check(try AuditCheck(decoding: &reader, root: path.root))
        }
    }

    private static func content(from reader: inout ByteReader) throws(MalformedBytes) -> [UInt8] {
        Array(try reader.readString(max: contentBytesMax, "record: content"))
    }

    private static func fileBytes(from reader: inout ByteReader) throws(MalformedBytes) -> Int {
        Int(try reader.readCount(max: fileBytesMax, "record: bytes of the file"))
    }

    private static func extents(
        within byteCount: Int, from reader: inout ByteReader
    ) throws(MalformedBytes) -> [ExtentBytes] {
        let count = try reader.readCount(max: extentCountMax, "record: extents")
        var extents: [ExtentBytes] = []
        var end = 0
        for _ in 0..<count {
            let offset = end + Int(try reader.readCount(max: fileBytesMax, "record: extent's offset"))
            let bytes = try content(from: &reader)
            guard !bytes.isEmpty else { throw MalformedBytes("record: extent", at: reader.offset, "no bytes") }
            end = offset + bytes.count
            guard end <= byteCount else {
                throw MalformedBytes("record: extent", at: reader.offset, "ends at \(end) of \(byteCount) bytes")
            }
            extents.append(ExtentBytes(offset: offset, bytes: bytes))
        }
        return extents
    }

    private var kind: Kind {
        switch change {
        case .directory: .directory
        case .whole: .whole
        case .extents: .extents
        case .delta: .delta
        case .part: .part
        case .assembled: .assembled
        case .link: .link
        case .symlink: .symlink
        case .metadata: .metadata
        case .remove: .remove
        case .keep: .keep
        case .check: .check
        }
    }
}

extension ByteWriter {
    package mutating func write(_ digest: Digest) {
        write(digest.high)
        write(digest.low)
    }

    package mutating func write(_ path: StorePath) {
        write(string: path.root.name.utf8)
        write(string: path.path)
    }
}

extension ByteReader {
    package mutating func readDigest(_ what: @autoclosure () -> String) throws(MalformedBytes) -> Digest {
        let high = try read(UInt64.self, what())
        return Digest(low: try read(UInt64.self, what()), high: high)
    }

    /// Refuses what could point outside its root.
    package mutating func readStorePath(_ what: @autoclosure () -> String) throws(MalformedBytes) -> StorePath {
        let root = try readText(max: 255, what())
        let path = try readString(max: StorePath.pathBytesMax, what())
        guard let good = StorePath(root: RootName(root), path: path) else {
            throw MalformedBytes(what(), at: offset, "not a path below a root")
        }
        return good
    }
}

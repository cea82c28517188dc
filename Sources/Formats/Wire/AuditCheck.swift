import Digests

/// What the primary claims of some directories of one root at one position of the log, to be held against the replica.
///
///     number       8
///     audit            count: how much smaller than `number` the audit's own number is
///     depth        1   1 metadata, 2 content, 3 content, and of databases that are otherwise their records
///     directories  count; of each: how many bytes of the path before it begins with, count, and the rest of the path
///                  (count, bytes); then names to be left out (count, and each: count, bytes)
///     claim        1   1 combined, 2 entries, 3 links, 4 range, 5 link digests, 6 soundness
///       combined   digest 8, digest without owners 8: XXH3-64 of the digests of the directories, in their order
///       entries    of each directory: hashes of its entries (count, 8 each), then those of them that have an owner of
///                  their own: their places (count each) and hashes without it (8 each)
///       links      groups (count), each: names (count), each: root (count, bytes) and path (count, bytes)
///       range      directories claimed (count), digest 8, digest without owners 8
///       link       as many as there are parts of a `LinkLedger`, 8 each
///       digests
///       soundness  1   1 of the mailboxes whose directories are told, 2 of all that is no mailbox's
///
/// A digest of a directory is XXH3-64 of the hashes of its entries (`AuditEntry`), which are sorted by name.
///
/// The directories of a **range** are the first and the last of it, then those of which something is not claimed: names, or
/// with none given the directory as a whole. All others between are claimed, those that only one end has too; their names need
/// not travel, as each end lists its own. In order are directories parents first, then children by name
/// (`StorePath.comesBefore`). The digest is XXH3-64 of two numbers for each directory claimed, in that order: XXH3-64 of its
/// path below the root, and its digest.
package struct AuditCheck: Hashable, Sendable {
    /// The primary's, to find the verdict by.
    package var number: UInt64
    /// Checks of one audit have the same: a replica gathers over them which names are one file. At most `number`.
    package var audit: UInt64
    package var depth: Depth
    package var records: Records
    package var directories: [Directory]
    package var claim: Claim

    package enum Depth: UInt8, Sendable {
        /// Names, sizes, times, modes, owners, links.
        case metadata = 1
        /// And every byte.
        case content = 2
    }

    /// Whether a replica is to tell what the databases hold that it has otherwise (`AuditVerdict.Found.records`); at depth content.
    package enum Records: Sendable { case unasked, wanted }

    package struct Directory: Hashable, Sendable {
        /// Below the root.
        package var path: StorePath
        /// Nothing is claimed of these names.
        package var excluded: [[UInt8]]

        package init(path: StorePath, excluded: [[UInt8]] = []) {
            self.path = path
            self.excluded = excluded
        }
    }

    package enum Claim: Hashable, Sendable {
        case combined(UInt64, ownerless: UInt64)
        case entries([Entries])
        /// The names of each group are one file, where the roots they are in are on one file system.
        case links([[StorePath]])
        /// Of all directories from the first through the last of `directories`.
        case range(directoryCount: Int, digest: UInt64, ownerless: UInt64)
        /// Of the names that are one file with others, in all directories that this audit has had checked.
        case linkDigests([UInt64])
        /// Cyrus would find nothing wrong with them, whatever the other end has.
        case soundness(Soundness)
    }

    package enum Soundness: UInt8, Sendable {
        /// Each of the directories is one.
        case mailboxes = 1
        /// The databases, and what they say of each other and of the mailboxes.
        case store = 2
    }

    /// What one directory holds.
    package struct Entries: Hashable, Sendable {
        package var hashes: [UInt64]
        /// Instead of the hash at that place, for an end that cannot give files away.
        package var ownerless: [Int: UInt64]

        package init(hashes: [UInt64], ownerless: [Int: UInt64]) {
            self.hashes = hashes
            self.ownerless = ownerless
        }

        /// Of entries sorted by name.
        package init(of entries: [AuditEntry]) {
            hashes = entries.map(\.hash)
            ownerless = [:]
            for (place, entry) in entries.enumerated() where entry.owner != nil || entry.group != nil {
                ownerless[place] = entry.ownerless.hash
            }
        }

        package var withoutOwners: [UInt64] {
            hashes.enumerated().map { place, hash in ownerless[place] ?? hash }
        }
    }

    package init(
        number: UInt64, audit: UInt64, depth: Depth, records: Records = .unasked, directories: [Directory], claim: Claim
    ) {
        precondition(audit <= number, "audit \(audit) began after its check \(number)")
        precondition(records == .unasked || depth == .content, "records at depth \(depth)")
        self.records = records
        self.number = number
        self.audit = audit
        self.depth = depth
        self.directories = directories
        self.claim = claim
    }

    /// Directories told by name in one check.
    package static let directoryCountMax = 1024
}

extension AuditCheck {
    /// What a range's digest is made of, for each of its directories.
    package static func hashes(_ directory: StorePath, digest: UInt64) -> [UInt64] {
        [directory.path.withUnsafeBytes { checksum64($0) }, digest]
    }

    /// Tells a directory of a range from the others, and its state from other states; of another check it is another.
    ///
    /// Four bytes: a replica that differs tells one for each directory. Two states have the same once in four milliards.
    package static func mark(_ hashes: [UInt64], check number: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: AuditEntry.digest(ofHashes: [number] + hashes))
    }

    /// The same of its path alone.
    package static func mark(_ directory: StorePath, check number: UInt64) -> UInt32 {
        mark(hashes(directory, digest: 0), check: number)
    }
}

extension StorePath {
    /// Within a root: parents first, then children by name; so a directory and all below it are neighbours.
    ///
    /// Not the order of the bytes of the path: `a/b` comes before `a-b`, as `a` comes before `a-b`.
    package func comesBefore(_ other: StorePath) -> Bool {
        path.lexicographicallyPrecedes(other.path) { Self.rank($0) < Self.rank($1) }
    }

    /// A slash before all bytes that a name may have.
    private static func rank(_ byte: UInt8) -> UInt8 { byte == slash ? 0 : byte }
}

// MARK: - bytes of a check

extension AuditCheck {
    private static let nameCountMax: UInt64 = 1 << 24
    private static let depthWithRecords: UInt8 = 3

    package func encode(into writer: inout ByteWriter) {
        writer.write(number)
        writer.write(count: number - audit)
        writer.write(records == .wanted ? Self.depthWithRecords : depth.rawValue)
        writer.write(count: UInt64(directories.count))
        var before: [UInt8] = []
        for directory in directories {
            let path = directory.path.path
            let shared = zip(path, before).prefix { $0 == $1 }.count
            writer.write(count: UInt64(shared))
            writer.write(string: path[shared...])
            writer.write(count: UInt64(directory.excluded.count))
            for name in directory.excluded { writer.write(string: name) }
            before = path
        }
        switch claim {
        case .combined(let digest, let ownerless):
            writer.write(UInt8(1))
            writer.write(digest)
            writer.write(ownerless)
        case .entries(let all):
            writer.write(UInt8(2))
            for entries in all { Self.encode(entries, into: &writer) }
        case .links(let groups):
            writer.write(UInt8(3))
            writer.write(count: UInt64(groups.count))
            for group in groups {
                writer.write(count: UInt64(group.count))
                for path in group { writer.write(path) }
            }
        case .range(let directoryCount, let digest, let ownerless):
            writer.write(UInt8(4))
            writer.write(count: UInt64(directoryCount))
            writer.write(digest)
            writer.write(ownerless)
        case .linkDigests(let digests):
            precondition(digests.count == LinkLedger.partCount, "\(digests.count) digests of links")
            writer.write(UInt8(5))
            for digest in digests { writer.write(digest) }
        case .soundness(let soundness):
            writer.write(UInt8(6))
            writer.write(soundness.rawValue)
        }
    }

    private static func encode(_ entries: Entries, into writer: inout ByteWriter) {
        writer.write(count: UInt64(entries.hashes.count))
        for hash in entries.hashes { writer.write(hash) }
        writer.write(count: UInt64(entries.ownerless.count))
        for (place, hash) in entries.ownerless.sorted(by: { $0.key < $1.key }) {
            writer.write(count: UInt64(place))
            writer.write(hash)
        }
    }

    package init(decoding reader: inout ByteReader, root: RootName) throws(MalformedBytes) {
        number = try reader.read(UInt64.self, "check: number")
        audit = number - (try reader.readCount(max: number, "check: audit"))
        let depthNumber = try reader.read(UInt8.self, "check: depth")
        records = depthNumber == Self.depthWithRecords ? .wanted : .unasked
        guard let depth = records == .wanted ? .content : Depth(rawValue: depthNumber) else {
            throw MalformedBytes("check: depth", at: reader.offset, "unknown depth \(depthNumber)")
        }
        self.depth = depth
        directories = []
        var before: [UInt8] = []
        for _ in 0..<(try reader.readCount(max: UInt64(Self.directoryCountMax), "check: directories")) {
            let shared = Int(try reader.readCount(max: UInt64(before.count), "check: bytes shared"))
            let rest = try reader.readString(max: StorePath.pathBytesMax, "check: directory")
            guard let path = StorePath(root: root, path: before.prefix(shared) + rest) else {
                throw MalformedBytes("check: directory", at: reader.offset, "not a path below a root")
            }
            var directory = Directory(path: path)
            for _ in 0..<(try reader.readCount(max: Self.nameCountMax, "check: excluded")) {
                directory.excluded.append(try Self.name(from: &reader))
            }
            directories.append(directory)
            before = path.path
        }
        claim = try Self.claim(of: directories.count, from: &reader)
    }

    private static func name(from reader: inout ByteReader) throws(MalformedBytes) -> [UInt8] {
        let name = Array(try reader.readString(max: StorePath.nameBytesMax, "check: name"))
        guard StorePath.isName(name) else { throw MalformedBytes("check: name", at: reader.offset, "not a name") }
        return name
    }

    private static func claim(of count: Int, from reader: inout ByteReader) throws(MalformedBytes) -> Claim {
        switch try reader.read(UInt8.self, "check: claim") {
        case 1:
            let digest = try reader.read(UInt64.self, "check: digest")
            return .combined(digest, ownerless: try reader.read(UInt64.self, "check: digest without owners"))
        case 2:
            var all: [Entries] = []
            for _ in 0..<count { all.append(try entries(from: &reader)) }
            return .entries(all)
        case 3:
            var groups: [[StorePath]] = []
            for _ in 0..<(try reader.readCount(max: nameCountMax, "check: groups")) {
                var group: [StorePath] = []
                for _ in 0..<(try reader.readCount(max: nameCountMax, "check: names")) {
                    group.append(try reader.readStorePath("check: name"))
                }
                groups.append(group)
            }
            return .links(groups)
        case 4:
            guard count >= 2 else {
                throw MalformedBytes("check: range", at: reader.offset, "\(count) of its two ends")
            }
            let claimedCount = Int(try reader.readCount(max: nameCountMax, "check: directories claimed"))
            let digest = try reader.read(UInt64.self, "check: digest")
            let ownerless = try reader.read(UInt64.self, "check: digest without owners")
            return .range(directoryCount: claimedCount, digest: digest, ownerless: ownerless)
        case 5:
            var digests: [UInt64] = []
            for _ in 0..<LinkLedger.partCount { digests.append(try reader.read(UInt64.self, "check: links")) }
            return .linkDigests(digests)
        case 6:
            let number = try reader.read(UInt8.self, "check: soundness")
            guard let soundness = Soundness(rawValue: number) else {
                throw MalformedBytes("check: soundness", at: reader.offset, "unknown word \(number)")
            }
            return .soundness(soundness)
        case let other:
            throw MalformedBytes("check: claim", at: reader.offset, "unknown claim \(other)")
        }
    }

    private static func entries(from reader: inout ByteReader) throws(MalformedBytes) -> Entries {
        var entries = Entries(hashes: [], ownerless: [:])
        for _ in 0..<(try reader.readCount(max: nameCountMax, "check: entries")) {
            entries.hashes.append(try reader.read(UInt64.self, "check: entry"))
        }
        for _ in 0..<(try reader.readCount(max: UInt64(entries.hashes.count), "check: owned entries")) {
            let place = Int(try reader.readCount(max: nameCountMax, "check: owned entry"))
            let hash = try reader.read(UInt64.self, "check: entry without owner")
            guard place < entries.hashes.count, entries.ownerless.updateValue(hash, forKey: place) == nil else {
                throw MalformedBytes("check: owned entry", at: reader.offset, "place \(place)")
            }
        }
        return entries
    }
}

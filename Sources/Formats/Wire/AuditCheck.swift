package import Digests

/// What the primary claims of some directories of one root at one position of the log, to be held against the replica.
///
///     number       8
///     depth        1   1 metadata, 2 content
///     directories  count; of each: how many bytes of the path before it begins with, count, and the rest of the path
///                  (count, bytes); then names to be left out (count, and each: count, bytes)
///     claim        1   1 combined, 2 entries, 3 links
///       combined   digest 8, digest without owners 8: XXH3-64 of the digests of the directories, in their order
///       entries    of each directory: hashes of its entries (count, 8 each), then those of them that have an owner of
///                  their own: their places (count each) and hashes without it (8 each)
///       links      groups (count), each: names (count), each: the place of its directory, and the name
///
/// A digest of a directory is XXH3-64 of the hashes of its entries (`AuditEntry`), which are sorted by name.
package struct AuditCheck: Hashable, Sendable {
    /// The primary's, to find the verdict by.
    package var number: UInt64
    package var depth: Depth
    package var directories: [Directory]
    package var claim: Claim

    package enum Depth: UInt8, Sendable {
        /// Names, sizes, times, modes, owners, links.
        case metadata = 1
        /// And every byte.
        case content = 2
    }

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
        /// The names of each group are one file.
        case links([[LinkName]])
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

    package struct LinkName: Hashable, Sendable {
        /// Its place in `directories`.
        package var directory: Int
        package var name: [UInt8]

        package init(directory: Int, name: [UInt8]) {
            self.directory = directory
            self.name = name
        }
    }

    package init(number: UInt64, depth: Depth, directories: [Directory], claim: Claim) {
        self.number = number
        self.depth = depth
        self.directories = directories
        self.claim = claim
    }

    /// Directories in one check.
    package static let directoryCountMax = 1024
}

/// What the replica found when it held a check against its store; it goes back over the link.
///
///     number   8
///     outcome  1   1 equal, 2 directories, 3 details, 4 broken links, 5 lost
package struct AuditVerdict: Hashable, Sendable {
    package var number: UInt64
    package var outcome: Outcome

    package enum Outcome: Hashable, Sendable {
        case equal
        /// Of each directory of a combined claim that does not hold.
        case directories([DirectoryState])
        /// Of each directory of a claim about entries.
        case details([Details])
        /// The places of the groups that are not one file here.
        case brokenLinks([Int])
        /// Not looked at: in a replay, or before the copy is consistent. To be asked again.
        case lost(why: String)
    }

    package enum DirectoryState: Hashable, Sendable {
        case digest(UInt64)
        case absent
        /// What was there at the check's position was gone before it was read: nothing is said.
        case movedOn
    }

    package enum Details: Hashable, Sendable {
        case found(missing: [UInt64], extra: [Found])
        case absent
        case movedOn
    }

    /// An entry of the replica that is not among those claimed.
    package struct Found: Hashable, Sendable {
        package var entry: AuditEntry
        /// SHA-1 of a message, as a witness.
        package var guid: MessageGUID?

        package init(entry: AuditEntry, guid: MessageGUID? = nil) {
            self.entry = entry
            self.guid = guid
        }
    }

    package init(number: UInt64, outcome: Outcome) {
        self.number = number
        self.outcome = outcome
    }
}

// MARK: - bytes of a check

extension AuditCheck {
    private static let nameCountMax: UInt64 = 1 << 24

    package func encode(into writer: inout ByteWriter) {
        writer.write(number)
        writer.write(depth.rawValue)
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
                for link in group {
                    writer.write(count: UInt64(link.directory))
                    writer.write(string: link.name)
                }
            }
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
        let depthNumber = try reader.read(UInt8.self, "check: depth")
        guard let depth = Depth(rawValue: depthNumber) else {
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
            var groups: [[LinkName]] = []
            for _ in 0..<(try reader.readCount(max: nameCountMax, "check: groups")) {
                var group: [LinkName] = []
                for _ in 0..<(try reader.readCount(max: nameCountMax, "check: names")) {
                    let place = Int(try reader.readCount(max: UInt64(directoryCountMax), "check: place"))
                    guard place < count else {
                        throw MalformedBytes("check: place", at: reader.offset, "\(place) of \(count) directories")
                    }
                    group.append(LinkName(directory: place, name: try name(from: &reader)))
                }
                groups.append(group)
            }
            return .links(groups)
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

// MARK: - bytes of a verdict

extension AuditVerdict {
    private static let countMax: UInt64 = 1 << 24

    package func encode(into writer: inout ByteWriter) {
        writer.write(number)
        switch outcome {
        case .equal:
            writer.write(UInt8(1))
        case .directories(let states):
            writer.write(UInt8(2))
            writer.write(count: UInt64(states.count))
            for state in states {
                switch state {
                case .digest(let digest):
                    writer.write(UInt8(1))
                    writer.write(digest)
                case .absent: writer.write(UInt8(2))
                case .movedOn: writer.write(UInt8(3))
                }
            }
        case .details(let all):
            writer.write(UInt8(3))
            writer.write(count: UInt64(all.count))
            for details in all { Self.encode(details, into: &writer) }
        case .brokenLinks(let places):
            writer.write(UInt8(4))
            writer.write(count: UInt64(places.count))
            for place in places { writer.write(count: UInt64(place)) }
        case .lost(let why):
            writer.write(UInt8(5))
            writer.write(string: why.utf8.prefix(4096))
        }
    }

    private static func encode(_ details: Details, into writer: inout ByteWriter) {
        switch details {
        case .found(let missing, let extra):
            writer.write(UInt8(1))
            writer.write(count: UInt64(missing.count))
            for hash in missing { writer.write(hash) }
            writer.write(count: UInt64(extra.count))
            for found in extra {
                found.entry.encode(into: &writer)
                writer.write(UInt8(found.guid == nil ? 0 : 1))
                if let guid = found.guid { writer.write(raw: guid.bytes) }
            }
        case .absent: writer.write(UInt8(2))
        case .movedOn: writer.write(UInt8(3))
        }
    }

    package init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        number = try reader.read(UInt64.self, "verdict: number")
        switch try reader.read(UInt8.self, "verdict: outcome") {
        case 1:
            outcome = .equal
        case 2:
            var states: [DirectoryState] = []
            for _ in 0..<(try reader.readCount(max: Self.countMax, "verdict: directories")) {
                switch try reader.read(UInt8.self, "verdict: directory") {
                case 1: states.append(.digest(try reader.read(UInt64.self, "verdict: digest")))
                case 2: states.append(.absent)
                case 3: states.append(.movedOn)
                case let other: throw MalformedBytes("verdict: directory", at: reader.offset, "unknown state \(other)")
                }
            }
            outcome = .directories(states)
        case 3:
            var all: [Details] = []
            for _ in 0..<(try reader.readCount(max: Self.countMax, "verdict: details")) {
                all.append(try Self.details(from: &reader))
            }
            outcome = .details(all)
        case 4:
            var places: [Int] = []
            for _ in 0..<(try reader.readCount(max: Self.countMax, "verdict: links")) {
                places.append(Int(try reader.readCount(max: Self.countMax, "verdict: link")))
            }
            outcome = .brokenLinks(places)
        case 5:
            outcome = .lost(why: String(decoding: try reader.readString(max: 4096, "verdict: why"), as: UTF8.self))
        case let other:
            throw MalformedBytes("verdict: outcome", at: reader.offset, "unknown outcome \(other)")
        }
    }

    private static func details(from reader: inout ByteReader) throws(MalformedBytes) -> Details {
        switch try reader.read(UInt8.self, "verdict: details") {
        case 1:
            var missing: [UInt64] = []
            for _ in 0..<(try reader.readCount(max: countMax, "verdict: missing")) {
                missing.append(try reader.read(UInt64.self, "verdict: missing"))
            }
            var extra: [Found] = []
            for _ in 0..<(try reader.readCount(max: countMax, "verdict: extra")) {
                let entry = try AuditEntry(decoding: &reader)
                switch try reader.read(UInt8.self, "verdict: guid") {
                case 0: extra.append(Found(entry: entry))
                case 1:
                    let guid = Array(try reader.read(raw: MessageGUID.byteCount, "verdict: guid"))
                    extra.append(Found(entry: entry, guid: MessageGUID(bytes: guid)))
                case let other: throw MalformedBytes("verdict: guid", at: reader.offset, "unknown flag \(other)")
                }
            }
            return .found(missing: missing, extra: extra)
        case 2: return .absent
        case 3: return .movedOn
        case let other: throw MalformedBytes("verdict: details", at: reader.offset, "unknown state \(other)")
        }
    }
}

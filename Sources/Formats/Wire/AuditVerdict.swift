package import Digests

/// What the replica found when it held a check against its store; it goes back over the link.
///
///     number   8
///     outcome  1   1 equal, 2 directories, 3 details, 4 broken links, 5 lost, 6 range, 7 unsound
package struct AuditVerdict: Hashable, Sendable {
    package var number: UInt64
    package var outcome: Outcome

    package enum Outcome: Hashable, Sendable {
        case equal
        /// Of each directory of a combined claim that does not hold.
        case directories([DirectoryState])
        /// Of each directory of a claim about entries.
        case details([Details])
        /// The places of the groups that are not one file here, or of the digests of links that are others here.
        case brokenLinks([Int])
        /// Of a claim about a range that does not hold.
        case range(Range)
        /// What Cyrus would find wrong, of a claim about soundness that does not hold.
        case unsound([Unsound])
        /// Not looked at: in a replay, or before the copy is consistent. To be asked again.
        case lost(why: String)
    }

    package struct Unsound: Hashable, Sendable {
        package var path: StorePath
        /// For an operator.
        package var why: String

        package init(path: StorePath, why: String) {
            self.path = path
            self.why = why
        }
    }

    /// What there is between the ends of a range, in no order; see `AuditCheck.mark`.
    package struct Range: Hashable, Sendable {
        package var owners: Owners
        /// Of each directory: of its path and digest.
        package var marks: [UInt32]
        /// Of directories of which nothing is said: of the path alone.
        package var movedOn: [UInt32]

        package enum Owners: UInt8, Sendable {
            /// This end gives files away, so owners are compared.
            case kept = 1
            case ignored = 2
        }

        package init(owners: Owners, marks: [UInt32], movedOn: [UInt32]) {
            self.owners = owners
            self.marks = marks
            self.movedOn = movedOn
        }
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
        /// Of a database's keys and values (`DatabaseImage.recordsDigest`), however they lie in the file.
        package var records: Digest?

        package init(entry: AuditEntry, guid: MessageGUID? = nil, records: Digest? = nil) {
            self.entry = entry
            self.guid = guid
            self.records = records
        }
    }

    package init(number: UInt64, outcome: Outcome) {
        self.number = number
        self.outcome = outcome
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
            writer.write(text: why, max: Self.whyBytesMax)
        case .range(let range):
            writer.write(UInt8(6))
            writer.write(range.owners.rawValue)
            for marks in [range.marks, range.movedOn] {
                writer.write(count: UInt64(marks.count))
                for mark in marks { writer.write(mark) }
            }
        case .unsound(let found):
            writer.write(UInt8(7))
            Self.encode(found, into: &writer)
        }
    }

    private static func encode(_ found: [Unsound], into writer: inout ByteWriter) {
        let told = found.prefix(unsoundMax)
        writer.write(count: UInt64(told.count))
        for item in told {
            writer.write(item.path)
            writer.write(text: item.why, max: Self.whyBytesMax)
        }
    }

    /// More are not told at once.
    private static let unsoundMax = 1024
    private static let whyBytesMax = 4096

    private static func unsound(from reader: inout ByteReader) throws(MalformedBytes) -> [Unsound] {
        var found: [Unsound] = []
        for _ in 0..<(try reader.readCount(max: UInt64(unsoundMax), "verdict: unsound")) {
            let path = try reader.readStorePath("verdict: unsound")
            let why = try reader.readText(max: whyBytesMax, "verdict: why")
            found.append(Unsound(path: path, why: why))
        }
        return found
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
                writer.write(UInt8(found.guid == nil ? 0 : 1) | UInt8(found.records == nil ? 0 : 2))
                if let guid = found.guid { writer.write(raw: guid.bytes) }
                if let records = found.records { writer.write(records) }
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
            outcome = .lost(why: try reader.readText(max: Self.whyBytesMax, "verdict: why"))
        case 6:
            outcome = .range(try Self.range(from: &reader))
        case 7:
            outcome = .unsound(try Self.unsound(from: &reader))
        case let other:
            throw MalformedBytes("verdict: outcome", at: reader.offset, "unknown outcome \(other)")
        }
    }

    private static func range(from reader: inout ByteReader) throws(MalformedBytes) -> Range {
        let number = try reader.read(UInt8.self, "verdict: owners")
        guard let owners = Range.Owners(rawValue: number) else {
            throw MalformedBytes("verdict: owners", at: reader.offset, "unknown word \(number)")
        }
        let marks = try marks(from: &reader)
        return Range(owners: owners, marks: marks, movedOn: try self.marks(from: &reader))
    }

    private static func marks(from reader: inout ByteReader) throws(MalformedBytes) -> [UInt32] {
        var marks: [UInt32] = []
        for _ in 0..<(try reader.readCount(max: countMax, "verdict: marks")) {
            marks.append(try reader.read(UInt32.self, "verdict: mark"))
        }
        return marks
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
                let witnesses = try reader.read(UInt8.self, "verdict: witnesses")
                guard witnesses < 4 else {
                    throw MalformedBytes("verdict: witnesses", at: reader.offset, "unknown flags \(witnesses)")
                }
                var found = Found(entry: entry)
                if witnesses & 1 != 0 {
                    found.guid = MessageGUID(bytes: Array(try reader.read(raw: MessageGUID.byteCount, "verdict: guid")))
                }
                if witnesses & 2 != 0 { found.records = try reader.readDigest("verdict: records") }
                extra.append(found)
            }
            return .found(missing: missing, extra: extra)
        case 2: return .absent
        case 3: return .movedOn
        case let other: throw MalformedBytes("verdict: details", at: reader.offset, "unknown state \(other)")
        }
    }
}

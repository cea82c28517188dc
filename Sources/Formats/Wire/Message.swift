package import Digests

/// What the two ends say to each other. One frame each:
///
///     offset  bytes
///      0       4   bytes that follow
///      4       1   kind
///      5       …   body
///
/// The replica opens the connection and says `hello`; the primary answers `welcome` or `refuse`. After that the
/// primary sends batches (purpose: stream) or a seed (purpose: seed), and the replica acks. Either says `heartbeat`
/// when it has been silent for a while.
package enum Message: Equatable, Sendable {
    case hello(Hello)
    case welcome(Welcome)
    /// The connection ends after it; `text` is for the operator.
    case refuse(Refusal, text: String)
    /// A sealed batch, of the log or of a seed: its bytes, not yet checked.
    case batch([UInt8])
    case ack(Ack)
    case heartbeat(timeNanoseconds: Int64, journaled: Position)
    /// Replica to primary: what could not be applied for want of its basis; to be sent whole.
    case resend([StorePath])
    /// Primary to replica, seeding over something: what a directory holds.
    case seedListing(SeedListing)
    /// Replica to primary: what it wants of a listing.
    case seedWant(SeedWant)
    /// Primary to replica: everything was sent; the copy is consistent once the log is applied up to `position`.
    case seedEnd(SeedEnd)
    /// Primary to replica, while a seed is under way: how many files there are, about.
    case seedPlan(fileCount: UInt64)
    /// Replica to primary: what came of a check in the log.
    case verdict(AuditVerdict)
    /// Replica to primary: an operator there asks for an audit, or with no text for the end of it. `text` is JSON.
    case auditRequest(number: UInt32, text: [UInt8])
    /// Primary to replica: a line for that operator; an empty one is the last.
    case auditReport(number: UInt32, text: [UInt8])
    /// Replica to primary, once, when it follows the log: where its store is.
    case place(Place)
    /// Replica to primary, when it changes and with each heartbeat: why nothing is applied or taken in; nothing while it goes on.
    case paused(because: String?)

    /// Told in `hello` and `welcome`; ends of different numbers refuse each other.
    package static let protocolVersion: UInt16 = 3
}

package enum Role: UInt8, Sendable {
    case primary = 1, replica = 2
}

package struct Welcome: Equatable, Sendable {
    package var version = Message.protocolVersion
    /// The log begins after this position: the replica's own when it streams, the primary's newest when it seeds. A
    /// later one than the replica's own means a jump: the log between is not kept, and what it was about comes whole.
    package var start: Position
    /// The chain hash at `start`.
    package var hash: ChainHash
    /// After a jump the store is consistent from here on.
    package var consistentAfter: Position

    package init(start: Position, hash: ChainHash, consistentAfter: Position) {
        self.start = start
        self.hash = hash
        self.consistentAfter = consistentAfter
    }
}

package enum Refusal: UInt8, Sendable {
    case wrongVersion = 1
    case wrongStore = 2
    /// This end is not a primary.
    case notPrimary = 3
    /// The other end has seen a higher epoch than this primary's.
    case fenced = 4
    /// What the replica has is not a part of this log: it needs a seed.
    case diverged = 5
    /// The log after the replica's position was trimmed: it needs a seed.
    case trimmed = 6
    /// Something failed at this end.
    case failed = 7
    /// The ends' Cyrus look for files in different places.
    case otherNaming = 8
    /// Said to a primary that makes itself known: this end is one too, and its epoch is not lower.
    case rival = 9
}

/// Invariant: applied <= flushed <= received.
package struct Ack: Equatable, Sendable {
    package var received: Position
    package var flushed: Position
    package var applied: Position

    package init(received: Position, flushed: Position, applied: Position) {
        self.received = received
        self.flushed = flushed
        self.applied = applied
    }
}

package struct SeedListing: Equatable, Sendable {
    package var directory: StorePath
    package var metadata: Metadata
    package var entries: [Entry]

    package init(directory: StorePath, metadata: Metadata, entries: [Entry]) {
        self.directory = directory
        self.metadata = metadata
        self.entries = entries
    }

    package struct Entry: Equatable, Sendable {
        package var name: [UInt8]
        package var isDirectory: Bool
        package var byteCount: Int
        /// Of the content, where the primary knows it without reading.
        package var digest: Digest?

        package init(name: [UInt8], isDirectory: Bool, byteCount: Int, digest: Digest?) {
            self.name = name
            self.isDirectory = isDirectory
            self.byteCount = byteCount
            self.digest = digest
        }
    }
}

package struct SeedWant: Equatable, Sendable {
    package var directory: StorePath
    package var items: [Item]

    package init(directory: StorePath, items: [Item]) {
        self.directory = directory
        self.items = items
    }

    package struct Item: Equatable, Sendable {
        package var name: [UInt8]
        package var have: Have

        package init(name: [UInt8], have: Have) {
            self.name = name
            self.have = have
        }
    }

    package enum Have: Equatable, Sendable {
        case nothing
        /// A file with this content.
        case content(Digest)
        /// A file with this content, and librsync's signature of it.
        case signature(Digest, [UInt8])
    }
}

package struct SeedEnd: Equatable, Sendable {
    package var position: Position
    /// Files and bytes sent or found equal.
    package var fileCount: UInt64
    package var byteCount: UInt64
    /// Sum, modulo 2^128, of the digest of (path, content) over them: what both ends must have counted.
    package var manifest: Digest

    package init(position: Position, fileCount: UInt64, byteCount: UInt64, manifest: Digest) {
        self.position = position
        self.fileCount = fileCount
        self.byteCount = byteCount
        self.manifest = manifest
    }
}

// MARK: - bytes

extension Message {
    private enum Kind: UInt8 {
        case hello = 1, welcome, refuse, batch, ack, heartbeat, resend, seedListing, seedWant, seedEnd
        case verdict, auditRequest, auditReport, seedPlan, place, paused
    }

    /// Bytes of a frame, its head included; a longer one is refused before it is read.
    package static let frameBytesMax = BatchHeader.rawBytesMax + (1 << 20)
    package static let frameHeadBytes = 5
    private static let entryCountMax: UInt64 = 1 << 22
    private static let textBytesMax = 4096
    private static let auditBytesMax = 1 << 20
    private static let signatureBytesMax = 32 << 20

    /// The whole frame.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(0))
        writer.write(kind.rawValue)
        encodeBody(into: &writer)
        writer.overwrite(UInt32(writer.count - 4), at: 0)
        return writer.finish()
    }

    /// The head of the frame of a batch, so that the batch's bytes need no copy.
    package static func headOfBatch(byteCount: Int) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(byteCount + 1))
        writer.write(Kind.batch.rawValue)
        return writer.finish()
    }

    private func encodeBody(into writer: inout ByteWriter) {
        switch self {
        case .hello(let hello):
            writer.write(hello.version)
            writer.write(string: hello.store.utf8)
            writer.write(hello.purpose.rawValue)
            writer.write(hello.flushed)
            writer.write(raw: hello.hash.bytes)
            writer.write(hello.applied)
            writer.write(hello.consistentAfter)
            writer.write(hello.epochSeen.number)
            hello.naming.encode(into: &writer)
        case .welcome(let welcome):
            writer.write(welcome.version)
            writer.write(welcome.start)
            writer.write(raw: welcome.hash.bytes)
            writer.write(welcome.consistentAfter)
        case .refuse(let refusal, let text):
            writer.write(refusal.rawValue)
            writer.write(text: text, max: Self.textBytesMax)
        case .batch(let bytes):
            writer.write(raw: bytes)
        case .ack(let ack):
            writer.write(ack.received)
            writer.write(ack.flushed, behind: ack.received)
            writer.write(ack.applied, behind: ack.flushed)
        case .heartbeat(let time, let journaled):
            writer.write(time)
            writer.write(journaled)
        case .resend(let paths):
            writer.write(count: UInt64(paths.count))
            for path in paths { writer.write(path) }
        case .seedListing(let listing):
            writer.write(listing.directory)
            listing.metadata.encode(into: &writer)
            writer.write(count: UInt64(listing.entries.count))
            for entry in listing.entries {
                writer.write(string: entry.name)
                writer.write(UInt8(entry.isDirectory ? 1 : 0) | UInt8(entry.digest == nil ? 0 : 2))
                writer.write(count: UInt64(entry.byteCount))
                if let digest = entry.digest { writer.write(digest) }
            }
        case .seedWant(let want):
            writer.write(want.directory)
            writer.write(count: UInt64(want.items.count))
            for item in want.items { Self.encode(item, into: &writer) }
        case .seedEnd(let end):
            writer.write(end.position)
            writer.write(end.fileCount)
            writer.write(end.byteCount)
            writer.write(end.manifest)
        case .seedPlan(let fileCount):
            writer.write(fileCount)
        case .verdict(let verdict):
            verdict.encode(into: &writer)
        case .auditRequest(let number, let text), .auditReport(let number, let text):
            writer.write(number)
            writer.write(string: text)
        case .place(let place):
            place.encode(into: &writer)
        case .paused(let why):
            writer.write(text: why ?? "", max: Self.textBytesMax)
        }
    }

    private static func encode(_ item: SeedWant.Item, into writer: inout ByteWriter) {
        writer.write(string: item.name)
        switch item.have {
        case .nothing:
            writer.write(UInt8(0))
        case .content(let digest):
            writer.write(UInt8(1))
            writer.write(digest)
        case .signature(let digest, let signature):
            writer.write(UInt8(2))
            writer.write(digest)
            writer.write(string: signature)
        }
    }

    /// Reads what follows the four length bytes: kind and body.
    package init(decoding frame: ArraySlice<UInt8>) throws(MalformedBytes) {
        var reader = ByteReader(frame)
        let kind = try Self.kind(try reader.read(UInt8.self, "message: kind"))
        self = try Self.body(of: kind, from: &reader)
        try reader.expectEnd("message")
    }

    /// The same in two parts; those of a batch are not copied.
    init(kind number: UInt8, body: [UInt8]) throws(MalformedBytes) {
        let kind = try Self.kind(number)
        if kind == .batch {
            self = .batch(body)
            return
        }
        var reader = ByteReader(body)
        self = try Self.body(of: kind, from: &reader)
        try reader.expectEnd("message")
    }

    private static func kind(_ number: UInt8) throws(MalformedBytes) -> Kind {
        guard let kind = Kind(rawValue: number) else {
            throw MalformedBytes("message: kind", at: 0, "unknown kind \(number)")
        }
        return kind
    }

    private static func body(of kind: Kind, from reader: inout ByteReader) throws(MalformedBytes) -> Message {
        switch kind {
        case .hello:
            return .hello(try hello(from: &reader))
        case .welcome:
            let version = try reader.read(UInt16.self, "welcome: version")
            var welcome = Welcome(
                start: try reader.readPosition("welcome: start"), hash: try reader.readChainHash("welcome: hash"),
                consistentAfter: try reader.readPosition("welcome: consistent after"))
            welcome.version = version
            return .welcome(welcome)
        case .refuse:
            let number = try reader.read(UInt8.self, "refuse: reason")
            return .refuse(
                Refusal(rawValue: number) ?? .failed, text: try reader.readText(max: textBytesMax, "refuse: text"))
        case .batch:
            return .batch(Array(try reader.read(raw: reader.remainingCount, "batch")))
        case .ack:
            let received = try reader.readPosition("ack: received")
            let flushed = try reader.readPosition(behind: received, "ack: flushed")
            let applied = try reader.readPosition(behind: flushed, "ack: applied")
            return .ack(Ack(received: received, flushed: flushed, applied: applied))
        case .heartbeat:
            let time = try reader.read(Int64.self, "heartbeat: time")
            return .heartbeat(timeNanoseconds: time, journaled: try reader.readPosition("heartbeat: journaled"))
        case .resend:
            var paths: [StorePath] = []
            for _ in 0..<(try reader.readCount(max: entryCountMax, "resend: paths")) {
                paths.append(try reader.readStorePath("resend: path"))
            }
            return .resend(paths)
        case .seedListing:
            return .seedListing(try listing(from: &reader))
        case .seedWant:
            return .seedWant(try want(from: &reader))
        case .seedEnd:
            let position = try reader.readPosition("seed end: position")
            let files = try reader.read(UInt64.self, "seed end: files")
            let bytes = try reader.read(UInt64.self, "seed end: bytes")
            let manifest = try reader.readDigest("seed end: manifest")
            return .seedEnd(SeedEnd(position: position, fileCount: files, byteCount: bytes, manifest: manifest))
        case .seedPlan:
            return .seedPlan(fileCount: try reader.read(UInt64.self, "seed plan: files"))
        case .verdict:
            return .verdict(try AuditVerdict(decoding: &reader))
        case .auditRequest:
            let number = try reader.read(UInt32.self, "audit: number")
            return .auditRequest(number: number, text: Array(try reader.readString(max: auditBytesMax, "audit: text")))
        case .auditReport:
            let number = try reader.read(UInt32.self, "audit: number")
            return .auditReport(number: number, text: Array(try reader.readString(max: auditBytesMax, "audit: text")))
        case .place:
            return .place(try Place(decoding: &reader))
        case .paused:
            let why = try reader.readText(max: textBytesMax, "paused: why")
            return .paused(because: why.isEmpty ? nil : why)
        }
    }

    private static func hello(from reader: inout ByteReader) throws(MalformedBytes) -> Hello {
        let version = try reader.read(UInt16.self, "hello: version")
        guard version == protocolVersion else {
            // What follows may be anything, and the version is all that the answer is about.
            _ = try reader.read(raw: reader.remainingCount, "hello")
            return Hello(ofVersion: version)
        }
        let store = try reader.readText(max: 255, "hello: store")
        let purposeNumber = try reader.read(UInt8.self, "hello: purpose")
        guard let purpose = Hello.Purpose(rawValue: purposeNumber) else {
            throw MalformedBytes("hello: purpose", at: reader.offset, "unknown purpose \(purposeNumber)")
        }
        return Hello(
            store: store, purpose: purpose, flushed: try reader.readPosition("hello: flushed"),
            hash: try reader.readChainHash("hello: hash"), applied: try reader.readPosition("hello: applied"),
            consistentAfter: try reader.readPosition("hello: consistent after"),
            epochSeen: try reader.readEpoch("hello: epoch seen"), naming: try NamingRules(decoding: &reader))
    }

    private static func listing(from reader: inout ByteReader) throws(MalformedBytes) -> SeedListing {
        let directory = try reader.readStorePath("listing: directory")
        let metadata = try Metadata(decoding: &reader)
        var entries: [SeedListing.Entry] = []
        for _ in 0..<(try reader.readCount(max: entryCountMax, "listing: entries")) {
            let name = Array(try reader.readString(max: StorePath.nameBytesMax, "listing: name"))
            let flags = try reader.read(UInt8.self, "listing: flags")
            guard StorePath.isName(name), flags < 4 else {
                throw MalformedBytes("listing: entry", at: reader.offset, "not a file's name, or unknown flags")
            }
            let byteCount = Int(try reader.readCount(max: Record.fileBytesMax, "listing: bytes"))
            let digest = flags & 2 == 0 ? nil : try reader.readDigest("listing: digest")
            entries.append(
                SeedListing.Entry(name: name, isDirectory: flags & 1 != 0, byteCount: byteCount, digest: digest))
        }
        return SeedListing(directory: directory, metadata: metadata, entries: entries)
    }

    private static func want(from reader: inout ByteReader) throws(MalformedBytes) -> SeedWant {
        let directory = try reader.readStorePath("want: directory")
        var items: [SeedWant.Item] = []
        for _ in 0..<(try reader.readCount(max: entryCountMax, "want: items")) {
            let name = Array(try reader.readString(max: StorePath.nameBytesMax, "want: name"))
            guard StorePath.isName(name) else { throw MalformedBytes("want: name", at: reader.offset, "not a name") }
            let have: SeedWant.Have
            switch try reader.read(UInt8.self, "want: have") {
            case 0: have = .nothing
            case 1: have = .content(try reader.readDigest("want: digest"))
            case 2:
                let digest = try reader.readDigest("want: digest")
                have = .signature(digest, Array(try reader.readString(max: signatureBytesMax, "want: signature")))
            case let other: throw MalformedBytes("want: have", at: reader.offset, "unknown kind \(other)")
            }
            items.append(SeedWant.Item(name: name, have: have))
        }
        return SeedWant(directory: directory, items: items)
    }

    private var kind: Kind {
        switch self {
        case .hello: .hello
        case .welcome: .welcome
        case .refuse: .refuse
        case .batch: .batch
        case .ack: .ack
        case .heartbeat: .heartbeat
        case .resend: .resend
        case .seedListing: .seedListing
        case .seedWant: .seedWant
        case .seedEnd: .seedEnd
        case .seedPlan: .seedPlan
        case .verdict: .verdict
        case .auditRequest: .auditRequest
        case .auditReport: .auditReport
        case .place: .place
        case .paused: .paused
        }
    }
}

extension ByteReader {
    package mutating func readChainHash(_ what: @autoclosure () -> String) throws(MalformedBytes) -> ChainHash {
        ChainHash(bytes: Array(try read(raw: ChainHash.byteCount, what())))
    }
}

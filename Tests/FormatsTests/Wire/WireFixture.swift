import Digests
import Formats
import Foundation

/// What our own formats look like, written without our code; Fixtures/README.md says how.
enum WireFixture {
    static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(
        path: "../../../Fixtures/wire")

    /// Hexadecimal pairs; a comment runs from `#` to the end of its line.
    static func bytes(_ name: String) throws -> [UInt8] {
        let text = String(decoding: try Data(contentsOf: directory.appending(path: name + ".hex")), as: UTF8.self)
        return text.split(separator: "\n").flatMap { line in
            line.prefix { $0 != "#" }.split(separator: " ").map { UInt8($0, radix: 16)! }
        }
    }

    /// What the batch of batch.hex follows.
    static let previous = ChainHash(of: utf8("the batch before"))
    static let mtime: Int64 = 1_700_000_000_123_456_789
    static let old = Digest(of: utf8("old"))
    static let new = Digest(of: utf8("new"))
    static let mail = RootName("partition-default")
    static let metadata = Metadata(mode: 0o600, mtimeNanoseconds: mtime)

    static var attributed: AuditEntry {
        var entry = AuditEntry(name: utf8("2."), kind: .file, mode: 0o600)
        entry.attributes = new
        return entry
    }

    /// Each of the files `record-*.hex`, and what it says.
    static let records: [(name: String, record: Record)] = [
        (
            "directory",
            Record(StorePath(mail, "uuid/7/4/74d3"), .directory(Metadata(mode: 0o755, mtimeNanoseconds: mtime)))
        ),
        (
            "whole",
            Record(
                StorePath(mail, "uuid/7/4/74d3/1."),
                .whole(
                    Metadata(
                        mode: 0o600, mtimeNanoseconds: -1, owner: 0, group: .max,
                        attributes: [
                            .init(name: utf8("user.a"), value: utf8("1")), .init(name: utf8("user.b"), value: []),
                        ]),
                    result: Digest(of: utf8("Subject: hello\r\n\r\nhello\r\n")),
                    bytes: utf8("Subject: hello\r\n\r\nhello\r\n")))
        ),
        (
            "extents",
            Record(
                StorePath(mail, "uuid/7/4/74d3/cyrus.index"),
                .extents(
                    metadata, basis: old, result: new, byteCount: 16384,
                    [
                        .init(offset: 0, bytes: utf8("head")), .init(offset: 400, bytes: utf8("record")),
                        .init(offset: 16380, bytes: [0, 0, 0, 0]),
                    ]))
        ),
        (
            "delta",
            Record(
                StorePath(.configuration, "mailboxes.db"),
                .delta(
                    Metadata(mode: 0o640, mtimeNanoseconds: mtime), basis: old, result: new, byteCount: 300,
                    delta: [0x72, 0x73, 0x02, 0x36, 0x03, 0x61, 0x62, 0x63, 0x00]))
        ),
        ("part", Record(StorePath(mail, "uuid/7/4/74d3/2."), .part(result: new, offset: 8 << 20, bytes: utf8("part")))),
        (
            "assembled",
            Record(StorePath(mail, "uuid/7/4/74d3/2."), .assembled(metadata, result: new, byteCount: 8 << 20 + 4))
        ),
        (
            "link",
            Record(StorePath(mail, "uuid/8/8/88aa/1."), .link(target: StorePath(mail, "uuid/7/4/74d3/1."), result: new))
        ),
        (
            "symlink",
            Record(
                StorePath(.configuration, "sieve-global"),
                .symlink(Metadata(mode: 0o777, mtimeNanoseconds: mtime), target: utf8("../sieve/global")))
        ),
        (
            "metadata",
            Record(
                StorePath(.configuration, "user/a/alice.sub"),
                .metadata(Metadata(mode: 0o644, mtimeNanoseconds: mtime), result: new))
        ),
        ("remove", Record(StorePath(root: mail, path: utf8("uuid/7/4/74d3/Entwürfe") + [0xff])!, .remove)),
        ("keep", Record(StorePath(mail, "uuid/7/4/74d3/cyrus.index"), .keep)),
        (
            "check",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 77, audit: 70, depth: .content,
                        directories: [
                            .init(path: StorePath(mail, "uuid/7/4/74d3")),
                            .init(
                                path: StorePath(mail, "uuid/7/5/75aa"), excluded: [utf8("1."), utf8("cyrus.index")]),
                        ], claim: .combined(1, ownerless: 2))))
        ),
        (
            "check-entries",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 78, audit: 71, depth: .metadata,
                        directories: [
                            .init(path: StorePath(mail, "uuid/7/4/74d3")), .init(path: StorePath(root: mail)),
                        ],
                        claim: .entries([
                            .init(hashes: [3, 4], ownerless: [1: 5]), .init(hashes: [], ownerless: [:]),
                        ]))))
        ),
        (
            "check-records",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 84, audit: 77, depth: .content, records: .wanted,
                        directories: [.init(path: StorePath(mail, "a"))],
                        claim: .entries([.init(hashes: [3], ownerless: [:])]))))
        ),
        (
            "check-links",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 79, audit: 72, depth: .metadata, directories: [],
                        claim: .links([
                            [StorePath(mail, "a/1."), StorePath(RootName("archivepartition-default"), "b/7.")]
                        ]))))
        ),
        (
            "check-range",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 81, audit: 74, depth: .content,
                        directories: [
                            .init(path: StorePath(mail, "a")), .init(path: StorePath(mail, "b/c")),
                            .init(path: StorePath(mail, "a/x")),
                            .init(path: StorePath(mail, "a/y"), excluded: [utf8("1.")]),
                        ], claim: .range(directoryCount: 300, digest: 1, ownerless: 2))))
        ),
        (
            "check-link-digests",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 82, audit: 75, depth: .metadata, directories: [],
                        claim: .linkDigests(Array(0..<64)))))
        ),
        (
            "check-soundness",
            Record(
                StorePath(root: mail),
                .check(
                    AuditCheck(
                        number: 83, audit: 76, depth: .content, directories: [.init(path: StorePath(mail, "a"))],
                        claim: .soundness(.mailboxes))))
        ),
    ]

    /// Each of the files `message-*.hex`, and what it says.
    static let messages: [(name: String, message: Message)] = [
        (
            "hello",
            .hello(
                Hello(
                    store: "mail-Ü", purpose: .stream, flushed: position(3, 4211), hash: previous,
                    applied: position(3, 4200), consistentAfter: position(3, 4150), epochSeen: Epoch(4),
                    naming: NamingRules(["hashimapspool": "yes"])))
        ),
        (
            "welcome",
            .welcome(Welcome(start: position(3, 4211), hash: previous, consistentAfter: position(3, 4150)))
        ),
        ("refuse", .refuse(.fenced, text: "epoch 4 was promoted elsewhere")),
        ("batch", .batch((try? bytes("batch")) ?? [])),  // a missing file fails the tests of batch.hex
        ("ack", .ack(Ack(received: position(3, 4213), flushed: position(3, 4212), applied: position(2, 4099)))),
        ("heartbeat", .heartbeat(timeNanoseconds: mtime, journaled: position(3, 4213))),
        ("resend", .resend([StorePath(mail, "uuid/7/4/74d3/cyrus.index"), StorePath(root: .configuration)])),
        (
            "seed-listing",
            .seedListing(
                SeedListing(
                    directory: StorePath(mail, "uuid/7"), metadata: Metadata(mode: 0o755, mtimeNanoseconds: mtime),
                    entries: [
                        .init(name: utf8("4"), isDirectory: true, byteCount: 0, digest: nil),
                        .init(name: utf8("1."), isDirectory: false, byteCount: 300, digest: new),
                        .init(name: utf8("cyrus.index"), isDirectory: false, byteCount: 1 << 46, digest: nil),
                    ]))
        ),
        (
            "seed-want",
            .seedWant(
                SeedWant(
                    directory: StorePath(mail, "uuid/7"),
                    items: [
                        .init(name: utf8("1."), have: .nothing), .init(name: utf8("2."), have: .content(old)),
                        .init(name: utf8("cyrus.index"), have: .signature(old, [0x72, 0x73, 0x01, 0x47])),
                    ]))
        ),
        (
            "seed-end",
            .seedEnd(SeedEnd(position: position(3, 4300), fileCount: 7, byteCount: 1 << 33, manifest: new))
        ),
        ("seed-plan", .seedPlan(fileCount: 1 << 20)),
        ("verdict", .verdict(AuditVerdict(number: 77, outcome: .equal))),
        (
            "verdict-directories",
            .verdict(AuditVerdict(number: 77, outcome: .directories([.digest(9), .absent, .movedOn])))
        ),
        (
            "verdict-details",
            .verdict(
                AuditVerdict(
                    number: 78,
                    outcome: .details([
                        .found(
                            missing: [4],
                            extra: [
                                .init(
                                    entry: AuditEntry(
                                        name: utf8("1."), kind: .file, byteCount: 300, mode: 0o600, owner: 0, group: 8,
                                        mtimeNanoseconds: mtime, digest: new),
                                    guid: MessageGUID(bytes: Array(0..<20))),
                                .init(entry: Self.attributed, records: old),
                                .init(entry: AuditEntry(name: utf8("link"), kind: .symlink, digest: old)),
                            ]), .absent, .movedOn,
                    ])))
        ),
        ("verdict-links", .verdict(AuditVerdict(number: 79, outcome: .brokenLinks([0])))),
        (
            "verdict-range",
            .verdict(
                AuditVerdict(
                    number: 81, outcome: .range(.init(owners: .ignored, marks: [5, 1 << 31], movedOn: [6]))))
        ),
        (
            "verdict-unsound",
            .verdict(
                AuditVerdict(
                    number: 83,
                    outcome: .unsound([.init(path: StorePath(mail, "a/cyrus.index"), why: "checksum")])))
        ),
        ("verdict-lost", .verdict(AuditVerdict(number: 80, outcome: .lost(why: "replay")))),
        ("audit-request", .auditRequest(number: 5, text: utf8("{}"))),
        ("audit-report", .auditReport(number: 5, text: [])),
        (
            "place",
            .place(
                Place(
                    host: "mail2",
                    roots: [.configuration: utf8("/var/lib/cyrus"), mail: utf8("/var/spool/cyrus")]))
        ),
        ("paused", .paused(because: "no space")),
        ("goes-on", .paused(because: nil)),
    ]
}

func position(_ epoch: UInt32, _ sequence: UInt64) -> Position {
    Position(epoch: Epoch(epoch), sequence: SequenceNumber(sequence))
}

extension Record {
    var encoded: [UInt8] {
        var writer = ByteWriter()
        encode(into: &writer)
        return writer.finish()
    }

    /// One record, and nothing behind it.
    init(decodingAll bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        try self.init(decoding: &reader)
        try reader.expectEnd("record")
    }
}

extension Message {
    /// The one message of a whole frame.
    init?(frame bytes: [UInt8]) throws(MalformedBytes) {
        var decoder = FrameDecoder()
        bytes.withUnsafeBytes { decoder.push($0) }
        guard let message = try decoder.next() else { return nil }
        self = message
    }
}

import Digests
import Formats
import Linux
import Scratch
import Store
import Synchronization
import Testing

@testable import Primary

@Suite struct CaptureAuditTests {
    private let store = TemporaryDirectory()
    private let roots: StoreRoots
    private let catalogue: Catalogue
    private let root = StorePath(root: .configuration)
    private let note = StorePath(.configuration, "note")

    init() throws {
        for name in ["conf", "mail"] { _ = try Directory.make(store(name)) }
        let text = "configdirectory: \(store("conf"))\npartition-default: \(store("mail"))\n"
        roots = try StoreRoots(try StoreLayout(try ImapdConf.parse(text, named: "imapd.conf") { _ in "" }))
        catalogue = try Catalogue(path: store("catalogue"))
        try store.put(utf8("as it was told"), at: "conf/note")
        try tell()
    }

    /// The log tells of the file as it is.
    private func tell() throws {
        let bytes = try store.bytes("conf/note")
        let status = try #require(try roots.status(of: note))
        try catalogue.set(note, CatalogueEntry(status, digest: PageTable.digest(of: bytes)))
    }

    private func audit(
        patience: Duration = .seconds(60), isAlarmed: @escaping (StorePath) -> Bool = { _ in false }
    ) -> CaptureAudit {
        CaptureAudit(
            roots: roots, catalogue: catalogue, now: { Timestamp.now() }, isAlarmed: isAlarmed, patience: patience)
    }

    private func request(_ number: UInt64) throws -> CheckRequest {
        let listing = try #require(try ListingReader(roots).listReading(root))
        return CheckRequest(
            number: number, audit: 1, root: .configuration, depth: .content, kind: .combined, haste: .now,
            listings: [listing],
            deliver: { _ in })
    }

    private func missed(_ ready: [CaptureAudit.Ready]) -> [StorePath] {
        ready.flatMap(\.delivery.findings).filter { if case .missed = $0.what { true } else { false } }.map(\.path)
    }

    /// A round looks at what is dirty, as the capturer does.
    private func round(_ audit: CaptureAudit, _ dirty: inout DirtySet) throws {
        audit.roundBegins()
        _ = dirty.take(now: MonotonicTime(nanoseconds: .max))
        let left = try #require(try audit.unproven(root, [utf8("note")]))
        if !left.isEmpty { try tell() }
        audit.looked(at: root, [utf8("note")])
    }

    @Test func `a file that rests as it was told is claimed without a round`() throws {
        let audit = audit()
        var dirty = DirtySet()
        audit.begin(try request(7), &dirty)
        #expect(dirty.isEmpty)
        let ready = try audit.close(mark: { Issue.record("\($0) has to be looked at") }, fetchEvents: {})
        #expect(ready.map(\.delivery.expected.count) == [1])
        #expect(ready.first?.record != nil)
        #expect(audit.isIdle)
    }

    @Test func `a change that no event told of is looked at, and then it is missed`() throws {
        let audit = audit()
        var dirty = DirtySet()
        try store.put(utf8("changed behind us"), at: "conf/note")
        audit.begin(try request(7), &dirty)
        #expect(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {}).isEmpty)
        try round(audit, &dirty)
        let ready = try audit.close(mark: { dirty.mark($0) }, fetchEvents: {})
        #expect(missed(ready) == [note])
        #expect(ready.map(\.delivery.expected.count) == [1])
    }

    @Test func `an attribute of a message that no event told of is looked at, and missed`() throws {
        _ = try Directory.make(store("mail/box"))
        try store.put(utf8("mail"), at: "mail/box/1.")
        let box = StorePath(RootName("partition-default"), "box")
        let message = box.appending("1.")
        let tell = {
            let status = try #require(try roots.status(of: message))
            let attributes = try roots.open(message).extendedAttributes()
            let digest = PageTable.digest(of: utf8("mail"))
            try catalogue.set(message, CatalogueEntry(status, digest: digest, attributes: attributes))
        }
        try tell()
        let attribute = ExtendedAttribute(name: utf8("user.note"), value: utf8("1"))
        let file = try Descriptor.open(store("mail/box/1."), for: .updating)
        // A file system without attributes has none that could change.
        guard try file.setExtendedAttributes([attribute]).isEmpty else { return }
        let audit = audit()
        var dirty = DirtySet()
        let listing = try #require(try ListingReader(roots).listReading(box))
        let request = CheckRequest(
            number: 7, audit: 1, root: box.root, depth: .content, kind: .combined, haste: .now, listings: [listing],
            deliver: { _ in })
        audit.begin(request, &dirty)
        #expect(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {}).isEmpty)
        audit.roundBegins()
        #expect(try audit.unproven(box, [utf8("1.")]) == [utf8("1.")])
        try tell()
        audit.looked(at: box, [utf8("1.")])
        #expect(missed(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {})) == [message])
    }

    @Test func `a round that came before says nothing of a change after it`() throws {
        let audit = audit()
        var dirty = DirtySet()
        dirty.mark(note)
        try round(audit, &dirty)
        try store.put(utf8("changed behind us"), at: "conf/note")
        audit.begin(try request(7), &dirty)
        #expect(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {}).isEmpty)
        try round(audit, &dirty)
        #expect(missed(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {})) == [note])
    }

    @Test(arguments: [false, true])
    func `what a check asked for that was given up is not shipped if it is as recorded, unless an event told`(
        isTold: Bool
    ) throws {
        let isAlarmed = Mutex(true)
        let audit = audit(patience: .zero) { _ in isAlarmed.withLock { $0 } }
        var dirty = DirtySet()
        audit.begin(try request(7), &dirty)
        #expect(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {}).map(\.unlooked) == [[note]])
        isAlarmed.withLock { $0 = false }
        if isTold { audit.note(.name(note)) }
        #expect(try audit.unproven(root, [utf8("note")]) == (isTold ? [utf8("note")] : []))
        audit.looked(at: root, [utf8("note")])
        #expect(try audit.unproven(root, [utf8("note")]) == [utf8("note")])
    }

    @Test(arguments: [false, true])
    func `a change is missed too if a round came to it only after its check was given up, unless an event told`(
        isTold: Bool
    ) throws {
        let audit = audit(patience: .zero)
        var dirty = DirtySet()
        try store.put(utf8("changed behind us"), at: "conf/note")
        audit.begin(try request(7), &dirty)
        #expect(try audit.close(mark: { dirty.mark($0) }, fetchEvents: {}).isEmpty)
        audit.roundBegins()
        let first = try audit.close(mark: { dirty.mark($0) }, fetchEvents: {})
        #expect(first.map(\.delivery.postponed) == [[root]])
        #expect(missed(first) == [])
        if isTold { audit.note(.name(note)) }
        try round(audit, &dirty)
        audit.begin(try request(8), &dirty)
        let second = try audit.close(mark: { dirty.mark($0) }, fetchEvents: {})
        #expect(second.map(\.delivery.expected.count) == [1])
        #expect(missed(second) == (isTold ? [] : [note]))
    }
}

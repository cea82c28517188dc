import Formats
import Linux
import Testing

@testable import Primary

@Suite struct ScrubRecordTests {
    private var record: ScrubRecord {
        var record = ScrubRecord()
        record.content = ScrubRecord.Round(
            began: Timestamp(nanoseconds: 1), ended: Timestamp(nanoseconds: 5), findingCount: 2)
        record.metadata = ScrubRecord.Round(
            began: Timestamp(nanoseconds: 7), ended: Timestamp(nanoseconds: 8), findingCount: 0)
        record.contentBegan = Timestamp(nanoseconds: 9)
        record.contentReached = StorePath(root: mail, path: utf8("a b/Entwürfe\nx") + [0xff, 1])
        record.contentFindingCount = 1
        record.findingCount = 3
        record.lastFinding = Timestamp(nanoseconds: 4)
        record.note(unproven: [StorePath(root: mail), StorePath(mail, "a b")], .metadata)
        return record
    }

    @Test func `it comes back as it was written, whatever bytes a path has`() {
        #expect(ScrubRecord(decoding: record.encoded) == record)
        #expect(ScrubRecord(decoding: ScrubRecord().encoded) == ScrubRecord())
    }

    @Test func `what is not compared keeps the time since which nothing proves it, until it is`() {
        var record = record
        #expect(record.oldestUnproven?.path == StorePath(root: mail))
        #expect(record.oldestUnproven?.since == Timestamp(nanoseconds: 7))
        record.metadata = ScrubRecord.Round(
            began: Timestamp(nanoseconds: 90), ended: Timestamp(nanoseconds: 91), findingCount: 0)
        record.note(unproven: [StorePath(mail, "a b"), StorePath(mail, "c")], .metadata)
        #expect(record.oldestUnproven?.path == StorePath(mail, "a b"))
        #expect(record.oldestUnproven?.since == Timestamp(nanoseconds: 7))
        record.note(unproven: [], .content)
        #expect(record.unproven.count == 2)
        record.note(unproven: [], .metadata)
        #expect(record.oldestUnproven == nil)
    }

    @Test func `cut off or damaged it never traps`() {
        let text = record.encoded
        for count in 0...text.count { _ = ScrubRecord(decoding: String(text.prefix(count))) }
        for line in [
            "content", "content x y", "content_reached partition-default", "content_reached r x1", "findings -1 a",
        ] {
            #expect(ScrubRecord(decoding: line).content == nil || line.hasPrefix("content x"))
        }
    }
}

import Formats
import Testing

@testable import Store

@Suite struct IndexedGUIDTests {
    private let inbox = StoreCopy.inbox

    @Test func `a damaged index never tells a wrong GUID, and tells those of its sound records`() throws {
        let store = try StoreCopy()
        let roots = try StoreRoots(store.layout)
        let index = inbox.appending("cyrus.index")
        let sound = try store.bytes(index)
        let image = try IndexImage(sound)
        let messages = try image.records.map { record in
            (path: inbox.appending("\(record.uid)."), guid: try #require(record.guid))
        }
        for offset in sound.indices {
            var bytes = sound
            bytes[offset] ^= 1 << UInt8(offset % 8)
            try store.write(bytes, to: index)
            for (number, message) in messages.enumerated() {
                let told = try roots.indexedGUID(of: message.path)
                #expect(told == nil || told == message.guid, "offset \(offset), record \(number)")
                let isElsewhere =
                    offset >= image.header.startOffset
                    && !(image.offset(ofRecord: number)..<image.offset(ofRecord: number + 1)).contains(offset)
                if isElsewhere { #expect(told == message.guid, "offset \(offset), record \(number)") }
            }
        }
    }
}

import Glibc
import Linux
import Testing

@Suite struct InotifyEventTests {
    // As read(2) gave it on x86-64 for: link, rename of it, removal of the watched directory's file system.
    static let golden: [UInt8] =
        [1, 0, 0, 0, 0x00, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0] + bytes("cyrus.index") + [0, 0, 0, 0, 0]
        + [1, 0, 0, 0, 0x40, 0, 0, 0, 0x39, 0x30, 0, 0, 16, 0, 0, 0] + bytes("1.") + [UInt8](repeating: 0, count: 14)
        + [2, 0, 0, 0, 0x80, 0, 0, 0x40, 0x39, 0x30, 0, 0, 16, 0, 0, 0] + bytes("exactly15bytes.") + [0]
        + [2, 0, 0, 0, 0x00, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        + [255, 255, 255, 255, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    static let ends = [32, 64, 96, 112, 128]
    static let events = [
        InotifyEvent(watch: WatchNumber(rawValue: 1), mask: .create, name: bytes("cyrus.index")),
        InotifyEvent(watch: WatchNumber(rawValue: 1), mask: .movedFrom, cookie: 12345, name: bytes("1.")),
        InotifyEvent(
            watch: WatchNumber(rawValue: 2), mask: [.movedTo, .isDirectory], cookie: 12345,
            name: bytes("exactly15bytes.")),
        InotifyEvent(watch: WatchNumber(rawValue: 2), mask: .unmount),
        InotifyEvent.overflow,
    ]

    private func decode(_ bytes: some Collection<UInt8>) -> [InotifyEvent] {
        Array(bytes).withUnsafeBytes { InotifyEvent.decodeAll($0) }
    }

    @Test func `golden bytes give these events`() {
        #expect(decode(Self.golden) == Self.events)
        #expect(decode([]) == [])
    }

    @Test func `cut off anywhere, the whole records and an overflow come`() {
        for count in 0...Self.golden.count {
            let whole = Self.ends.filter { $0 <= count }
            let isCut = count > whole.last ?? 0
            #expect(decode(Self.golden.prefix(count)) == Self.events.prefix(whole.count) + (isCut ? [.overflow] : []))
        }
    }

    @Test func `a length beyond the buffer is an overflow`() {
        var huge = Array(Self.golden.prefix(32))
        huge.replaceSubrange(12..<16, with: [255, 255, 255, 255])
        #expect(decode(huge) == [.overflow])
    }

    @Test func `a record at an odd address is read`() {
        let shifted = [0] + Self.golden
        let events = shifted.withUnsafeBytes { InotifyEvent.decodeAll(UnsafeRawBufferPointer(rebasing: $0[1...])) }
        #expect(events == Self.events)
    }

    @Test func `our masks are the system's`() {
        let pairs: [(InotifyMask, UInt32)] = [
            (.modify, UInt32(IN_MODIFY)),
            (.attributes, UInt32(IN_ATTRIB)),
            (.closeWrite, UInt32(IN_CLOSE_WRITE)),
            (.movedFrom, UInt32(IN_MOVED_FROM)),
            (.movedTo, UInt32(IN_MOVED_TO)),
            (.create, UInt32(IN_CREATE)),
            (.delete, UInt32(IN_DELETE)),
            (.deleteSelf, UInt32(IN_DELETE_SELF)),
            (.moveSelf, UInt32(IN_MOVE_SELF)),
            (.unmount, UInt32(IN_UNMOUNT)),
            (.overflow, UInt32(IN_Q_OVERFLOW)),
            (.ignored, UInt32(IN_IGNORED)),
            (.isDirectory, UInt32(IN_ISDIR)),
            (.onlyDirectory, UInt32(IN_ONLYDIR)),
            (.doNotFollow, UInt32(IN_DONT_FOLLOW)),
            (.excludeUnlinked, UInt32(IN_EXCL_UNLINK)),
            (.addToMask, UInt32(IN_MASK_ADD)),
        ]
        for (mask, number) in pairs { #expect(mask.rawValue == number) }
    }
}

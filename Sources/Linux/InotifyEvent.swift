// One record of inotify(7), as the kernel puts them one behind the other into the reader's buffer:
//
//     offset  bytes
//     0       4      watch   signed; -1 with `overflow`
//     4       4      mask    what happened
//     8       4      cookie  the same in both halves of a rename, else 0
//     12      4      length  bytes of name that follow, a multiple of 16, or 0
//     16      length name    in the watched directory, filled up with NULs; none if it is about the directory itself
//
// Integers in the machine's byte order. A read never gives a part of a record.

/// The number of a watch in its `Inotify`; the kernel does not use one twice.
package struct WatchNumber: RawRepresentable, Hashable, Sendable {
    package let rawValue: CInt

    package init(rawValue: CInt) { self.rawValue = rawValue }

    /// What `overflow` comes with.
    package static let none = WatchNumber(rawValue: -1)
}

/// What to watch for, and what happened.
package struct InotifyMask: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    // To watch for, and in events.

    /// Content written or truncated.
    package static let modify = InotifyMask(rawValue: 0x2)
    /// Mode, owner, times, link count, attributes. Of a link(2) the *old* name's watcher sees this.
    package static let attributes = InotifyMask(rawValue: 0x4)
    /// Closed by one who could write.
    package static let closeWrite = InotifyMask(rawValue: 0x8)
    package static let movedFrom = InotifyMask(rawValue: 0x40)
    package static let movedTo = InotifyMask(rawValue: 0x80)
    /// A new name: file, directory, symbolic or hard link. Of a hard link nothing else comes.
    package static let create = InotifyMask(rawValue: 0x100)
    package static let delete = InotifyMask(rawValue: 0x200)
    /// The watched directory itself was removed.
    package static let deleteSelf = InotifyMask(rawValue: 0x400)
    /// The watched directory itself was renamed; the watch goes with it.
    package static let moveSelf = InotifyMask(rawValue: 0x800)

    // In events only.

    /// The file system was unmounted; `ignored` follows.
    package static let unmount = InotifyMask(rawValue: 0x2000)
    /// Events were lost, of any watch.
    package static let overflow = InotifyMask(rawValue: 0x4000)
    /// The watch is no more.
    package static let ignored = InotifyMask(rawValue: 0x8000)
    /// It is about a directory.
    package static let isDirectory = InotifyMask(rawValue: 0x4000_0000)

    // For `addWatch` only.

    /// `Errno.notDirectory` if it isn't one.
    package static let onlyDirectory = InotifyMask(rawValue: 0x0100_0000)
    /// Do not follow a symbolic link at the end of the path.
    package static let doNotFollow = InotifyMask(rawValue: 0x0200_0000)
    /// Nothing more of files that have lost their name in the directory.
    package static let excludeUnlinked = InotifyMask(rawValue: 0x0400_0000)
    /// Add to the watch that there is, instead of replacing its mask.
    package static let addToMask = InotifyMask(rawValue: 0x2000_0000)
}

/// Something that happened in a watched directory: a hint where to look.
package struct InotifyEvent: Hashable, Sendable {
    package let watch: WatchNumber
    package let mask: InotifyMask
    /// Ties `movedFrom` to `movedTo`; else 0.
    package let cookie: UInt32
    /// Empty if it is about the watched directory itself.
    package let name: [UInt8]

    package init(watch: WatchNumber, mask: InotifyMask, cookie: UInt32 = 0, name: [UInt8] = []) {
        self.watch = watch
        self.mask = mask
        self.cookie = cookie
        self.name = name
    }

    /// "Some are lost", as the kernel says it.
    package static let overflow = InotifyEvent(watch: .none, mask: .overflow)

    static let headerBytes = 16

    /// All records in `bytes`. Should the last be cut off, which the kernel doesn't do, an `overflow` takes its place.
    package static func decodeAll(_ bytes: UnsafeRawBufferPointer) -> [InotifyEvent] {
        var events: [InotifyEvent] = []
        var offset = 0
        while offset < bytes.count {
            guard let event = InotifyEvent(decoding: bytes, at: &offset) else { return events + [.overflow] }
            events.append(event)
        }
        return events
    }

    /// The record at `offset`, which moves behind it; nothing if it isn't all there.
    private init?(decoding bytes: UnsafeRawBufferPointer, at offset: inout Int) {
        guard bytes.count - offset >= Self.headerBytes else { return nil }
        let nameBytes = Int(bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
        guard bytes.count - offset - Self.headerBytes >= nameBytes else { return nil }
        let start = offset + Self.headerBytes
        let name = UnsafeRawBufferPointer(rebasing: bytes[start..<start + nameBytes])
        let length = name.firstIndex(of: 0) ?? nameBytes
        self.init(
            watch: WatchNumber(rawValue: bytes.loadUnaligned(fromByteOffset: offset, as: CInt.self)),
            mask: InotifyMask(rawValue: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)),
            cookie: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self),
            name: Array(name[..<length]))
        offset = start + nameBytes
    }
}

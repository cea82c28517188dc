import Digests
import Formats
import Linux

/// What capture found at one path, read while its owner's lock was held or in a form that never changes.
struct Captured {
    let path: StorePath
    var found: Found
    /// An index that has messages no more which it had when it was last shipped, or may have had: they may be in another by now.
    var losesMessages = false

    enum Found {
        /// A file that Cyrus changes, and the table of what was last shipped of it.
        case file(FileVersion, old: PageTable?)
        /// A file that never changes, open; its content is read when the lock is gone.
        case message(OpenMessage)
        case directory(FileStatus)
        case symlink(target: [UInt8], FileStatus)
        /// There is nothing, or nothing that is shipped.
        case nothing
    }

    /// Whether it is a message, and another was shipped under its name.
    var replacesMessage: Bool { if case .message(let message) = found { message.replaces } else { false } }

    var isGone: Bool { if case .nothing = found { true } else { false } }

    /// Whether it holds a descriptor.
    var isOpen: Bool {
        switch found {
        case .message: true
        case .file(let version, _): if case .copied = version.content { true } else { false }
        case .directory, .symlink, .nothing: false
        }
    }
}

extension [Captured] {
    /// A file that changed along with others may have been read with each of them.
    var lastOfEach: [Captured] {
        var places: [StorePath: Int] = [:]
        var last: [Captured] = []
        for item in self {
            if let place = places[item.path] {
                last[place] = item
            } else {
                places[item.path] = last.count
                last.append(item)
            }
        }
        return last
    }
}

/// A message file, opened under the lock so that it can be read after it.
final class OpenMessage {
    let file: Descriptor
    let status: FileStatus
    /// What the index says the content is, where an index was read.
    let guid: MessageGUID?
    /// Another was shipped under its name, or this one with other metadata.
    let replaces: Bool

    init(_ file: consuming Descriptor, guid: MessageGUID?, replaces: Bool = false) throws(SystemError) {
        status = try file.status()
        self.replaces = replaces
        self.file = file
        self.guid = guid
    }

    /// The digest, and the bytes if they are few.
    func content() throws(SystemError) -> (Digest, [UInt8]?) {
        let byteCount = Int(status.byteCount)
        if byteCount <= FileVersion.wholeBytesMax {
            let bytes = try file.read(at: 0, count: byteCount)
            return (PageTable.digest(of: bytes), bytes)
        }
        var table = PageTable()
        try file.readPieces(of: 256 << 10) { (piece) throws(SystemError) in table.append(piece) }
        return (table.digest, nil)
    }
}

/// What is to be noted once the records are in the journal.
struct Shipped {
    let path: StorePath
    /// Nothing: the path is gone.
    let entry: CatalogueEntry?
    /// What the shadow becomes, and what it was.
    var shadow: (version: FileVersion, old: PageTable?)?
}

import Digests
import Formats
import Linux
import Store

/// How one name stood when it was last shipped: what the kernel said of it, and its content's digest.
struct CatalogueEntry: Equatable, Sendable {
    var kind: FileKind
    var inode: UInt64
    var byteCount: Int64
    var mtimeNanoseconds: Int64
    var ctimeNanoseconds: Int64
    var mode: UInt16
    var owner: UInt32
    var group: UInt32
    /// Of the content, of a symbolic link its target. Nothing: never read, so no basis for anything.
    var digest: Digest?
    /// Of the extended attributes in `user.`; nothing where there are none, or where no digest tells that they were read.
    var attributesDigest: Digest?

    init(_ status: FileStatus, digest: Digest?, attributes: [ExtendedAttribute] = []) {
        kind = status.kind
        inode = status.inode
        byteCount = status.byteCount
        mtimeNanoseconds = status.mtimeNanoseconds
        ctimeNanoseconds = status.ctimeNanoseconds
        mode = status.mode
        owner = status.owner
        group = status.group
        self.digest = digest
        attributesDigest = AuditEntry.digest(of: attributes)
    }

    /// Whether `status` is of the file that was shipped under this name, whatever the name leads to now.
    func isSameFile(as status: FileStatus, digest: Digest) -> Bool {
        kind == .file && inode == status.inode && byteCount == status.byteCount
            && mtimeNanoseconds == status.mtimeNanoseconds && self.digest == digest
    }

    /// Whether a replica has a version of it, or had: one that is to be sent whole as well, of which no digest tells.
    var wasShipped: Bool { digest != nil || isUnlikeAny }

    /// No file is like it: nothing is known but what was shipped, if that.
    var isUnlikeAny: Bool { byteCount == Self.unlikeAny }

    private static let unlikeAny: Int64 = -1

    func has(_ attributes: [ExtendedAttribute]) -> Bool { attributesDigest == AuditEntry.digest(of: attributes) }

    /// Whether `status` is of the same file, untouched since.
    ///
    /// For directories only that it is one: their times change with every name in them. `asMessage`: the content never
    /// changes, and the change time moves with every link that comes or goes, so it is not looked at.
    func stillDescribes(_ status: FileStatus, asMessage: Bool = false) -> Bool {
        guard kind == status.kind, mode == status.mode, owner == status.owner, group == status.group else {
            return false
        }
        if kind == .directory { return true }
        guard inode == status.inode, byteCount == status.byteCount, mtimeNanoseconds == status.mtimeNanoseconds else {
            return false
        }
        return asMessage || ctimeNanoseconds == status.ctimeNanoseconds
    }
}

extension CatalogueEntry {
    /// A name that the journal says was shipped, and of which nothing else is known: matches no file.
    init(shipped digest: Digest?, kind: FileKind) {
        self.kind = kind
        (inode, byteCount, mtimeNanoseconds, ctimeNanoseconds) = (0, Self.unlikeAny, 0, 0)
        (mode, owner, group) = (0, 0, 0)
        self.digest = digest
        attributesDigest = nil
    }
}

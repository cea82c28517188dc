package import Digests
package import Formats
package import Linux

/// How one name stood when it was last shipped: what the kernel said of it, and its content's digest.
package struct CatalogueEntry: Equatable, Sendable {
    package var kind: FileKind
    package var inode: UInt64
    package var byteCount: Int64
    package var mtimeNanoseconds: Int64
    package var ctimeNanoseconds: Int64
    package var mode: UInt16
    package var owner: UInt32
    package var group: UInt32
    /// Of the content, of a symbolic link its target. Nothing: never read, so no basis for anything.
    package var digest: Digest?

    package init(_ status: FileStatus, digest: Digest?) {
        kind = status.kind
        inode = status.inode
        byteCount = status.byteCount
        mtimeNanoseconds = status.mtimeNanoseconds
        ctimeNanoseconds = status.ctimeNanoseconds
        mode = status.mode
        owner = status.owner
        group = status.group
        self.digest = digest
    }

    /// Whether `status` is of the same file, untouched since.
    ///
    /// For directories only that it is one: their times change with every name in them.
    package func stillDescribes(_ status: FileStatus) -> Bool {
        guard kind == status.kind, mode == status.mode, owner == status.owner, group == status.group else { return false }
        if kind == .directory { return true }
        return inode == status.inode && byteCount == status.byteCount && mtimeNanoseconds == status.mtimeNanoseconds
            && ctimeNanoseconds == status.ctimeNanoseconds
    }
}

extension CatalogueEntry {
    /// A name that the journal says was shipped, and of which nothing else is known: matches no file.
    package init(shipped digest: Digest?, kind: FileKind) {
        self.kind = kind
        (inode, byteCount, mtimeNanoseconds, ctimeNanoseconds) = (0, -1, 0, 0)
        (mode, owner, group) = (0, 0, 0)
        self.digest = digest
    }
}

internal import CKernel

/// Which file system it is, by the kernel's magic number (statfs(2)).
package struct FileSystemKind: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// ext2 and ext3 have the same number.
    package static let ext4 = FileSystemKind(rawValue: 0xEF53)
    package static let xfs = FileSystemKind(rawValue: 0x5846_5342)
    package static let btrfs = FileSystemKind(rawValue: 0x9123_683E)
    package static let zfs = FileSystemKind(rawValue: 0x2FC1_2FC1)
    package static let tmpfs = FileSystemKind(rawValue: 0x0102_1994)
    package static let overlay = FileSystemKind(rawValue: 0x794C_7630)
    package static let nfs = FileSystemKind(rawValue: 0x6969)
    package static let smb = FileSystemKind(rawValue: 0x517B)
    package static let cifs = FileSystemKind(rawValue: 0xFF53_4D42)
    package static let smb2 = FileSystemKind(rawValue: 0xFE53_4D42)
    package static let fuse = FileSystemKind(rawValue: 0x6573_5546)
    package static let ceph = FileSystemKind(rawValue: 0x00C3_6400)

    /// Whether files may change without this kernel knowing: inotify does not see other hosts' writes there.
    package var mayChangeElsewhere: Bool { [.nfs, .smb, .cifs, .smb2, .fuse, .ceph].contains(self) }
}

extension FileSystemKind: CustomStringConvertible {
    package var description: String {
        switch self {
        case .ext4: "ext4"
        case .xfs: "xfs"
        case .btrfs: "btrfs"
        case .zfs: "zfs"
        case .tmpfs: "tmpfs"
        case .overlay: "overlay"
        case .nfs: "nfs"
        case .smb: "smb"
        case .cifs: "cifs"
        case .smb2: "smb2"
        case .fuse: "fuse"
        case .ceph: "ceph"
        default: "0x" + String(rawValue, radix: 16)
        }
    }
}

/// A file system's kind and room.
package struct FileSystemStatus: Equatable, Sendable {
    package let kind: FileSystemKind
    package let totalBytes: UInt64
    /// Free for an ordinary user, without what is reserved for root.
    package let availableBytes: UInt64
    /// Both 0 where inodes are made as needed (btrfs).
    package let totalInodeCount: UInt64
    package let freeInodeCount: UInt64

    package init(
        kind: FileSystemKind, totalBytes: UInt64, availableBytes: UInt64, totalInodeCount: UInt64 = 0,
        freeInodeCount: UInt64 = 0
    ) {
        self.kind = kind
        self.totalBytes = totalBytes
        self.availableBytes = availableBytes
        self.totalInodeCount = totalInodeCount
        self.freeInodeCount = freeInodeCount
    }
}

extension Descriptor {
    /// Of the file system this file is on (fstatfs).
    package func fileSystem() throws(SystemError) -> FileSystemStatus {
        var found = ms_filesystem()
        try kernel("fstatfs", path) { ms_fstatfs(raw, &found) }
        return FileSystemStatus(
            kind: FileSystemKind(rawValue: found.type),
            totalBytes: found.total_blocks &* found.block_bytes,
            availableBytes: found.available_blocks &* found.block_bytes,
            totalInodeCount: found.total_inodes,
            freeInodeCount: found.free_inodes)
    }
}

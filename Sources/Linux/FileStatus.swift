internal import Glibc

/// What a name in a directory stands for.
package enum FileKind: Hashable, Sendable {
    case file, directory, symlink
    /// A socket, pipe or device.
    case other
}

/// What the kernel knows of a file besides its content (struct stat, inode(7)).
package struct FileStatus: Hashable, Sendable {
    /// With `inode`: which file this is, whatever its names.
    package let device: UInt64
    package let inode: UInt64
    package let kind: FileKind
    /// The twelve permission bits: set-user-id, set-group-id, sticky, and three times rwx.
    package let mode: UInt16
    package let owner: UInt32
    package let group: UInt32
    package let linkCount: UInt64
    package let byteCount: Int64
    /// Content last changed; since 1970, may be negative, and anyone who may write can set it.
    package let mtimeNanoseconds: Int64
    /// Content or inode last changed; nobody can set it. Kernels before 6.13 only move it once a clock tick (4 ms).
    package let ctimeNanoseconds: Int64

    package init(
        device: UInt64 = 0, inode: UInt64, kind: FileKind, mode: UInt16 = 0o600, owner: UInt32 = 0, group: UInt32 = 0,
        linkCount: UInt64 = 1, byteCount: Int64, mtimeNanoseconds: Int64 = 0, ctimeNanoseconds: Int64 = 0
    ) {
        self.device = device
        self.inode = inode
        self.kind = kind
        self.mode = mode
        self.owner = owner
        self.group = group
        self.linkCount = linkCount
        self.byteCount = byteCount
        self.mtimeNanoseconds = mtimeNanoseconds
        self.ctimeNanoseconds = ctimeNanoseconds
    }

    init(_ status: stat) {
        let kind: FileKind =
            switch status.st_mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .directory
            case S_IFLNK: .symlink
            default: .other
            }
        self.init(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), kind: kind,
            mode: UInt16(truncatingIfNeeded: status.st_mode & 0o7777), owner: status.st_uid, group: status.st_gid,
            linkCount: UInt64(status.st_nlink), byteCount: Int64(status.st_size),
            mtimeNanoseconds: nanoseconds(status.st_mtim), ctimeNanoseconds: nanoseconds(status.st_ctim))
        if let simulated = Simulation.kernel { self = simulated.adjusted(self) }
    }

    /// Of what has this path; of a symbolic link, the link's own (lstat) or that of what it leads to (stat). Nothing if there is no
    /// such path.
    package static func of(_ path: String, followingLinks: Bool = false) throws(SystemError) -> FileStatus? {
        var found = stat()
        do {
            try kernel("lstat", path) { followingLinks ? stat(path, &found) : lstat(path, &found) }
        } catch let error where error.errno == .noEntry || error.errno == .notDirectory {
            return nil
        }
        return FileStatus(found)
    }
}

/// Times beyond the years 1677 and 2262, which only a broken clock or a joker sets, become the nearest end.
func nanoseconds(_ time: timespec) -> Int64 {
    let (seconds, tooFar) = Int64(time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
    if tooFar { return time.tv_sec < 0 ? .min : .max }
    let (sum, over) = seconds.addingReportingOverflow(Int64(time.tv_nsec))
    return over ? .max : sum
}

/// The reverse, of times before 1970 too: the nanoseconds part is never negative.
func timespec(nanoseconds: Int64) -> timespec {
    let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
    return remainder < 0
        ? Glibc.timespec(tv_sec: Int(quotient - 1), tv_nsec: Int(remainder + 1_000_000_000))
        : Glibc.timespec(tv_sec: Int(quotient), tv_nsec: Int(remainder))
}

internal import CKernel
internal import Glibc

/// What a file is opened for.
package enum Access: Hashable, Sendable {
    /// O_RDONLY
    case reading
    /// O_RDWR: reading and writing what exists.
    case updating
    /// O_RDWR | O_CREAT: as `updating`, made empty if it does not exist.
    case updatingOrCreating
    /// O_RDWR | O_CREAT | O_EXCL: must not exist (`Errno.exists`).
    case creatingNew

    var flags: CInt {
        switch self {
        case .reading: O_RDONLY
        case .updating: O_RDWR
        case .updatingOrCreating: O_RDWR | O_CREAT
        case .creatingNew: O_RDWR | O_CREAT | O_EXCL
        }
    }

    var mayCreate: Bool { flags & O_CREAT != 0 }
}

/// The owner of a file descriptor: closes it once, when it goes.
///
/// Calls that take an offset (pread, pwrite) may come from several threads at once; `append` from one at a time.
/// Nothing written is durable before `flushData`, `flush` or `syncFileSystem` returns. When one of these throws, nobody
/// can tell what of the bytes since the last success is lost: stop using the file, do not flush again.
package struct Descriptor: ~Copyable, Sendable {
    /// The number, for calls outside this library; valid only as long as this value lives.
    package private(set) var raw: CInt
    /// What was opened, for messages.
    package let path: String

    /// Takes over `raw`, which nobody else may close.
    init(owning raw: CInt, path: String) {
        self.raw = raw
        self.path = path
    }

    deinit {
        // Not reached after `close`. Errors have nowhere to go: who must know them closes.
        if raw >= 0 { _ = Glibc.close(raw) }
    }

    /// Opens `path`, following symbolic links (open); closed on exec. `mode` is for a new file, less the umask.
    package static func open(
        _ path: String, for access: Access, mode: UInt16 = 0o600
    ) throws(SystemError) -> Descriptor {
        let flags = access.flags | O_CLOEXEC | O_NOCTTY
        let raw = try kernel("open", path) { Glibc.open(path, flags, mode_t(mode)) }
        Simulation.kernel?.did(.opened(raw, access))
        return Descriptor(owning: raw, path: path)
    }

    /// A second descriptor of the same open file: same locks, same position (fcntl F_DUPFD_CLOEXEC).
    package func duplicate() throws(SystemError) -> Descriptor {
        let copy = try kernel("fcntl", path) { fcntl(raw, F_DUPFD_CLOEXEC, 0) }
        return Descriptor(owning: copy, path: path)
    }

    /// Closes (close), and says if the kernel had an error to report; nothing is more durable than before.
    package consuming func close() throws(SystemError) {
        let closing = raw
        raw = -1
        guard Glibc.close(closing) != 0 else { return }
        let errno = Errno.current
        if errno != .interrupted { throw SystemError(call: "close", path: path, errno: errno) }
    }

    /// fstat
    package func status() throws(SystemError) -> FileStatus {
        var found = stat()
        try kernel("fstat", path) { fstat(raw, &found) }
        return FileStatus(found)
    }

    /// When this was made, ns since 1970 (statx); 0 where the file system does not keep it.
    package func birthNanoseconds() throws(SystemError) -> Int64 {
        // Simulated disks do not keep it.
        if Simulation.kernel != nil { return 0 }
        var nanoseconds: Int64 = 0
        try kernel("statx", path) { ms_birth(raw, &nanoseconds) }
        return nanoseconds
    }

    /// Cuts or extends with zeros (ftruncate).
    package func truncate(to byteCount: Int64) throws(SystemError) {
        try kernel("ftruncate", path) { ftruncate(raw, Int(byteCount)) }
        Simulation.kernel?.did(.truncated(raw, to: byteCount))
    }

    /// Makes room on the disk for the first `byteCount` bytes, growing the file to that (posix_fallocate):
    /// writing there can't fail for want of space. `Errno.noSpace` when there is none.
    package func allocate(_ byteCount: Int64) throws(SystemError) {
        try kernel(returningError: "posix_fallocate", path) { posix_fallocate(raw, 0, Int(byteCount)) }
        Simulation.kernel?.did(.allocated(raw, byteCount))
    }

    /// On return the content, and what is needed to find it, is on disk; times may not be (fdatasync).
    package func flushData() throws(SystemError) {
        try kernel("fdatasync", path) { fdatasync(raw) }
        Simulation.kernel?.did(.flushed(raw))
    }

    /// On return content and status are on disk; of a directory, the names in it (fsync).
    package func flush() throws(SystemError) {
        try kernel("fsync", path) { fsync(raw) }
        Simulation.kernel?.did(.flushed(raw))
    }

    /// On return all of the file system this file is in is on disk, whoever wrote it (syncfs).
    package func syncFileSystem() throws(SystemError) {
        try kernel("syncfs", path) { ms_syncfs(raw) }
        Simulation.kernel?.did(.flushedAll(raw))
    }

    /// Sets the modification time, leaves the access time (futimens).
    package func setTimes(mtimeNanoseconds: Int64) throws(SystemError) {
        let omit = Glibc.timespec(tv_sec: 0, tv_nsec: Int(MS_UTIME_OMIT))
        let times = [omit, timespec(nanoseconds: mtimeNanoseconds)]
        try kernel("futimens", path) { futimens(raw, times) }
        Simulation.kernel?.did(.setTimes(raw, mtimeNanoseconds: mtimeNanoseconds))
    }

    /// Exactly these permission bits, whatever the umask (fchmod).
    package func setMode(_ mode: UInt16) throws(SystemError) {
        try kernel("fchmod", path) { fchmod(raw, mode_t(mode)) }
        Simulation.kernel?.did(.setMode(raw))
    }

    /// Clears set-user-id and set-group-id as a side effect: set the mode after it (fchown).
    package func setOwner(_ owner: UInt32, group: UInt32) throws(SystemError) {
        try kernel("fchown", path) { fchown(raw, owner, group) }
    }
}

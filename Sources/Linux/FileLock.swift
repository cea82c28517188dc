internal import CKernel

// Locks on open files (fcntl(2), "Open file description locks").
//
// Cyrus takes POSIX record locks (lib/lock_fcntl.c). A process loses those when it closes *any* descriptor of the file,
// even one that another part of it has opened. OFD locks belong to the open file instead, and the two kinds conflict
// with each other as if they were one: so we take OFD locks and Cyrus sees them.

/// A part of a file, for locking.
package struct LockRange: Hashable, Sendable {
    package let start: Int64
    /// 0 reaches to the end, wherever that comes to be.
    package let byteCount: Int64

    package init(start: Int64, byteCount: Int64) {
        self.start = start
        self.byteCount = byteCount
    }

    package static let whole = LockRange(start: 0, byteCount: 0)
}

/// Locks on a `Descriptor`. They go when it and all its duplicates are closed.
package enum FileLock {
    /// What is in the way of an exclusive lock.
    package enum Holder: Hashable, Sendable {
        /// A POSIX lock, by this process.
        case process(CInt)
        /// An OFD lock; the kernel doesn't say whose.
        case openFile
    }

    /// Others may share it; `false` if somebody holds it exclusively (F_OFD_SETLK F_RDLCK). Turns our exclusive lock
    /// into a shared one. Must be open for reading (`Errno.badDescriptor`).
    package static func tryShared(
        _ descriptor: borrowing Descriptor, _ range: LockRange = .whole
    ) throws(SystemError) -> Bool {
        try set(1, descriptor, range)
    }

    /// The whole file, shared, when nobody holds it exclusively any more; in turn with others who wait, and for however long that is
    /// (F_OFD_SETLKW). Must be open for reading (`Errno.badDescriptor`).
    package static func awaitShared(_ descriptor: borrowing Descriptor) throws(SystemError) {
        let raw = descriptor.raw
        try kernel("fcntl", descriptor.path) { ms_ofd_await_shared(raw) }
    }

    /// `false` if somebody holds it (F_OFD_SETLK F_WRLCK). Must be open for writing (`Errno.badDescriptor`).
    package static func tryExclusive(
        _ descriptor: borrowing Descriptor, _ range: LockRange = .whole
    ) throws(SystemError) -> Bool {
        try set(2, descriptor, range)
    }

    /// Also if it isn't locked (F_OFD_SETLK F_UNLCK).
    package static func unlock(
        _ descriptor: borrowing Descriptor, _ range: LockRange = .whole
    ) throws(SystemError) {
        _ = try set(0, descriptor, range)
    }

    /// Who would keep us from an exclusive lock now, if anybody (F_OFD_GETLK).
    package static func holder(
        _ descriptor: borrowing Descriptor, _ range: LockRange = .whole
    ) throws(SystemError) -> Holder? {
        var lock: CInt = 0
        var process: Int32 = 0
        let raw = descriptor.raw
        try kernel("fcntl", descriptor.path) {
            ms_ofd_conflict(raw, range.start, range.byteCount, &lock, &process)
        }
        if lock == 0 { return nil }
        return process > 0 ? .process(process) : .openFile
    }

    private static func set(
        _ lock: CInt, _ descriptor: borrowing Descriptor, _ range: LockRange
    ) throws(SystemError) -> Bool {
        let raw = descriptor.raw
        do {
            try kernel("fcntl", descriptor.path) { ms_ofd_lock(raw, lock, range.start, range.byteCount) }
            return true
        } catch let error where error.errno == .wouldBlock || error.errno == .accessDenied {
            return false
        }
    }
}

internal import CKernel
internal import Glibc

/// The number by which the kernel says why a call failed (errno(3)).
package struct Errno: RawRepresentable, Hashable, Sendable {
    package let rawValue: CInt

    package init(rawValue: CInt) { self.rawValue = rawValue }

    /// Of the C call that failed last in this thread; any other call may overwrite it, so read it at once.
    package static var current: Errno {
        get { Errno(rawValue: Glibc.errno) }
        set { Glibc.errno = newValue.rawValue }
    }

    /// ENOENT
    package static let noEntry = Errno(rawValue: ENOENT)
    /// EPERM: only a privileged process may.
    package static let notPermitted = Errno(rawValue: EPERM)
    /// EACCES: the mode of a file or directory forbids it.
    package static let accessDenied = Errno(rawValue: EACCES)
    /// EEXIST
    package static let exists = Errno(rawValue: EEXIST)
    /// ENOTDIR
    package static let notDirectory = Errno(rawValue: ENOTDIR)
    /// EISDIR
    package static let isDirectory = Errno(rawValue: EISDIR)
    /// ENOTEMPTY
    package static let directoryNotEmpty = Errno(rawValue: ENOTEMPTY)
    /// ELOOP: beneath a `Directory`, there is a symbolic link in the path.
    package static let symbolicLink = Errno(rawValue: ELOOP)
    /// EXDEV: another file system; beneath a `Directory` also, the path leads out of it.
    package static let crossDevice = Errno(rawValue: EXDEV)
    /// EMLINK
    package static let tooManyLinks = Errno(rawValue: EMLINK)
    /// ENAMETOOLONG
    package static let nameTooLong = Errno(rawValue: ENAMETOOLONG)
    /// ENOSPC
    package static let noSpace = Errno(rawValue: ENOSPC)
    /// EDQUOT
    package static let quotaExceeded = Errno(rawValue: EDQUOT)
    /// EFBIG
    package static let fileTooBig = Errno(rawValue: EFBIG)
    /// EIO
    package static let inputOutput = Errno(rawValue: EIO)
    /// EROFS
    package static let readOnlyFileSystem = Errno(rawValue: EROFS)
    /// ESTALE
    package static let stale = Errno(rawValue: ESTALE)
    /// EBUSY
    package static let busy = Errno(rawValue: EBUSY)
    /// EAGAIN, which is EWOULDBLOCK: not now; of a socket with a timeout, the timeout.
    package static let wouldBlock = Errno(rawValue: EAGAIN)
    /// EINTR; never leaves this library.
    static let interrupted = Errno(rawValue: EINTR)
    /// EINVAL
    package static let invalid = Errno(rawValue: EINVAL)
    /// EBADF
    package static let badDescriptor = Errno(rawValue: EBADF)
    /// EMFILE: this process has too many open files.
    package static let tooManyOpenFiles = Errno(rawValue: EMFILE)
    /// ENFILE: the system has too many open files.
    package static let tooManyOpenFilesInSystem = Errno(rawValue: ENFILE)
    /// ENOMEM
    package static let noMemory = Errno(rawValue: ENOMEM)
    /// EOPNOTSUPP, which is ENOTSUP
    package static let notSupported = Errno(rawValue: EOPNOTSUPP)
    /// ENOSYS: the kernel is too old, or a sandbox hides the call.
    package static let noSuchCall = Errno(rawValue: ENOSYS)
    /// ENODATA: no such extended attribute.
    package static let noData = Errno(rawValue: ENODATA)
    /// ENXIO
    package static let noDevice = Errno(rawValue: ENXIO)
    /// EADDRINUSE
    package static let addressInUse = Errno(rawValue: EADDRINUSE)
    /// ECONNREFUSED
    package static let connectionRefused = Errno(rawValue: ECONNREFUSED)
    /// ECONNRESET
    package static let connectionReset = Errno(rawValue: ECONNRESET)
    /// ECONNABORTED
    package static let connectionAborted = Errno(rawValue: ECONNABORTED)
    /// EPIPE
    package static let brokenPipe = Errno(rawValue: EPIPE)
    /// ETIMEDOUT
    package static let timedOut = Errno(rawValue: ETIMEDOUT)
}

extension Errno: CustomStringConvertible {
    /// The system's words: "No such file or directory".
    package var description: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            String(cString: ms_strerror(rawValue, buffer.baseAddress, buffer.count))
        }
    }
}

/// A call that the kernel refused: which, about what, why.
package struct SystemError: Error, Equatable, Sendable {
    /// The C function, as in its man page.
    package let call: String
    /// What it was about, for people; bytes that are not UTF-8 show as replacement characters.
    package let path: String
    package let errno: Errno

    package init(call: String, path: String, errno: Errno) {
        self.call = call
        self.path = path
        self.errno = errno
    }
}

extension SystemError {
    /// Whether something has run out that may be there again: space, descriptors, memory, watches.
    package var isShortage: Bool {
        [.noSpace, .quotaExceeded, .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory].contains(errno)
    }

    /// What the operator can do about it.
    package var shortageHint: String {
        switch errno {
        case .noSpace where call == "inotify_add_watch": "raise fs.inotify.max_user_watches"
        case .noSpace, .quotaExceeded: "free some space"
        case .tooManyOpenFiles where call == "inotify_init1": "raise fs.inotify.max_user_instances"
        case .tooManyOpenFiles: "raise the limit of open files (LimitNOFILE)"
        case .tooManyOpenFilesInSystem: "raise fs.file-max"
        default: "free some memory"
        }
    }
}

extension SystemError: CustomStringConvertible {
    /// `openat2: /var/spool/cyrus/a: No such file or directory`
    package var description: String { "\(call): \(path): \(errno)" }
}

/// Makes a C call until a signal does not interrupt it, and throws when it returns less than zero.
///
/// The only place that knows EINTR. Not for close(2): Linux has closed the descriptor even when it says EINTR.
@discardableResult
func kernel<Result: SignedInteger>(
    _ name: String, _ path: @autoclosure () -> String, _ call: () -> Result
) throws(SystemError) -> Result {
    try Simulation.kernel?.willCall(name, path())
    while true {
        let result = call()
        if result >= 0 { return result }
        let errno = Errno.current
        if errno != .interrupted { throw SystemError(call: name, path: path(), errno: errno) }
    }
}

/// The same for calls that return the error number itself, as pthread ones and posix_fallocate(3) do.
func kernel(returningError name: String, _ path: @autoclosure () -> String, _ call: () -> CInt) throws(SystemError) {
    try Simulation.kernel?.willCall(name, path())
    while true {
        let errno = Errno(rawValue: call())
        if errno.rawValue == 0 { return }
        if errno != .interrupted { throw SystemError(call: name, path: path(), errno: errno) }
    }
}

/// `bytes` as C wants a path; a NUL within would cut it short, so it is refused as EINVAL.
func terminated(_ bytes: some Collection<UInt8>, for call: String) throws(SystemError) -> [CChar] {
    var path: [CChar] = []
    path.reserveCapacity(bytes.count + 1)
    for byte in bytes {
        guard byte != 0 else {
            throw SystemError(call: call, path: String(decoding: bytes, as: UTF8.self), errno: .invalid)
        }
        path.append(CChar(bitPattern: byte))
    }
    path.append(0)
    return path
}

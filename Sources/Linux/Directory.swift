internal import CKernel
internal import Glibc

// A directory held open, and everything that is done beneath it.
//
// Paths are bytes relative to the directory: components between single slashes, the empty path for the directory
// itself. The kernel resolves them (openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so whatever somebody who
// may write in the tree plants there, no call follows a symbolic link or gets out:
//
//     a symbolic link on the way            Errno.symbolicLink
//     `..` that leads out, a leading slash  Errno.crossDevice
//
// Calls about a name in a directory (rename, unlink, ...) have no such flags in the kernel. For them the directory the
// name is in is opened first, in the same way, and the call gets that and the last component, which it never follows.

/// A directory held by its descriptor: stays the same directory when it is renamed, and can't be swapped for another.
///
/// All calls may come from several threads at once. None is durable on return: flush the directory (`flushDirectory`),
/// and of a new file the content before, or the whole file system.
package final class Directory: Sendable {
    /// For status, mode, owner, times, flushing of the directory itself.
    package let descriptor: Descriptor
    private let parents: ParentCache?

    init(_ descriptor: consuming Descriptor, parents: ParentResolution) {
        self.descriptor = descriptor
        self.parents = parents == .cachedBySoleWriter ? ParentCache() : nil
    }

    /// Opens the directory at `path`, following symbolic links this once (open).
    package convenience init(_ path: String, parents: ParentResolution = .always) throws(SystemError) {
        let raw = try kernel("open", path) { Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        self.init(Descriptor(owning: raw, path: path), parents: parents)
    }

    /// The same, made before if it does not exist; only its last component (mkdir, open).
    package static func make(
        _ path: String, mode: UInt16 = 0o700, parents: ParentResolution = .always
    ) throws(SystemError) -> Directory {
        do {
            try kernel("mkdir", path) { mkdir(path, mode_t(mode)) }
            if let simulated = Simulation.kernel {
                simulated.did(.madeDirectory(AT_FDCWD, try terminated(path.utf8, for: "mkdir")))
            }
        } catch let error where error.errno == .exists {
            // If it is something else, opening says so.
        }
        return try Directory(path, parents: parents)
    }

    /// The same, with what is missing above it, where anybody may look.
    package static func makeAll(_ path: String, mode: UInt16 = 0o700) throws(SystemError) -> Directory {
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            let parent = String(path[..<slash])
            if try FileStatus.of(parent) == nil { _ = try makeAll(parent, mode: 0o755) }
        }
        return try make(path, mode: mode)
    }

    /// As it was opened, for messages.
    package var path: String { descriptor.path }

    /// Forgets cached parents that are `path` or beneath it: to be called after somebody else moved or removed
    /// directories there. Our own renames and removals do so themselves. Without a cache, nothing happens.
    package func forgetCached(within path: [UInt8] = []) {
        // The cache knows paths in their plain form only; with another, better too much.
        parents?.forget(within: Component.areNames(path) ? path : [])
    }
}

// MARK: Opening

extension Directory {
    /// Opens a file (openat2). `mode` is for a new one, less the umask.
    ///
    /// A directory can be opened `.reading`; a pipe too, and does not wait for a writer: look at `status().kind`.
    /// Reading leaves the access time as it is, where the file is ours.
    package func open(
        _ path: [UInt8], for access: Access, mode: UInt16 = 0o600
    ) throws(SystemError) -> Descriptor {
        guard access == .reading else { return try open(path, access, access.flags, mode) }
        do {
            return try open(path, access, access.flags | CInt(MS_O_NOATIME), mode)
        } catch let error where error.errno == .notPermitted {
            return try open(path, access, access.flags, mode)
        }
    }

    private func open(
        _ path: [UInt8], _ access: Access, _ flags: CInt, _ mode: UInt16
    ) throws(SystemError) -> Descriptor {
        let flags = flags | O_NONBLOCK | O_NOCTTY
        let permissions = access.mayCreate ? mode : 0
        let opened = fullPath(path)
        guard parents != nil, !path.isEmpty else {
            let raw = try openBeneath(path, flags: flags, mode: permissions)
            Simulation.kernel?.did(.opened(raw, access))
            return Descriptor(owning: raw, path: opened)
        }
        let raw = try inParent(of: path, "openat2") { (parent, name) throws(SystemError) in
            try kernel("openat2", opened) { openat2(parent, name, flags, permissions) }
        }
        Simulation.kernel?.did(.opened(raw, access))
        return Descriptor(owning: raw, path: opened)
    }

    /// Opens a directory beneath, to be a root of its own (openat2).
    package func openDirectory(
        _ path: [UInt8], parents: ParentResolution = .always
    ) throws(SystemError) -> Directory {
        let raw = try openBeneath(path, flags: O_RDONLY | O_DIRECTORY)
        return Directory(Descriptor(owning: raw, path: fullPath(path)), parents: parents)
    }

    /// Opens a directory beneath only to name it: calls about what is in it then need not find it again, and none is
    /// permitted that was not (openat2, O_PATH).
    package func place(_ path: [UInt8]) throws(SystemError) -> Directory {
        let raw = try openBeneath(path, flags: onlyNaming | O_DIRECTORY)
        return Directory(Descriptor(owning: raw, path: fullPath(path)), parents: .always)
    }

    /// What a path has; of a symbolic link, the link's own. Nothing if there is no such path (fstatat).
    package func status(of path: [UInt8]) throws(SystemError) -> FileStatus? {
        if path.isEmpty { return try descriptor.status() }
        var found = stat()
        do {
            try inParent(of: path, "fstatat") { (parent, name) throws(SystemError) in
                try kernel("fstatat", fullPath(path)) { fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW) }
            }
        } catch let error where error.errno == .noEntry || error.errno == .notDirectory {
            return nil
        }
        return FileStatus(found)
    }

    /// The names in a directory but `.` and `..`, in no order (readdir). What comes or goes meanwhile may be in or not.
    package func entries(of path: [UInt8] = []) throws(SystemError) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        try forEachEntry(of: path) { (entry) throws(SystemError) in entries.append(entry) }
        return entries
    }

    /// The same one by one, for a directory whose names need not be in memory together.
    package func forEachEntry(
        of path: [UInt8] = [], _ body: (DirectoryEntry) throws(SystemError) -> Void
    ) throws(SystemError) {
        let raw = try openBeneath(path, flags: O_RDONLY | O_DIRECTORY)
        guard let stream = fdopendir(raw) else {
            let errno = Errno.current
            _ = Glibc.close(raw)  // the error that counts is the one before
            throw SystemError(call: "fdopendir", path: fullPath(path), errno: errno)
        }
        defer { closedir(stream) }
        while true {
            Glibc.errno = 0  // readdir says "end" and "error" alike, but for this
            guard let entry = readdir(stream) else {
                let errno = Errno.current
                if errno.rawValue == 0 { return }
                throw SystemError(call: "readdir", path: fullPath(path), errno: errno)
            }
            if let entry = DirectoryEntry(entry) { try body(entry) }
        }
    }

    /// Of `entry`, which is at `path`: not every file system tells it with the name. Nothing if it is gone.
    package func kind(of entry: DirectoryEntry, at path: [UInt8]) throws(SystemError) -> FileKind? {
        if let kind = entry.kind { return kind }
        return try status(of: path)?.kind
    }

    /// On return the names in this directory are on disk, and with them which files they are (fsync).
    package func flushDirectory(_ path: [UInt8] = []) throws(SystemError) {
        if path.isEmpty { return try descriptor.flush() }
        let raw = try openBeneath(path, flags: O_RDONLY | O_DIRECTORY)
        try Descriptor(owning: raw, path: fullPath(path)).flush()
    }

    /// Of what a path is on (fstatfs).
    package func fileSystem(of path: [UInt8] = []) throws(SystemError) -> FileSystemStatus {
        let place = Descriptor(owning: try openBeneath(path, flags: onlyNaming), path: fullPath(path))
        return try place.fileSystem()
    }
}

// MARK: Resolution

extension Directory {
    /// For messages.
    func fullPath(_ path: [UInt8]) -> String {
        path.isEmpty ? self.path : self.path + "/" + String(decoding: path, as: UTF8.self)
    }

    private func openBeneath(_ path: [UInt8], flags: CInt, mode: UInt16 = 0) throws(SystemError) -> CInt {
        let name = try terminated(path.isEmpty ? [Component.dot] : path, for: "openat2")
        return try kernel("openat2", fullPath(path)) { openat2(descriptor.raw, name, flags, mode) }
    }

    /// Calls `call` with the directory that `path` is in, and its last component.
    ///
    /// A parent from the cache that no longer has the name may have been removed, and made again: then it is looked up
    /// anew.
    @discardableResult
    func inParent<Result>(
        of path: [UInt8], _ callName: String, _ call: (CInt, [CChar]) throws(SystemError) -> Result
    ) throws(SystemError) -> Result {
        guard let (parentPath, last) = Component.split(path) else {
            throw SystemError(call: callName, path: fullPath(path), errno: .crossDevice)
        }
        let name = try terminated(last, for: callName)
        guard !parentPath.isEmpty else { return try call(descriptor.raw, name) }
        if let cached = parents?.find(parentPath) {
            do {
                return try call(cached.descriptor.raw, name)
            } catch let error where error.errno == .noEntry {
                guard try cached.descriptor.status().linkCount == 0 else { throw error }
                parents?.forget(within: parentPath)
            }
        }
        let ticket = parents?.ticket()
        let raw = try openBeneath(parentPath, flags: onlyNaming | O_DIRECTORY)
        let parent = HeldDescriptor(Descriptor(owning: raw, path: self.path))
        if let ticket, Component.areNames(parentPath) { parents?.keep(parent, for: parentPath, ticket) }
        return try call(parent.descriptor.raw, name)
    }

    /// The same for calls about two names. Either parent may be a stale one from the cache; each is retried once.
    @discardableResult
    func inParents<Result>(
        of source: [UInt8], and target: [UInt8], in root: Directory, _ callName: String,
        _ call: (CInt, [CChar], CInt, [CChar]) throws(SystemError) -> Result
    ) throws(SystemError) -> Result {
        try inParent(of: source, callName) { (from, oldName) throws(SystemError) in
            try root.inParent(of: target, callName) { (to, newName) throws(SystemError) in
                try call(from, oldName, to, newName)
            }
        }
    }
}

enum Component {
    static let slash = UInt8(ascii: "/")
    static let dot = UInt8(ascii: ".")

    /// The directory a path is in, empty for the root, and its last component.
    ///
    /// Nothing for a path that is absolute or ends in `.`, `..` or a slash: openat2 would refuse to leave the root
    /// that way, the calls that take a last component would not.
    static func split(_ path: [UInt8]) -> (parent: [UInt8], last: ArraySlice<UInt8>)? {
        guard path.first != slash else { return nil }
        let cut = path.lastIndex(of: slash)
        let last = path[(cut.map { $0 + 1 } ?? 0)...]
        guard !last.isEmpty, !isDots(last) else { return nil }
        return (cut.map { Array(path[..<$0]) } ?? [], last)
    }

    /// Whether this is the plain way to write a path; others work, but `ParentCache` can't tell that they are the same.
    static func areNames(_ path: [UInt8]) -> Bool {
        path.split(separator: slash, omittingEmptySubsequences: false).allSatisfy {
            !$0.isEmpty && !isDots($0)
        }
    }

    /// `.` or `..`
    static func isDots(_ name: some Collection<UInt8>) -> Bool {
        name.count <= 2 && !name.isEmpty && name.allSatisfy { $0 == dot }
    }
}

/// O_PATH: only to name it; needs no permission to read, opens no device.
private let onlyNaming = CInt(MS_O_PATH)

private func openat2(_ directory: CInt, _ path: [CChar], _ flags: CInt, _ mode: UInt16) -> CInt {
    // With O_PATH the kernel accepts few other flags, O_CLOEXEC among them.
    let resolve = UInt64(MS_RESOLVE_BENEATH | MS_RESOLVE_NO_SYMLINKS | MS_RESOLVE_NO_MAGICLINKS)
    // EAGAIN: something was renamed while a `..` was resolved, so the kernel could not be sure; it says to try again.
    for _ in 0..<64 {
        let raw = ms_openat2(directory, path, UInt64(flags | O_CLOEXEC), UInt64(mode), resolve)
        if raw >= 0 || Errno.current != .wouldBlock { return raw }
    }
    return ms_openat2(directory, path, UInt64(flags | O_CLOEXEC), UInt64(mode), resolve)
}

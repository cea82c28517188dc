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

/// What to do about an older file of the same name.
package enum ExistingTarget: Hashable, Sendable {
    /// Replace it in one step: whoever looks sees the old or the new.
    case replace
    /// Throw `Errno.exists`.
    case refuse
}

/// What `makeDirectory` found.
package enum MadeDirectory: Hashable, Sendable { case created, existed }

/// One name in a directory.
package struct DirectoryEntry: Hashable, Sendable {
    package let name: [UInt8]
    /// A hint from the directory itself; nothing if this file system doesn't keep it: ask `status(of:)`.
    package let kind: FileKind?

    package init(name: [UInt8], kind: FileKind?) {
        self.name = name
        self.kind = kind
    }
}

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
        } catch where error.errno == .exists {
            // If it is something else, opening says so.
        }
        return try Directory(path, parents: parents)
    }

    /// As it was opened, for messages.
    package var path: String { descriptor.path }

    /// Forgets cached parents that are `path` or beneath it: to be called after somebody else moved or removed
    /// directories there. Our own renames and removals do so themselves. Without a cache, nothing happens.
    package func forgetCached(within path: [UInt8] = []) { parents?.forget(within: path) }
}

// MARK: Opening

extension Directory {
    /// Opens a file (openat2). `mode` is for a new one, less the umask.
    ///
    /// A directory can be opened `.reading`; a pipe too, and does not wait for a writer: look at `status().kind`.
    package func open(
        _ path: [UInt8], for access: Access, mode: UInt16 = 0o600
    ) throws(SystemError) -> Descriptor {
        let flags = access.flags | O_NONBLOCK | O_NOCTTY
        let permissions = access.mayCreate ? mode : 0
        let opened = fullPath(path)
        guard parents != nil, !path.isEmpty else {
            return Descriptor(owning: try openBeneath(path, flags: flags, mode: permissions), path: opened)
        }
        let raw = try inParent(of: path, "openat2") { (parent, name) throws(SystemError) in
            try kernel("openat2", opened) { openat2(parent, name, flags, permissions) }
        }
        return Descriptor(owning: raw, path: opened)
    }

    /// Opens a directory beneath, to be a root of its own (openat2).
    package func openDirectory(
        _ path: [UInt8], parents: ParentResolution = .always
    ) throws(SystemError) -> Directory {
        let raw = try openBeneath(path, flags: O_RDONLY | O_DIRECTORY)
        return Directory(Descriptor(owning: raw, path: fullPath(path)), parents: parents)
    }

    /// What a path has; of a symbolic link, the link's own. Nothing if there is no such path (fstatat).
    package func status(of path: [UInt8]) throws(SystemError) -> FileStatus? {
        if path.isEmpty { return try descriptor.status() }
        var found = stat()
        do {
            try inParent(of: path, "fstatat") { (parent, name) throws(SystemError) in
                try kernel("fstatat", fullPath(path)) { fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW) }
            }
        } catch where error.errno == .noEntry || error.errno == .notDirectory {
            return nil
        }
        return FileStatus(found)
    }

    /// The names in a directory but `.` and `..`, in no order (readdir). What comes or goes meanwhile may be in or not.
    package func entries(of path: [UInt8] = []) throws(SystemError) -> [DirectoryEntry] {
        let raw = try openBeneath(path, flags: O_RDONLY | O_DIRECTORY)
        guard let stream = fdopendir(raw) else {
            let errno = Errno.current
            _ = Glibc.close(raw)  // the error that counts is the one before
            throw SystemError(call: "fdopendir", path: fullPath(path), errno: errno)
        }
        defer { closedir(stream) }
        var entries: [DirectoryEntry] = []
        while true {
            Glibc.errno = 0  // readdir says "end" and "error" alike, but for this
            guard let entry = readdir(stream) else {
                let errno = Errno.current
                if errno.rawValue == 0 { return entries }
                throw SystemError(call: "readdir", path: fullPath(path), errno: errno)
            }
            if let entry = DirectoryEntry(entry) { entries.append(entry) }
        }
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

// MARK: Names

extension Directory {
    /// Makes a directory, or finds that there is one (mkdirat). `mode` is less the umask.
    /// `Errno.exists` when the name is taken by something else.
    @discardableResult
    package func makeDirectory(_ path: [UInt8], mode: UInt16 = 0o700) throws(SystemError) -> MadeDirectory {
        do {
            try inParent(of: path, "mkdirat") { (parent, name) throws(SystemError) in
                try kernel("mkdirat", fullPath(path)) { mkdirat(parent, name, mode_t(mode)) }
            }
            return .created
        } catch where error.errno == .exists {
            guard try status(of: path)?.kind == .directory else { throw error }
            return .existed
        }
    }

    /// Renames anything, also into another root of the same file system (renameat2).
    package func rename(
        _ source: [UInt8], to target: [UInt8], in root: Directory? = nil, existing: ExistingTarget = .replace
    ) throws(SystemError) {
        let root = root ?? self
        let flags = existing == .refuse ? UInt32(MS_RENAME_NOREPLACE) : 0
        try inParents(of: source, and: target, in: root, "renameat2") {
            (from, oldName, to, newName) throws(SystemError) in
            try kernel("renameat2", "\(fullPath(source)) -> \(root.fullPath(target))") {
                ms_renameat2(from, oldName, to, newName, flags)
            }
        }
        forgetCached(within: source)
        root.forgetCached(within: target)
    }

    /// Gives a file a second name, also in another root of the same file system (linkat). `Errno.exists` if it is taken.
    package func link(
        _ source: [UInt8], to target: [UInt8], in root: Directory? = nil
    ) throws(SystemError) {
        let root = root ?? self
        try inParents(of: source, and: target, in: root, "linkat") {
            (from, oldName, to, newName) throws(SystemError) in
            try kernel("linkat", "\(fullPath(source)) -> \(root.fullPath(target))") {
                linkat(from, oldName, to, newName, 0)
            }
        }
    }

    /// Makes a symbolic link that holds `contents`, which nobody looks at (symlinkat).
    package func symlink(_ contents: [UInt8], at path: [UInt8]) throws(SystemError) {
        let contents = try terminated(contents, for: "symlinkat")
        try inParent(of: path, "symlinkat") { (parent, name) throws(SystemError) in
            try kernel("symlinkat", fullPath(path)) { symlinkat(contents, parent, name) }
        }
    }

    /// What a symbolic link holds (readlinkat). `Errno.invalid` if it isn't one.
    package func readLink(_ path: [UInt8]) throws(SystemError) -> [UInt8] {
        // A link holds fewer bytes than PATH_MAX, which is 4096.
        var contents = [CChar](repeating: 0, count: 4096)
        let count = try inParent(of: path, "readlinkat") { (parent, name) throws(SystemError) in
            try kernel("readlinkat", fullPath(path)) { readlinkat(parent, name, &contents, contents.count) }
        }
        return contents[..<count].map { UInt8(bitPattern: $0) }
    }

    /// Takes a name away from a file or link (unlinkat). `Errno.isDirectory` if it is a directory.
    package func unlink(_ path: [UInt8]) throws(SystemError) {
        try inParent(of: path, "unlinkat") { (parent, name) throws(SystemError) in
            try kernel("unlinkat", fullPath(path)) { unlinkat(parent, name, 0) }
        }
    }

    /// Removes an empty directory (unlinkat AT_REMOVEDIR). `Errno.directoryNotEmpty` if it isn't.
    package func removeDirectory(_ path: [UInt8]) throws(SystemError) {
        try inParent(of: path, "unlinkat") { (parent, name) throws(SystemError) in
            try kernel("unlinkat", fullPath(path)) { unlinkat(parent, name, AT_REMOVEDIR) }
        }
        forgetCached(within: path)
    }

    /// Of a symbolic link, the link's own (fchownat).
    package func setOwner(of path: [UInt8], to owner: UInt32, group: UInt32) throws(SystemError) {
        if path.isEmpty { return try descriptor.setOwner(owner, group: group) }
        try inParent(of: path, "fchownat") { (parent, name) throws(SystemError) in
            try kernel("fchownat", fullPath(path)) { fchownat(parent, name, owner, group, AT_SYMLINK_NOFOLLOW) }
        }
    }
}

// MARK: Resolution

extension Directory {
    /// For messages.
    private func fullPath(_ path: [UInt8]) -> String {
        path.isEmpty ? self.path : self.path + "/" + String(decoding: path, as: UTF8.self)
    }

    private func openBeneath(_ path: [UInt8], flags: CInt, mode: UInt16 = 0) throws(SystemError) -> CInt {
        let name = try terminated(path.isEmpty ? [Component.dot] : path, for: "openat2")
        return try kernel("openat2", fullPath(path)) { openat2(descriptor.raw, name, flags, mode) }
    }

    /// Calls `call` with the directory that `path` is in, and its last component.
    ///
    /// A parent from the cache that no longer has the name may have been moved away: then it is looked up anew.
    @discardableResult
    private func inParent<Result>(
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
            } catch where error.errno == .noEntry {
                parents?.forget(within: parentPath)
            }
        }
        let ticket = parents?.ticket()
        let raw = try openBeneath(parentPath, flags: onlyNaming | O_DIRECTORY)
        let parent = HeldDescriptor(Descriptor(owning: raw, path: fullPath(parentPath)))
        if let ticket, Component.areNames(parentPath) { parents?.keep(parent, for: parentPath, ticket) }
        return try call(parent.descriptor.raw, name)
    }

    /// The same for calls about two names. Either parent may be a stale one from the cache; each is retried once.
    @discardableResult
    private func inParents<Result>(
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

private enum Component {
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
        guard !last.isEmpty, !last.elementsEqual([dot]), !last.elementsEqual([dot, dot]) else { return nil }
        return (cut.map { Array(path[..<$0]) } ?? [], last)
    }

    /// Whether this is the one way to write this path; others work, but `ParentCache.forget` would not know them.
    static func areNames(_ path: [UInt8]) -> Bool {
        path.split(separator: slash, omittingEmptySubsequences: false).allSatisfy {
            !$0.isEmpty && !$0.elementsEqual([dot]) && !$0.elementsEqual([dot, dot])
        }
    }
}

/// O_PATH: only to name it; needs no permission to read, opens no device.
private let onlyNaming = CInt(MS_O_PATH)

private func openat2(_ directory: CInt, _ path: [CChar], _ flags: CInt, _ mode: UInt16) -> CInt {
    // With O_PATH the kernel accepts few other flags, O_CLOEXEC among them.
    let resolve = UInt64(MS_RESOLVE_BENEATH | MS_RESOLVE_NO_SYMLINKS | MS_RESOLVE_NO_MAGICLINKS)
    return ms_openat2(directory, path, UInt64(flags | O_CLOEXEC), UInt64(mode), resolve)
}

extension DirectoryEntry {
    /// Nothing for `.` and `..`.
    fileprivate init?(_ entry: UnsafeMutablePointer<dirent>) {
        // The name may reach beyond the C struct's array, so it is read by its address, not as a tuple.
        let offset = MemoryLayout<dirent>.offset(of: \.d_name)!
        let start = UnsafeRawPointer(entry).advanced(by: offset).assumingMemoryBound(to: UInt8.self)
        let name = UnsafeBufferPointer(start: start, count: strlen(UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)))
        if name.elementsEqual([Component.dot]) || name.elementsEqual([Component.dot, Component.dot]) { return nil }
        self.init(name: Array(name), kind: FileKind(hint: entry.pointee.d_type))
    }
}

extension FileKind {
    fileprivate init?(hint: UInt8) {
        switch Int(hint) {
        case Int(DT_REG): self = .file
        case Int(DT_DIR): self = .directory
        case Int(DT_LNK): self = .symlink
        case Int(DT_UNKNOWN): return nil
        default: self = .other
        }
    }
}

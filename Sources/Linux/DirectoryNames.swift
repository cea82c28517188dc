internal import CKernel
internal import Glibc

// What changes or reads the names in directories beneath a `Directory`; how a name is found, its head says.

/// What to do about an older file of the same name.
package enum ExistingTarget: Hashable, Sendable {
    /// Replace it in one step: whoever looks sees the old or the new.
    case replace
    /// Throw `Errno.exists`.
    case refuse
}

/// What `makeDirectory` found.
package enum MadeDirectory: Hashable, Sendable { case created, existed }

extension Directory {
    /// Makes a directory, or finds that there is one (mkdirat). `mode` is less the umask.
    /// `Errno.exists` when the name is taken by something else.
    @discardableResult
    package func makeDirectory(_ path: [UInt8], mode: UInt16 = 0o700) throws(SystemError) -> MadeDirectory {
        do {
            try inParent(of: path, "mkdirat") { (parent, name) throws(SystemError) in
                try kernel("mkdirat", fullPath(path)) { mkdirat(parent, name, mode_t(mode)) }
                Simulation.kernel?.did(.madeDirectory(parent, name))
            }
            return .created
        } catch let error where error.errno == .exists {
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
            Simulation.kernel?.did(.renamed(from, oldName, to: to, newName))
        }
        forgetCached(within: source)
        root.forgetCached(within: target)
    }

    /// Gives a file a second name, also in another root of the same file system (linkat).
    /// `Errno.exists` if it is taken.
    package func link(
        _ source: [UInt8], to target: [UInt8], in root: Directory? = nil
    ) throws(SystemError) {
        let root = root ?? self
        try inParents(of: source, and: target, in: root, "linkat") {
            (from, oldName, to, newName) throws(SystemError) in
            try kernel("linkat", "\(fullPath(source)) -> \(root.fullPath(target))") {
                linkat(from, oldName, to, newName, 0)
            }
            Simulation.kernel?.did(.linked(from, oldName, to: to, newName))
        }
    }

    /// Makes a symbolic link that holds `contents`, which nobody looks at (symlinkat).
    package func symlink(_ contents: [UInt8], at path: [UInt8]) throws(SystemError) {
        let contents = try terminated(contents, for: "symlinkat")
        try inParent(of: path, "symlinkat") { (parent, name) throws(SystemError) in
            try kernel("symlinkat", fullPath(path)) { symlinkat(contents, parent, name) }
            Simulation.kernel?.did(.symlinked(contents, at: parent, name))
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
            Simulation.kernel?.did(.unlinked(parent, name))
        }
    }

    /// Removes an empty directory (unlinkat AT_REMOVEDIR). `Errno.directoryNotEmpty` if it isn't.
    package func removeDirectory(_ path: [UInt8]) throws(SystemError) {
        try inParent(of: path, "unlinkat") { (parent, name) throws(SystemError) in
            try kernel("unlinkat", fullPath(path)) { unlinkat(parent, name, AT_REMOVEDIR) }
            Simulation.kernel?.did(.unlinked(parent, name))
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

    /// Sets the modification time; of a symbolic link, the link's own (utimensat).
    package func setTimes(of path: [UInt8], mtimeNanoseconds: Int64) throws(SystemError) {
        if path.isEmpty { return try descriptor.setTimes(mtimeNanoseconds: mtimeNanoseconds) }
        let omit = Glibc.timespec(tv_sec: 0, tv_nsec: Int(MS_UTIME_OMIT))
        let times = [omit, timespec(nanoseconds: mtimeNanoseconds)]
        try inParent(of: path, "utimensat") { (parent, name) throws(SystemError) in
            try kernel("utimensat", fullPath(path)) { utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) }
            Simulation.kernel?.did(.setTimesOf(parent, name, mtimeNanoseconds: mtimeNanoseconds))
        }
    }
}

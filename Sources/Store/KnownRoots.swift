package import Formats
package import Linux

/// Which directories the roots of the store were when mailsync looked last: `roots` in the state directory, a line each.
///
/// Another directory at that path is most likely what is below the mount point of a file system that is not mounted; there may well
/// be files in it, as Cyrus makes its databases anew when it starts. A replica would be followed, and promoted, as if nothing had
/// happened; a primary would tell that all was removed.
package struct KnownRoots: Equatable, Sendable {
    private var directories: [RootName: DirectoryIdentity] = [:]

    private static let fileName = "roots"

    /// Of directories that are held open.
    package init(_ opened: [RootName: Directory]) throws(SystemError) {
        for (name, directory) in opened { directories[name] = try DirectoryIdentity(of: directory) }
    }

    /// What is at the paths of `layout` now; what is missing is left out.
    package init(at layout: StoreLayout) throws(SystemError) {
        for root in layout.roots where try FileStatus.of(root.path) != nil {
            directories[root.name] = try DirectoryIdentity(of: try Directory(root.path))
        }
    }

    /// As they were. None is known where there is no such file; a line that is no good tells of none.
    package init(in state: String) throws(SystemError) {
        guard let bytes = try AtomicFile.read(directory: state, name: Self.fileName, max: 1 << 20) else { return }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 2)
            guard words.count == 3, let inode = UInt64(words[0]), let born = Int64(words[1]) else { continue }
            directories[RootName(String(words[2]))] = DirectoryIdentity(inode: inode, bornNanoseconds: born)
        }
    }

    /// On disk on return, if it was not there already.
    package func save(in state: String) throws(SystemError) {
        guard try self != KnownRoots(in: state) else { return }
        let lines = directories.map { "\($0.value.inode) \($0.value.bornNanoseconds) \($0.key)\n" }.sorted()
        try AtomicFile.replace(directory: state, name: Self.fileName, bytes: Array(lines.joined().utf8))
    }

    /// Throws the first of `strangers`.
    package func check(_ layout: StoreLayout, _ found: KnownRoots, of end: StrangeRoot.End) throws(StrangeRoot) {
        if let stranger = strangers(layout, found, of: end).first { throw stranger }
    }

    /// The roots of `layout` that are known and are missing in `found`, and then those that are other directories there. One that nobody
    /// configured may be missing.
    package func strangers(_ layout: StoreLayout, _ found: KnownRoots, of end: StrangeRoot.End) -> [StrangeRoot] {
        let known = layout.roots.filter { directories[$0.name] != nil }
        func stranger(_ root: StoreLayout.Root, isThere: Bool) -> StrangeRoot {
            StrangeRoot(name: root.name, path: root.path, isThere: isThere, end: end)
        }
        let missing = known.filter { found.directories[$0.name] == nil && $0.origin == .configured }
        let other = known.filter { root in
            guard let before = directories[root.name], let now = found.directories[root.name] else { return false }
            return !now.isSame(as: before)
        }
        return missing.map { stranger($0, isThere: false) } + other.map { stranger($0, isThere: true) }
    }
}

/// What tells a directory from another one at its path, over restarts of the host: numbers of devices are not the same after them.
package struct DirectoryIdentity: Equatable, Sendable {
    let inode: UInt64
    /// 0 where the file system does not keep it. The root of a file system has the inode that all of its kind have.
    let bornNanoseconds: Int64

    init(inode: UInt64, bornNanoseconds: Int64) { (self.inode, self.bornNanoseconds) = (inode, bornNanoseconds) }

    init(of directory: Directory) throws(SystemError) {
        self.init(
            inode: try directory.descriptor.status().inode,
            bornNanoseconds: try directory.descriptor.birthNanoseconds())
    }

    func isSame(as other: DirectoryIdentity) -> Bool {
        inode == other.inode
            && (bornNanoseconds == other.bornNanoseconds || bornNanoseconds == 0 || other.bornNanoseconds == 0)
    }
}

/// A root of the store is another directory than it was, or is not there.
package struct StrangeRoot: Error, Equatable, CustomStringConvertible {
    package enum End: Sendable { case primary, replica }

    package let name: RootName
    package let path: String
    package let isThere: Bool
    let end: End

    package var description: String {
        isThere
            ? "\(name): \(path) is another directory than the one mailsync used last"
            : "\(name): \(path) is not there, and was when mailsync ran last"
    }

    package var hint: String {
        let question = "is its file system mounted, and the path in imapd.conf right?"
        return switch (end, isThere) {
        case (.primary, true):
            "\(question) If all of it was moved there, \"mailsync resume\" says so, and what is not as before is told to the replicas"
        case (.primary, false):
            "\(question) If all of it was removed on purpose, make the directory anew, and say \"mailsync resume\""
        case (.replica, _):
            "\(question) If all of it was moved, \"mailsync seed --overwrite\" compares it with the primary"
        }
    }
}

package import Formats
package import Linux

/// The roots of a mail store, held open: everything is reached beneath one of them, no symbolic link followed.
///
/// Gives no descriptor that can write; who may write opens roots of its own.
package final class StoreRoots: Sendable {
    package let layout: StoreLayout
    private let roots: [RootName: Directory]
    /// Directories of one root that are another root, and belong to that.
    let nested: Set<StorePath>
    /// The user and group the store belongs to: those of its configuration directory.
    package let owner: UInt32
    package let group: UInt32

    /// Throws if a root cannot be opened. One that nobody configured may be missing.
    package init(_ layout: StoreLayout) throws(SystemError) {
        var roots: [RootName: Directory] = [:]
        for root in layout.roots {
            if root.origin == .builtIn, try FileStatus.of(root.path) == nil { continue }
            roots[root.name] = try Directory(root.path)
        }
        guard let configuration = roots[.configuration] else { preconditionFailure("a layout without configdirectory") }
        let status = try configuration.descriptor.status()
        (owner, group) = (status.owner, status.group)
        self.layout = layout
        self.roots = roots
        names = layout.roots.map(\.name).filter { roots[$0] != nil }
        nested = Set(layout.roots.flatMap { layout.nestedRoots(in: $0.name) })
    }

    /// Sorted.
    package let names: [RootName]

    /// Which directories they are.
    package var known: KnownRoots { get throws(SystemError) { try KnownRoots(roots) } }

    /// Throws `MovedRoot` if the path of a root leads elsewhere than when this was made.
    package func checkPlaces() throws { try layout.checkPlaces(of: roots) }

    /// Whether there is any file in a root that travels. What may not be looked at is one, for `check` and capture to tell of.
    package func hasFiles(in root: RootName) throws(SystemError) -> Bool { try hasFiles(in: StorePath(root: root)) }

    private func hasFiles(in directory: StorePath) throws(SystemError) -> Bool {
        let found: [DirectoryEntry]?
        do throws(SystemError) { found = try entries(of: directory) } catch {
            guard error.errno == .accessDenied else { throw error }
            return true
        }
        for entry in found ?? [] where StorePath.isName(entry.name) {
            let path = directory.appending(entry.name)
            guard isShipped(path) else { continue }
            guard try kind(of: entry, at: path) == .directory else { return true }
            if try hasFiles(in: path) { return true }
        }
        return false
    }

    /// Whether what is at `path`, or below it, is a part of what travels.
    package func isShipped(_ path: StorePath) -> Bool {
        isShipped(path, as: layout.role(of: path))
    }

    /// Whether it would travel if its path were not more than a record may say; the primary tells of such a name where it is.
    package func isTooLong(_ path: StorePath) -> Bool {
        path.path.count > StorePath.pathBytesMax && layout.role(of: path).shipping == .always
    }

    /// The same for who knows its role.
    package func isShipped(_ path: StorePath, as role: FileRole) -> Bool {
        role.shipping == .always && (nested.isEmpty || !nested.contains(path))
            && path.path.count <= StorePath.pathBytesMax
    }

    /// Nothing at that name, here.
    private func root(_ name: RootName) throws(SystemError) -> Directory {
        guard let root = roots[name] else { throw SystemError(call: "open", path: name.name, errno: .noEntry) }
        return root
    }

    /// For reading.
    package func open(_ path: StorePath) throws(SystemError) -> Descriptor {
        try root(path.root).open(path.path, for: .reading)
    }

    /// Nothing if there is no such path.
    package func status(of path: StorePath) throws(SystemError) -> FileStatus? {
        try root(path.root).status(of: path.path)
    }

    /// In no order. Nothing if there is no such directory.
    package func entries(of directory: StorePath) throws(SystemError) -> [DirectoryEntry]? {
        do throws(SystemError) {
            return try root(directory.root).entries(of: directory.path)
        } catch {
            guard error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return nil
        }
    }

    /// Of `entry`, which is at `path`. Nothing if it is gone.
    package func kind(of entry: DirectoryEntry, at path: StorePath) throws(SystemError) -> FileKind? {
        try root(path.root).kind(of: entry, at: path.path)
    }

    /// `entries` one by one; false if there is no such directory.
    package func forEachEntry(
        of directory: StorePath, _ body: (DirectoryEntry) throws(SystemError) -> Void
    ) throws(SystemError) -> Bool {
        var inside: SystemError?
        do throws(SystemError) {
            try root(directory.root).forEachEntry(of: directory.path) { (entry) throws(SystemError) in
                do throws(SystemError) { try body(entry) } catch {
                    inside = error
                    throw error
                }
            }
            return true
        } catch {
            guard inside == nil, error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return false
        }
    }

    package func readLink(_ path: StorePath) throws(SystemError) -> [UInt8] {
        try root(path.root).readLink(path.path)
    }

    /// A directory held open, for several calls about names in it. Nothing if there is no such directory.
    package func directory(_ directory: StorePath) throws(SystemError) -> Directory? {
        do throws(SystemError) {
            let root = try root(directory.root)
            return directory.isRoot ? root : try root.place(directory.path)
        } catch {
            guard error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return nil
        }
    }

    /// Opens and locks one file, as `Directory.openLocked` does.
    package func openLocked(_ path: StorePath, _ locking: FileLocking) throws(SystemError) -> LockedFile? {
        guard let place = try directory(path.parent) else {
            throw SystemError(call: "open", path: "\(path)", errno: .noEntry)
        }
        return try place.openLocked(Array(path.name), locking)
    }

    /// As the kernel knows it, for a call that takes no directory.
    package func absolutePath(of path: StorePath) throws(SystemError) -> String {
        let base = try root(path.root).path
        return path.isRoot ? base : base + "/" + String(decoding: path.path, as: UTF8.self)
    }

    /// What a file is besides its content, in the words of the log.
    package func metadata(_ status: FileStatus, attributes: [ExtendedAttribute] = []) -> Metadata {
        Metadata(
            // No mail runs: a replica sets no file's set-user-id, so none is told.
            mode: status.kind == .file ? status.mode & 0o777 : status.mode, mtimeNanoseconds: status.mtimeNanoseconds,
            owner: status.owner == owner ? nil : status.owner, group: status.group == group ? nil : status.group,
            attributes: attributes.map { Metadata.Attribute(name: $0.name, value: $0.value) })
    }
}

extension StoreLayout {
    /// Throws `MovedRoot` if the path of one of `opened` leads elsewhere than when it was opened.
    package func checkPlaces(of opened: [RootName: Directory]) throws {
        for root in roots {
            guard let before = try opened[root.name]?.descriptor.status() else { continue }
            let now = try FileStatus.of(root.path, followingLinks: true)
            guard now?.inode == before.inode, now?.device == before.device else {
                throw MovedRoot(name: root.name, path: root.path, isThere: now != nil)
            }
        }
    }
}

/// A root was moved, unmounted or mounted over while it was in use: what is there now has nothing to do with this store.
package struct MovedRoot: Error, Equatable, CustomStringConvertible {
    let name: RootName
    let path: String
    let isThere: Bool

    package var description: String {
        "\(name): \(path): is \(isThere ? "another directory than when this began" : "not there any more"): "
            + "what is there has no part in replication"
    }

    package static let hint =
        "put it back, and start mailsync again; if all of it was moved, that tells how to go on"
}

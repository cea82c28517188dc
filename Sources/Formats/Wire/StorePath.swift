/// A root of a mail store by the word imapd.conf uses for it: `configdirectory`, `partition-default`, `sievedir`.
///
/// The two ends may keep a root in different places; the word is the same on both.
package struct RootName: Sendable, Comparable, CustomStringConvertible {
    package let name: String
    /// Asked for at every path.
    let kind: RootKind

    package init(_ name: String) {
        self.name = name
        kind = RootKind(named: name)
    }

    package static let configuration = RootName(RootKind.configurationName)
    package static let sieve = RootName(RootKind.sieveName)

    package static func < (one: RootName, other: RootName) -> Bool { one.name < other.name }
    package var description: String { name }
}

extension RootName: Hashable {
    package static func == (one: RootName, other: RootName) -> Bool { one.name == other.name }
    package func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// Where something is in a mail store: a root and a path below it.
///
/// Names of files are bytes, not always UTF-8. A path is never absolute, has no empty, `.` or `..` component, and no
/// NUL: the initialiser refuses others, so that what comes off a wire cannot point outside a root. The empty path is
/// the root itself.
package struct StorePath: Hashable, Sendable {
    package let root: RootName
    package let path: [UInt8]

    /// As the kernel's PATH_MAX, less room for the root.
    package static let pathBytesMax = 4000
    package static let nameBytesMax = 255

    /// Nothing if `path` is not a path below a root.
    package init?(root: RootName, path: some Collection<UInt8>) {
        guard path.count <= Self.pathBytesMax else { return nil }
        self.root = root
        self.path = Array(path)
        guard self.path.isEmpty || components.allSatisfy(Self.isName) else { return nil }
    }

    private init(unchecked path: [UInt8], root: RootName) {
        self.root = root
        self.path = path
    }

    /// The root itself.
    package init(root: RootName) { self.init(unchecked: [], root: root) }

    /// For paths known to be well formed, as in tests; traps on others.
    package init(_ root: RootName, _ path: String) {
        guard let good = StorePath(root: root, path: Array(path.utf8)) else { preconditionFailure("no path: \(path)") }
        self = good
    }

    package static func isName(_ name: some Collection<UInt8>) -> Bool {
        let count = name.count
        guard count > 0, count <= nameBytesMax else { return false }
        if count <= 2, name.allSatisfy({ $0 == dot }) { return false }
        // Every path that is made passes here: in one go over the bytes, where they lie together.
        return name.withContiguousStorageIfAvailable(areInName) ?? Array(name).withUnsafeBufferPointer(areInName)
    }

    private static func areInName(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        for byte in bytes where byte == slash || byte == 0 { return false }
        return true
    }

    package var isRoot: Bool { path.isEmpty }

    package var components: [ArraySlice<UInt8>] {
        path.split(separator: Self.slash, omittingEmptySubsequences: false)
    }

    /// The last component; empty for a root.
    package var name: ArraySlice<UInt8> {
        guard let cut = path.lastIndex(of: Self.slash) else { return path[...] }
        return path[(cut + 1)...]
    }

    /// The directory it is in; of a root, itself.
    package var parent: StorePath {
        guard let cut = path.lastIndex(of: Self.slash) else { return StorePath(root: root) }
        return StorePath(unchecked: Array(path[..<cut]), root: root)
    }

    /// `name` in this directory, which must be a name (`isName`).
    package func appending(_ name: some Collection<UInt8>) -> StorePath {
        precondition(Self.isName(name), "not a file's name: \(Array(name))")
        if path.isEmpty { return StorePath(unchecked: Array(name), root: root) }
        var longer = path
        longer.reserveCapacity(path.count + 1 + name.count)
        longer.append(Self.slash)
        longer.append(contentsOf: name)
        return StorePath(unchecked: longer, root: root)
    }

    package func appending(_ name: String) -> StorePath { appending(Array(name.utf8)) }

    /// Whether this is `directory` or anything below it.
    package func isWithin(_ directory: StorePath) -> Bool {
        guard root == directory.root, path.starts(with: directory.path) else { return false }
        return directory.isRoot || path.count == directory.path.count || path[directory.path.count] == Self.slash
    }

    /// By all bytes of the path at once; two roots rarely have the same paths.
    package func hash(into hasher: inout Hasher) {
        path.withUnsafeBytes { hasher.combine(bytes: $0) }
    }

    static let slash = UInt8(ascii: "/")
    static let dot = UInt8(ascii: ".")
}

extension StorePath: Comparable {
    /// By root, then by bytes.
    package static func < (one: StorePath, other: StorePath) -> Bool {
        one.root == other.root ? one.path.lexicographicallyPrecedes(other.path) : one.root < other.root
    }
}

extension StorePath: CustomStringConvertible {
    /// `partition-default/uuid/a/b/abc/cyrus.index`; bytes that are not UTF-8 show as replacement characters.
    package var description: String { isRoot ? root.name : root.name + "/" + String(decoding: path, as: UTF8.self) }
}

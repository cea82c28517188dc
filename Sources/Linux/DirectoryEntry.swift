internal import Glibc

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

extension DirectoryEntry {
    /// Nothing for `.` and `..`.
    init?(_ entry: UnsafeMutablePointer<dirent>) {
        // The name may reach beyond the C struct's array, so it is read by its address, not as a tuple.
        let offset = MemoryLayout<dirent>.offset(of: \.d_name)!
        let start = UnsafeRawPointer(entry).advanced(by: offset)
        let count = strlen(start.assumingMemoryBound(to: CChar.self))
        let name = UnsafeRawBufferPointer(start: start, count: count)
        if Component.isDots(name) { return nil }
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

internal import CKernel
internal import Glibc

// Calls about names of a directory that is held open, for who looks at very many of them: the kernel resolves no path. A
// name is one component, so nothing leads out of the directory; symbolic links are not followed.

extension Directory {
    /// Opens what has this name here, as `open` does for reading (openat).
    package func openFile(_ name: [UInt8]) throws(SystemError) -> Descriptor {
        let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
        var raw: CInt
        do {
            raw = try openFile(name, flags | CInt(MS_O_NOATIME))
        } catch let error where error.errno == .notPermitted {
            raw = try openFile(name, flags)
        }
        Simulation.kernel?.did(.opened(raw, .reading))
        return Descriptor(owning: raw, path: fullPath(name))
    }

    private func openFile(_ name: [UInt8], _ flags: CInt) throws(SystemError) -> CInt {
        try kernel("openat", fullPath(name)) { withTerminated(name) { openat(descriptor.raw, $0, flags) } }
    }

    /// Of what has this name here; of a symbolic link, the link's own. Nothing if there is none (fstatat).
    package func statusOfName(_ name: [UInt8]) throws(SystemError) -> FileStatus? {
        var found = stat()
        do {
            try kernel("fstatat", fullPath(name)) {
                withTerminated(name) { fstatat(descriptor.raw, $0, &found, AT_SYMLINK_NOFOLLOW) }
            }
        } catch let error where error.errno == .noEntry {
            return nil
        }
        return FileStatus(found)
    }
}

/// `name` as C wants it; what is no name of a file is a programmer's error.
private func withTerminated<Result>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
    precondition(!name.isEmpty && !Component.isDots(name), "not a file's name: \(name)")
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
        for (place, byte) in name.enumerated() {
            precondition(byte != 0 && byte != Component.slash, "not a file's name: \(name)")
            buffer[place] = CChar(bitPattern: byte)
        }
        buffer[name.count] = 0
        return body(UnsafePointer(buffer.baseAddress!))
    }
}

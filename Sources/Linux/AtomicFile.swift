internal import Glibc

/// Small files of our own state, replaced so that a crash at any moment leaves the old content or the new, never a mix:
///
///     write DIR/.NAME.new -> fdatasync -> rename to DIR/NAME -> fsync DIR
///
/// A crash may leave the `.NAME.new`; the next replacement removes it. One writer per name.
package enum AtomicFile {
    /// On return the file has exactly `bytes` and `mode`, on disk. On an error it has its old content, but for one:
    /// when "fsync" of the directory failed it has the new, maybe not on disk.
    package static func replace(
        directory path: String, name: String, bytes: [UInt8], mode: UInt16 = 0o600
    ) throws(SystemError) {
        try replace(in: Directory(path), name: name, bytes: bytes, mode: mode)
    }

    package static func replace(
        in directory: Directory, name: String, bytes: [UInt8], mode: UInt16 = 0o600
    ) throws(SystemError) {
        let temporary = Array(".\(name).new".utf8)
        do {
            try directory.unlink(temporary)
        } catch let error where error.errno == .noEntry {
            // The ordinary case: no crash before.
        }
        do {
            let file = try directory.open(temporary, for: .creatingNew, mode: mode)
            try file.write(bytes, at: 0)
            try file.setMode(mode)
            try file.flushData()
            try file.close()
            try directory.rename(temporary, to: Array(name.utf8))
        } catch {
            try? directory.unlink(temporary)  // tidiness; what counts is why it failed
            throw error
        }
        try directory.flushDirectory()
    }

    /// The file's bytes, or nothing if there is no such file. `Errno.fileTooBig` when there are more than `byteCountMax`.
    package static func read(
        directory path: String, name: String, max byteCountMax: Int
    ) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            return try Descriptor.open(path + "/" + name, for: .reading).readAll(max: byteCountMax)
        } catch {
            guard error.errno == .noEntry else { throw error }
            return nil
        }
    }

    /// There is no such file then; on disk only with the directory's next flush.
    package static func remove(directory path: String, name: String) throws(SystemError) {
        do throws(SystemError) {
            try Directory(path).unlink(Array(name.utf8))
        } catch {
            guard error.errno == .noEntry else { throw error }
        }
    }
}

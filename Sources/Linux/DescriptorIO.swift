internal import CKernel
internal import Glibc

// Bytes in and out of a `Descriptor`. The kernel may do less than asked in one call; every loop about that is here.

extension Descriptor {
    /// Fills `buffer` from `offset` on (pread); returns how many bytes there were, fewer only at the end of the file.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int64) throws(SystemError) -> Int {
        var done = 0
        while done < buffer.count {
            let count = try kernel("pread", path) {
                pread(raw, buffer.baseAddress! + done, some(of: buffer.count - done), Int(offset) + done)
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// `count` bytes from `offset` on, or fewer at the end of the file (pread).
    package func read(at offset: Int64, count: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(SystemError) {
                let room = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count)
                filled = try read(into: room, at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// The whole file, which may grow meanwhile: reads the size it has and then on until its end.
    ///
    /// Throws `Errno.fileTooBig` when there are more than `byteCountMax` bytes. Files of /proc, which say they have
    /// none, work too.
    package func readAll(max byteCountMax: Int) throws(SystemError) -> [UInt8] {
        let expected = try status().byteCount
        guard expected <= byteCountMax else { throw SystemError(call: "read", path: path, errno: .fileTooBig) }
        // One byte more than there should be, so that an unchanged file shows its end in the first round. Those of
        // /proc must be read in one go: some of /proc/sys give nothing at an offset.
        let firstCount = expected == 0 ? 4096 : Int(expected) + 1
        var bytes = try read(at: 0, count: firstCount)
        guard bytes.count <= byteCountMax else { throw SystemError(call: "read", path: path, errno: .fileTooBig) }
        if bytes.count < firstCount { return bytes }
        while true {
            let more = try read(at: Int64(bytes.count), count: 65_536)
            guard bytes.count + more.count <= byteCountMax else {
                throw SystemError(call: "read", path: path, errno: .fileTooBig)
            }
            bytes += more
            if more.count < 65_536 { return bytes }
        }
    }

    /// Bytes of the file that were never written, as far as the file system tells (lseek SEEK_HOLE).
    package func holeBytes() throws(SystemError) -> Int64 {
        let end = try status().byteCount
        var (offset, holes): (Int64, Int64) = (0, 0)
        while offset < end {
            let hole = Int64(try kernel("lseek", path) { lseek(raw, Int(offset), CInt(MS_SEEK_HOLE)) })
            guard hole < end else { break }
            do throws(SystemError) {
                offset = Int64(try kernel("lseek", path) { lseek(raw, Int(hole), CInt(MS_SEEK_DATA)) })
            } catch {
                guard error.errno == .noDevice else { throw error }
                offset = end
            }
            holes += offset - hole
        }
        return holes
    }

    /// Reads the file from its start to its end through one buffer (pread); every piece but the last has `pieceBytes`.
    ///
    /// A piece is only valid during the call of `body`. Who wants to stop early uses `read(at:count:)`.
    package func readPieces(
        of pieceBytes: Int, _ body: (UnsafeRawBufferPointer) throws(SystemError) -> Void
    ) throws(SystemError) {
        precondition(pieceBytes > 0, "pieces of \(pieceBytes) bytes")
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: pieceBytes, alignment: 64)
        defer { buffer.deallocate() }
        var offset: Int64 = 0
        while true {
            let count = try read(into: buffer, at: offset)
            if count > 0 { try body(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            if count < pieceBytes { return }
            offset += Int64(count)
        }
    }

    /// Writes what this file has over the beginning of `target`, which may be the same file; what is behind it there stays.
    package func copyContent(to target: borrowing Descriptor) throws(SystemError) {
        var offset: Int64 = 0
        try readPieces(of: 256 << 10) { (piece) throws(SystemError) in
            try target.write(piece, at: offset)
            offset += Int64(piece.count)
        }
    }

    /// Writes all of `bytes` at `offset` (pwrite). On an error any part may have been written.
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = try kernel("pwrite", path) {
                pwrite(raw, bytes.baseAddress! + done, some(of: bytes.count - done), Int(offset) + done)
            }
            let written = UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])
            Simulation.kernel?.did(.wrote(raw, offset: offset + Int64(done), written))
            done += count
        }
    }

    /// All, but in a simulation.
    private func some(of byteCount: Int) -> Int { Simulation.kernel?.transferBytes(byteCount) ?? byteCount }

    package func write(_ bytes: [UInt8], at offset: Int64) throws(SystemError) {
        try bytes.span.bytes.withUnsafeBytes { (bytes) throws(SystemError) in try write(bytes, at: offset) }
    }

    package func write(_ bytes: ArraySlice<UInt8>, at offset: Int64) throws(SystemError) {
        try bytes.span.bytes.withUnsafeBytes { (bytes) throws(SystemError) in try write(bytes, at: offset) }
    }

    /// Writes all of `bytes` behind the end (lseek, pwrite); returns the offset they begin at. One thread at a time.
    @discardableResult
    package func append(_ bytes: [UInt8]) throws(SystemError) -> Int64 {
        let end = Int64(try kernel("lseek", path) { lseek(raw, 0, SEEK_END) })
        try write(bytes, at: end)
        return end
    }
}

/// Standard output or error: what the program prints.
package enum StandardStream: CInt, Sendable {
    case output = 1
    case error = 2

    package func write(_ text: String) throws(SystemError) { try write(Array(text.utf8)) }

    /// Writes all of `bytes` (write). `Errno.brokenPipe` when the reader is gone.
    package func write(_ bytes: [UInt8]) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try kernel("write", self == .output ? "standard output" : "standard error") {
                bytes.withUnsafeBytes { Glibc.write(rawValue, $0.baseAddress! + done, $0.count - done) }
            }
        }
    }
}

/// What Cyrus keeps of a message so as not to parse it again: a record of cyrus.cache.
///
///     file    generation (4, the index's) | record | record | …          append-only until both are rewritten
///     record  10 × item: byteCount (4) | bytes | zeros up to a multiple of 4
///             ENVELOPE BODYSTRUCTURE BODY SECTION HEADERS FROM TO CC BCC SUBJECT
///
/// The index record has its offset and the CRC-32 of its bytes, lengths and zeros included (imap/mailbox.c,
/// cache_parserecord). Space of records that nothing refers to any more stays until the rewrite.
package enum CacheRecord {
    package static let itemCount = 10
    /// Of the generation, at the beginning of the file.
    package static let fileHeaderByteCount = 4

    /// The generation of the index that the file belongs to; nothing if there aren't four bytes.
    package static func generation(of file: ArraySlice<UInt8>) -> UInt32? {
        let image = FileImage(file)
        return image.holds(4, at: 0) ? image.integer(at: 0) : nil
    }

    /// The bytes of the record at `offset`; nothing if it isn't wholly there. `file` are the file's bytes from
    /// `fileOffset` on.
    package static func range(at offset: Int, in file: ArraySlice<UInt8>, from fileOffset: Int = 0) -> Range<Int>? {
        let image = FileImage(file)
        var end = offset - fileOffset
        guard offset >= fileHeaderByteCount, end >= 0 else { return nil }
        for _ in 0..<itemCount {
            guard image.holds(4, at: end) else { return nil }
            let byteCount = Int(image.integer(UInt32.self, at: end))
            let padded = (byteCount + 3) & ~3
            guard image.holds(padded, at: end + 4) else { return nil }
            end += 4 + padded
        }
        return offset..<end + fileOffset
    }

    /// Whether the record that `index` refers to is in `file` and has the checksum that `index` says.
    package static func verdict(
        on index: IndexRecord, in file: ArraySlice<UInt8>, from fileOffset: Int = 0
    ) -> CacheVerdict {
        guard index.cacheOffset != 0 else { return .none }
        guard let range = range(at: index.cacheOffset, in: file, from: fileOffset) else { return .missing }
        guard index.cacheCRC != 0 else { return .unchecked(range) }
        let computed = FileImage(file).checksum(of: range.lowerBound - fileOffset..<range.upperBound - fileOffset)
        return computed == index.cacheCRC ? .sound(range) : .wrongCRC(range)
    }
}

/// What was found at the place in cyrus.cache that an index record names; ranges are in bytes of the file.
package enum CacheVerdict: Equatable, Sendable {
    /// The index record has no cache record.
    case none
    case sound(Range<Int>)
    /// It is there; the index has no checksum of it.
    case unchecked(Range<Int>)
    /// Cyrus parses the message again and writes a new record.
    case missing
    case wrongCRC(Range<Int>)

    package var isSound: Bool {
        switch self {
        case .none, .sound, .unchecked: true
        case .missing, .wrongCRC: false
        }
    }
}

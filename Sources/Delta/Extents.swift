package import Digests

/// A run of bytes of a new version that isn't in the old one at the same place.
package struct Extent: Hashable, Sendable {
    package var offset: Int
    package var length: Int

    package init(offset: Int, length: Int) {
        self.offset = offset
        self.length = length
    }

    package var end: Int { offset + length }
    package var range: Range<Int> { offset..<end }
}

/// Where two versions of a file differ, if bytes change in place or are appended.
///
///     new = old cut or grown to new's length, with the bytes of each extent written over it
///
/// Extents ascend, don't touch, and lie inside the new version. The new length isn't among them: a file that only got
/// shorter has none. Work is per changed page, so that 1.7 KB written into 100 MB cost four pages.
package enum Extents {
    /// More than this and gaps are widened until half are left: some equal bytes are sent then, and a file made for it
    /// can't fill the memory.
    package static let countMax = 65_536
    /// What an extent's head costs in a record, about; a shorter gap is cheaper sent than cut out.
    package static let mergeGap = 8

    /// The extents from `old` to `new`, where only `pages` (ascending, of 4096 bytes) may differ; what is past the
    /// end of `old` is always taken.
    ///
    /// Differing bytes with at most `mergeGap` equal ones between them are one extent (at least 6: less would need
    /// to look at bytes instead of words).
    package static func between(
        old: UnsafeRawBufferPointer, new: UnsafeRawBufferPointer, pages: some Sequence<Int>,
        mergeGap: Int = Extents.mergeGap
    ) -> [Extent] {
        var found = Collector(gap: mergeGap)
        let commonBytes = min(old.count, new.count)
        for range in runs(of: pages, below: commonBytes) {
            found.compare(
                UnsafeRawBufferPointer(rebasing: old[range]), UnsafeRawBufferPointer(rebasing: new[range]),
                at: range.lowerBound)
        }
        if new.count > commonBytes { found.add(commonBytes..<new.count) }
        return found.finish()
    }

    /// The same of files that are read, several pages at once where they follow each other.
    package static func between(
        oldBytes: Int, newBytes: Int, pages: some Sequence<Int>, mergeGap: Int = Extents.mergeGap,
        old: RangeReader, new: RangeReader
    ) throws(DeltaError) -> [Extent] {
        var found = Collector(gap: mergeGap)
        let commonBytes = min(oldBytes, newBytes)
        for range in runs(of: pages, below: commonBytes) {
            let before = try fetch(range, from: old)
            let after = try fetch(range, from: new)
            before.withUnsafeBytes { before in
                after.withUnsafeBytes { found.compare(before, $0, at: range.lowerBound) }
            }
        }
        if newBytes > commonBytes { found.add(commonBytes..<newBytes) }
        return found.finish()
    }

    /// Whole pages, for when the old bytes are gone and only their table is left.
    package static func of(pages: some Sequence<Int>, newBytes: Int) -> [Extent] {
        runs(of: pages, below: newBytes, bytesMax: .max).map { Extent(offset: $0.lowerBound, length: $0.count) }
    }

    /// The bytes in them.
    package static func payloadBytes(_ extents: [Extent]) -> Int { extents.reduce(0) { $0 + $1.length } }

    /// The ranges of neighbouring pages, cut off at `byteCount`. Pages that don't ascend are a programmer's error.
    private static func runs(
        of pages: some Sequence<Int>, below byteCount: Int, bytesMax: Int = pieceBytesMax
    ) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        let pageCount = PageTable.pageCount(of: byteCount)
        for page in pages where page < pageCount {
            let start = page * PageTable.pageBytes
            precondition(start >= runs.last?.upperBound ?? 0, "page \(page) comes after one at or behind it")
            let end = min(start + PageTable.pageBytes, byteCount)
            if let last = runs.last, last.upperBound == start, last.count < bytesMax {
                runs[runs.count - 1] = last.lowerBound..<end
            } else {
                runs.append(start..<end)
            }
        }
        return runs
    }
}

extension PageTable {
    /// The pages of this version that `old` hasn't, ascending: changed ones, appended ones, and the last one when its
    /// length changed.
    package func changedPages(against old: PageTable) -> [Int] {
        let common = min(leaves.count, old.leaves.count)
        var changed = (0..<common).filter { leaves[$0] != old.leaves[$0] }
        changed.append(contentsOf: common..<leaves.count)
        return changed
    }
}

/// Gathers differing ranges, in ascending order.
private struct Collector {
    private var extents: [Extent] = []
    /// The one that may still grow; empty before the first.
    private var start = 0
    private var end = 0
    private var gap: Int

    init(gap: Int) { self.gap = max(gap, 6) }

    @inline(__always)
    mutating func add(_ range: Range<Int>) {
        if range.lowerBound - end <= gap, end > start {
            end = range.upperBound
        } else {
            close()
            start = range.lowerBound
            end = range.upperBound
        }
    }

    consuming func finish() -> [Extent] {
        close()
        return extents
    }

    private mutating func close() {
        guard end > start else { return }
        extents.append(Extent(offset: start, length: end - start))
        while extents.count >= Extents.countMax { widen() }
    }

    /// Doubles the gap, and joins what is now near enough.
    private mutating func widen() {
        gap *= 2
        var kept = 0
        for index in 1..<extents.count {
            if extents[index].offset - extents[kept].end <= gap {
                extents[kept].length = extents[index].end - extents[kept].offset
            } else {
                kept += 1
                extents[kept] = extents[index]
            }
        }
        extents.removeSubrange((kept + 1)...)
    }

    /// Adds where two pieces of the same length differ; `offset` is theirs in the file.
    ///
    /// 64 bytes at once while they are equal, then words: within a word the equal bytes between two differing ones are
    /// at most 6, so that never more than one range begins in a word.
    mutating func compare(_ old: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer, at offset: Int) {
        let count = new.count
        precondition(old.count == count, "compared \(old.count) bytes with \(count)")
        guard let old = old.baseAddress, let new = new.baseAddress else { return }
        // Every load below is at an index < count.
        var index = 0
        while index + 64 <= count {
            let before = old.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self)
            let after = new.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self)
            if before != after {
                for word in stride(from: index, to: index + 64, by: 8) { compareWord(old, new, word, offset) }
            }
            index += 64
        }
        while index + 8 <= count {
            compareWord(old, new, index, offset)
            index += 8
        }
        while index < count {
            let differs =
                old.load(fromByteOffset: index, as: UInt8.self) != new.load(fromByteOffset: index, as: UInt8.self)
            if differs { add(offset + index..<offset + index + 1) }
            index += 1
        }
    }

    @inline(__always)
    private mutating func compareWord(
        _ old: UnsafeRawPointer, _ new: UnsafeRawPointer, _ index: Int, _ offset: Int
    ) {
        let before = UInt64(littleEndian: old.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        let after = UInt64(littleEndian: new.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        let difference = before ^ after
        guard difference != 0 else { return }
        let first = offset + index + difference.trailingZeroBitCount / 8
        add(first..<offset + index + 8 - difference.leadingZeroBitCount / 8)
    }
}

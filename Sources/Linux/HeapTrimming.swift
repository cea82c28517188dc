internal import CKernel

/// Gives what malloc holds free back to the system now and then (malloc_trim), for where buffers of all sizes come and go: the holes
/// between those in use stay resident otherwise. Of a seed's 160 MB 100 were such, and a fixed M_MMAP_THRESHOLD, which
/// leaves none, made it a fifth slower.
package struct HeapTrimming: Sendable {
    private var passedBytes = 0

    private static let interval = 32 << 20

    package init() {}

    /// So many have been allocated and are free again, or soon. Returns whether it is time to `trim`.
    package mutating func isDue(after byteCount: Int) -> Bool {
        passedBytes += byteCount
        guard passedBytes >= Self.interval else { return false }
        passedBytes = 0
        return true
    }

    /// Takes some milliseconds, in which others wait who allocate or free.
    package static func trim() { _ = ms_trim_heap() }  // that there was nothing is no error
}

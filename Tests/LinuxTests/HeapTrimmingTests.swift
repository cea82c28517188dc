import Glibc
import Linux
import Testing

@Suite struct HeapTrimmingTests {
    @Test func `it is time once so much has passed, and again after as much`() {
        var heap = HeapTrimming()
        let steps = [(32 << 20) - 1, 1, (32 << 20) - 1, 1, 100 << 20]
        #expect(steps.map { heap.isDue(after: $0) } == [false, true, false, true, true])
    }

    /// The sanitizers have a malloc of their own, which keeps what is freed.
    private static let isGlibcs = dlsym(nil, "__asan_init") == nil && dlsym(nil, "__tsan_init") == nil

    /// Others allocate meanwhile: one try of a few has to show it.
    @Test(.enabled(if: isGlibcs)) func `holes between what is in use go back to the system`() throws {
        #expect(try (0..<5).contains { _ in try givenBack() > 40 << 20 })
    }

    /// Of 88 MB of holes.
    private func givenBack() throws -> Int {
        var buffers = (0..<6000).map { _ in [UInt8](repeating: 1, count: 16 << 10) }
        buffers = buffers.enumerated().filter { $0.offset.isMultiple(of: 10) }.map(\.element)
        return try withExtendedLifetime(buffers) {
            let before = try CurrentProcess.residentBytes()
            HeapTrimming.trim()
            return before - (try CurrentProcess.residentBytes())
        }
    }
}

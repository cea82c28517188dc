import Linux
import Testing

@Suite struct HeapTrimmingTests {
    /// Other tests allocate and free meanwhile: one try of a few has to show it.
    @Test func `holes between what is in use go back to the system, once so much has passed`() throws {
        #expect(try (0..<5).contains { _ in try givenBack(once: 32 << 20) > 40 << 20 })
        #expect(try (0..<5).contains { _ in try givenBack(once: (32 << 20) - 1) < 20 << 20 })
    }

    /// Of 88 MB of holes.
    private func givenBack(once passed: Int) throws -> Int {
        var buffers = (0..<6000).map { _ in [UInt8](repeating: 1, count: 16 << 10) }
        buffers = buffers.enumerated().filter { $0.offset.isMultiple(of: 10) }.map(\.element)
        return try withExtendedLifetime(buffers) {
            let before = try CurrentProcess.residentBytes()
            var heap = HeapTrimming()
            heap.passed(passed)
            return before - (try CurrentProcess.residentBytes())
        }
    }
}

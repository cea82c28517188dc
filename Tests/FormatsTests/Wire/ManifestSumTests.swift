import Digests
import Formats
import Testing

@Suite struct ManifestSumTests {
    private func sum(_ files: [(String, String)]) -> Digest {
        var sum = ManifestSum()
        for (path, content) in files { sum.add(StorePath(.sieve, path), Digest(of: utf8(content))) }
        return sum.digest
    }

    @Test func `the order of the files does not matter, everything else does`() {
        let files = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]
        #expect(sum(files) == sum(files.reversed()))
        #expect(sum(files) != sum(Array(files.dropLast())))
        #expect(sum([("a", "1"), ("b", "2")]) != sum([("a", "2"), ("b", "1")]))
        #expect(sum([("a", "1")]) != sum([("a", "1"), ("a", "1")]))
        #expect(sum([]) == Digest(low: 0, high: 0))
    }

    /// 300 digests: the low halves overflow many times.
    @Test func `a carry of the low half goes into the high one`() {
        var (low, high) = (UInt64(0), UInt64(0))
        var whole = ManifestSum()
        var carries = 0
        for number in 0..<300 {
            let (path, content) = (StorePath(.sieve, "\(number)"), Digest(of: utf8("\(number)")))
            whole.add(path, content)
            var writer = ByteWriter()
            writer.write(path)
            writer.write(content)
            let one = Digest(of: writer.bytes)
            let next = low &+ one.low
            let carry: UInt64 = next < low ? 1 : 0
            carries += Int(carry)
            (low, high) = (next, high &+ one.high &+ carry)
        }
        #expect(carries > 50)
        #expect(whole.digest == Digest(low: low, high: high))
    }
}

import Linux
import Scratch
import Testing

@Suite struct DescriptorTests {
    let directory = TemporaryDirectory()

    @Test func `what is written at an offset is read there, with zeros before`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        try file.write(bytes("abc"), at: 5)
        #expect(try file.read(at: 3, count: 4) == [0, 0] + bytes("ab"))
        #expect(try file.read(at: 6, count: 100) == bytes("bc"))
        #expect(try file.read(at: 8, count: 1) == [])
        #expect(try file.read(at: 0, count: 0) == [])
    }

    @Test func `append writes behind the end, whatever was written where`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        #expect(try file.append(bytes("ab")) == 0)
        try file.write(bytes("x"), at: 0)
        #expect(try file.append(bytes("cd")) == 2)
        #expect(try file.readAll(max: 4) == bytes("xbcd"))
    }

    @Test(arguments: [0, 1, 7, 8, 9, 16, 17])
    func `pieces are full but the last, and together the file`(byteCount: Int) throws {
        let content = (0..<byteCount).map { UInt8($0) }
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        try file.write(content, at: 0)
        var pieces: [[UInt8]] = []
        try file.readPieces(of: 8) { pieces.append(Array($0)) }
        #expect(Array(pieces.joined()) == content)
        #expect(pieces.dropLast().allSatisfy { $0.count == 8 })
        #expect(pieces.count == (byteCount + 7) / 8)
    }

    @Test func `the whole file is read up to a bound`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        try file.write([UInt8](repeating: 7, count: 100_000), at: 0)
        #expect(try file.readAll(max: 100_000).count == 100_000)
        #expect(throws: SystemError(call: "read", path: directory("f"), errno: .fileTooBig)) {
            _ = try file.readAll(max: 99_999)
        }
    }

    @Test func `a file of proc, which says it is empty, is read whole`() throws {
        let status = try Descriptor.open("/proc/self/status", for: .reading)
        #expect(try status.status().byteCount == 0)
        #expect(try status.readAll(max: 65_536).starts(with: bytes("Name:")))
        // This one gives nothing at any offset but 0.
        let limit = try Descriptor.open("/proc/sys/fs/inotify/max_queued_events", for: .reading).readAll(max: 64)
        #expect(limit.count > 2 && limit.last == UInt8(ascii: "\n"))
    }

    @Test func `closing frees the number, once`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        let copy = try file.duplicate()
        #expect(copy.raw != file.raw)
        try file.close()
        try copy.write(bytes("still open"), at: 0)
        #expect(try copy.readAll(max: 100) == bytes("still open"))
    }

    @Test func `who lets go closes`() throws {
        // The end of a pipe shows it: nobody else has a descriptor of the socket.
        let listener = try UnixSocket.listen(directory("s"))
        let client = try UnixSocket.connect(directory("s"), timeout: .seconds(10))
        do { _ = try listener.accept(timeout: nil) }
        #expect(try client.receive(max: 10) == [])
    }

    @Test func `creatingNew refuses what exists, updating what does not`() throws {
        #expect(try errno { _ = try Descriptor.open(directory("f"), for: .updating) } == .noEntry)
        _ = try Descriptor.open(directory("f"), for: .creatingNew)
        #expect(try errno { _ = try Descriptor.open(directory("f"), for: .creatingNew) } == .exists)
        _ = try Descriptor.open(directory("f"), for: .updatingOrCreating)
    }

    @Test(arguments: [0, 1, 1_700_000_000_123_456_789, -1, -1_500_000_000] as [Int64])
    func `a modification time comes back to the nanosecond`(time: Int64) throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        try file.setTimes(mtimeNanoseconds: time)
        #expect(try file.status().mtimeNanoseconds == time)
    }

    @Test func `status tells mode, size, links and kind`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        // In this order: changing the content clears set-user-id, but for root.
        try file.truncate(to: 12_345)
        try file.setMode(0o4751)
        try directory.root().link(bytes("f"), to: bytes("g"))
        let status = try file.status()
        #expect(status.mode == 0o4751)
        #expect(status.byteCount == 12_345)
        #expect(status.linkCount == 2)
        #expect(status.kind == .file)
        #expect(status == (try FileStatus.of(directory("g"))))
        #expect(try FileStatus.of(directory("nothing")) == nil)
        #expect(try FileStatus.of(directory("f/below a file")) == nil)
        #expect(try FileStatus.of(directory.path)?.kind == .directory)
    }

    @Test func `allocating makes the file that long`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        try file.allocate(1 << 20)
        #expect(try file.status().byteCount == 1 << 20)
        try file.write(bytes("x"), at: 0)
        try file.flushData()
        try file.flush()
        try file.syncFileSystem()
    }

    @Test func `a full disk is told as such`() throws {
        let full = try Descriptor.open("/dev/full", for: .updating)
        #expect(throws: SystemError(call: "pwrite", path: "/dev/full", errno: .noSpace)) {
            try full.write([1], at: 0)
        }
    }
}

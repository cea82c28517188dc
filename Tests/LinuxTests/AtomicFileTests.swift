import Linux
import Scratch
import Testing

@Suite struct AtomicFileTests {
    let directory = TemporaryDirectory()

    @Test func `it makes and replaces, with exactly this mode`() throws {
        let root = try directory.root()
        try AtomicFile.replace(directory: directory.path, name: "slot", bytes: bytes("one, longer"))
        let first = try root.status(of: bytes("slot"))
        #expect(first?.mode == 0o600)
        try AtomicFile.replace(directory: directory.path, name: "slot", bytes: bytes("two"), mode: 0o666)
        let second = try root.status(of: bytes("slot"))
        #expect(second?.mode == 0o666)
        #expect(second?.inode != first?.inode)
        #expect(try root.text(of: "slot") == "two")
        #expect(try root.names() == ["slot"])
    }

    @Test func `what is not there is read as nothing, and removed twice`() throws {
        #expect(try AtomicFile.read(directory: directory.path, name: "slot", max: 10) == nil)
        try AtomicFile.replace(directory: directory.path, name: "slot", bytes: bytes("one"))
        #expect(try AtomicFile.read(directory: directory.path, name: "slot", max: 10) == bytes("one"))
        #expect(
            try errno { _ = try AtomicFile.read(directory: directory.path, name: "slot", max: 2) } == .fileTooBig)
        for _ in 0..<2 { try AtomicFile.remove(directory: directory.path, name: "slot") }
        #expect(try directory.root().names().isEmpty)
    }

    @Test func `who has the old one open keeps the old content`() throws {
        try AtomicFile.replace(directory: directory.path, name: "slot", bytes: bytes("old"))
        let old = try Descriptor.open(directory("slot"), for: .reading)
        try AtomicFile.replace(directory: directory.path, name: "slot", bytes: bytes("new"))
        #expect(try old.readAll(max: 10) == bytes("old"))
    }

    @Test func `what a crash left behind is in nobody's way`() throws {
        let root = try directory.root()
        try root.write("torn, and longer than what comes", to: ".slot.new")
        try AtomicFile.replace(in: root, name: "slot", bytes: bytes("whole"))
        #expect(try root.text(of: "slot") == "whole")
        #expect(try root.names() == ["slot"])
    }

    @Test func `a failure leaves the old content and no temporary`() throws {
        let root = try directory.root()
        try root.makeDirectory(bytes("slot"))
        try root.write("in the way", to: "slot/f")
        #expect(try errno { try AtomicFile.replace(in: root, name: "slot", bytes: bytes("x")) } == .isDirectory)
        #expect(try root.names() == ["slot"])
        #expect(try root.text(of: "slot/f") == "in the way")
    }
}

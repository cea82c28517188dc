import Glibc
import Scratch
import Testing

@testable import Linux

/// Everything a `Directory` can be asked about a path.
enum Operation: String, CaseIterable, Sendable {
    case openReading, openUpdating, openCreating, openDirectory, status, entries, flushDirectory, fileSystem
    case makeDirectory, renameFrom, renameTo, linkFrom, linkTo, symlink, readLink, unlink, removeDirectory, setOwner

    func run(_ path: [UInt8], in root: Directory) throws {
        switch self {
        case .openReading: _ = try root.open(path, for: .reading)
        case .openUpdating: _ = try root.open(path, for: .updating)
        case .openCreating: _ = try root.open(path, for: .updatingOrCreating)
        case .openDirectory: _ = try root.openDirectory(path)
        case .status: _ = try root.status(of: path)
        case .entries: _ = try root.entries(of: path)
        case .flushDirectory: try root.flushDirectory(path)
        case .fileSystem: _ = try root.fileSystem(of: path)
        case .makeDirectory: _ = try root.makeDirectory(path)
        case .renameFrom: try root.rename(path, to: bytes("renamed"))
        case .renameTo: try root.rename(bytes("own"), to: path)
        case .linkFrom: try root.link(path, to: bytes("linked"))
        case .linkTo: try root.link(bytes("own"), to: path)
        case .symlink: try root.symlink(bytes("anything"), at: path)
        case .readLink: _ = try root.readLink(path)
        case .unlink: try root.unlink(path)
        case .removeDirectory: try root.removeDirectory(path)
        case .setOwner: try root.setOwner(of: path, to: getuid(), group: getgid())
        }
    }
}

/// `outside/` with a file and a link to it, and `root/` with planted links to it and a file of its own.
struct Hostile {
    let directory = TemporaryDirectory()
    let above: Directory
    let root: Directory

    init(_ parents: ParentResolution) throws {
        above = try directory.root()
        try above.makeDirectory(bytes("outside"))
        try above.write("secret", to: "outside/file")
        try above.symlink(bytes("file"), at: bytes("outside/link"))
        try above.makeDirectory(bytes("outside/empty"))
        try above.makeDirectory(bytes("root"))
        root = try Directory(directory("root"), parents: parents)
        try root.write("own", to: "own")
        try root.makeDirectory(bytes("inside"))
        try root.symlink(bytes("../outside"), at: bytes("relative"))
        try root.symlink(bytes(directory("outside")), at: bytes("absolute"))
        try root.symlink(bytes("inside"), at: bytes("harmless"))
    }

    func snapshot() throws -> [String: FileStatus?] {
        var found: [String: FileStatus?] = [:]
        for name in try above.names(in: "outside") { found[name] = try above.status(of: bytes("outside/\(name)")) }
        return found
    }
}

@Suite struct DirectoryResolutionTests {
    static let ways: [ParentResolution] = [.always, .cachedBySoleWriter]
    static let outward = [
        "..", "../outside", "../outside/file", "../outside/link", "../outside/empty", "../outside/new",
        "inside/../../outside/file", "inside/../../outside/new",
    ]
    static let throughLinks = [
        "relative/file", "relative/link", "relative/empty", "relative/new", "absolute/file", "absolute/new",
        "harmless/new",
    ]

    @Test(arguments: Operation.allCases, ways)
    func `no operation gets out, by dots, slash or planted link`(operation: Operation, way: ParentResolution) throws {
        let hostile = try Hostile(way)
        let before = try hostile.snapshot()
        let absolute = ["file", "link", "empty", "new"].map { hostile.directory("outside/" + $0) }
        for path in Self.outward + absolute + ["/", "/own"] {
            let found = try errno { try operation.run(bytes(path), in: hostile.root) }
            #expect(found == .crossDevice, "\(operation) \(path)")
        }
        for path in Self.throughLinks {
            let found = try errno { try operation.run(bytes(path), in: hostile.root) }
            #expect(found == .symbolicLink, "\(operation) \(path)")
        }
        #expect(try hostile.snapshot() == before)
    }

    static let opening = [
        Operation.openReading, .openUpdating, .openCreating, .openDirectory, .entries, .flushDirectory,
    ]

    @Test(arguments: opening, ways)
    func `what opens does not follow a link at the end`(operation: Operation, way: ParentResolution) throws {
        let hostile = try Hostile(way)
        for path in ["relative", "absolute", "harmless", "inside/planted"] {
            if path == "inside/planted" { try hostile.root.symlink(bytes("../own"), at: bytes(path)) }
            #expect(try errno { try operation.run(bytes(path), in: hostile.root) } == .symbolicLink, "\(path)")
        }
    }

    @Test(arguments: ways)
    func `what names does not follow a link at the end, but means the link`(way: ParentResolution) throws {
        let hostile = try Hostile(way)
        let root = hostile.root
        let link = bytes("inside/link")
        try root.symlink(bytes("../../outside/file"), at: link)
        #expect(try root.status(of: link)?.kind == .symlink)
        #expect(try root.readLink(link) == bytes("../../outside/file"))
        try root.setOwner(of: link, to: getuid(), group: getgid())
        try root.link(link, to: bytes("inside/second"))
        #expect(try root.status(of: bytes("inside/second"))?.kind == .symlink)
        try root.rename(bytes("own"), to: link)
        #expect(try root.text(of: "inside/link") == "own")
        try root.unlink(bytes("inside/second"))
        #expect(try hostile.above.text(of: "outside/file") == "secret")
    }

    @Test func `an error about a name in a held directory tells which`() throws {
        let hostile = try Hostile(.always)
        let root = hostile.root
        let error = #expect(throws: SystemError.self) { _ = try root.openFile(bytes("nothing")) }
        #expect(error?.path == root.path + "/nothing")
        #expect(try root.openFile(bytes("own")).path == root.path + "/own")
    }

    @Test func `a name in a held directory is not followed, if it is a link`() throws {
        let hostile = try Hostile(.always)
        let root = hostile.root
        #expect(try root.openFile(bytes("own")).readAll(max: 10) == bytes("own"))
        #expect(try errno { _ = try root.openFile(bytes("relative")) } == .symbolicLink)
        #expect(try errno { _ = try root.openFile(bytes("nothing")) } == .noEntry)
        #expect(try root.statusOfName(bytes("own")) == root.status(of: bytes("own")))
        #expect(try root.statusOfName(bytes("absolute"))?.kind == .symlink)
        #expect(try root.statusOfName(bytes("nothing")) == nil)
    }

    @Test func `the root itself is the empty path`() throws {
        let hostile = try Hostile(.always)
        let root = hostile.root
        #expect(try root.status(of: []) == root.descriptor.status())
        #expect(try root.names() == ["own", "inside", "relative", "absolute", "harmless"])
        #expect(try root.openDirectory([]).names() == root.names())
        try root.flushDirectory()
        _ = try root.fileSystem()
        for operation in [Operation.unlink, .removeDirectory, .renameFrom, .makeDirectory, .linkTo] {
            #expect(try errno { try operation.run([], in: root) } == .crossDevice, "\(operation)")
        }
    }

    @Test func `a held root stays the same directory when it is renamed and another takes its path`() throws {
        let hostile = try Hostile(.always)
        try hostile.above.rename(bytes("root"), to: bytes("moved"))
        try hostile.above.makeDirectory(bytes("root"))
        #expect(try hostile.root.text(of: "own") == "own")
        try hostile.root.write("x", to: "new")
        #expect(try hostile.above.names(in: "root") == [])
        #expect(try hostile.above.text(of: "moved/new") == "x")
    }
}

@Suite struct DirectoryTests {
    let directory = TemporaryDirectory()

    @Test func `names that are not UTF-8 are bytes like others`() throws {
        let root = try directory.root()
        let name: [UInt8] = [0xff, 0xfe, 0x20, 0x0a]
        try root.open(name, for: .creatingNew).write(bytes("x"), at: 0)
        #expect(try root.entries() == [DirectoryEntry(name: name, kind: .file)])
        #expect(try root.open(name, for: .reading).readAll(max: 9) == bytes("x"))
        try root.unlink(name)
        #expect(try root.entries() == [])
    }

    @Test func `entries tell the kind, and leave out the dots`() throws {
        let root = try directory.root()
        try root.makeDirectory(bytes("d"))
        try root.symlink(bytes("f"), at: bytes("s"))
        try root.write("", to: "f")
        mkfifo(directory("p"), 0o600)
        let kinds = Dictionary(uniqueKeysWithValues: try root.entries().map { ($0.name, $0.kind) })
        #expect(kinds == [bytes("d"): .directory, bytes("s"): .symlink, bytes("f"): .file, bytes("p"): .other])
        #expect(try root.entries(of: bytes("d")) == [])
    }

    @Test func `a name of 255 bytes is read whole`() throws {
        let root = try directory.root()
        let name = [UInt8](repeating: UInt8(ascii: "n"), count: 255)
        _ = try root.open(name, for: .creatingNew)
        #expect(try root.entries().map(\.name) == [name])
        #expect(try errno { _ = try root.open(name + [65], for: .creatingNew) } == .nameTooLong)
    }

    @Test func `a pipe does not hold up who opens it`() throws {
        mkfifo(directory("p"), 0o600)
        let pipe = try directory.root().open(bytes("p"), for: .reading)
        #expect(try pipe.status().kind == .other)
    }

    @Test func `making a directory says whether there was one`() throws {
        let root = try directory.root()
        #expect(try root.makeDirectory(bytes("d"), mode: 0o711) == .created)
        #expect(try root.makeDirectory(bytes("d")) == .existed)
        #expect(try root.status(of: bytes("d"))?.mode == 0o711)
        try root.write("", to: "f")
        #expect(try errno { try root.makeDirectory(bytes("f")) } == .exists)
        #expect(try Directory.make(directory("d")).entries() == [])
        #expect(try Directory.make(directory("e")).descriptor.status().mode == 0o700)
        #expect(try errno { _ = try Directory.make(directory("f")) } == .notDirectory)
    }

    @Test func `status is nothing where nothing is`() throws {
        let root = try directory.root()
        try root.write("", to: "f")
        #expect(try root.status(of: bytes("gone")) == nil)
        #expect(try root.status(of: bytes("gone/below")) == nil)
        #expect(try root.status(of: bytes("f/below")) == nil)
    }

    @Test func `rename replaces, or refuses to`() throws {
        let root = try directory.root()
        try root.write("1", to: "a")
        try root.write("2", to: "b")
        #expect(try errno { try root.rename(bytes("a"), to: bytes("b"), existing: .refuse) } == .exists)
        #expect(try root.text(of: "b") == "2")
        try root.rename(bytes("a"), to: bytes("b"))
        #expect(try root.names() == ["b"])
        #expect(try root.text(of: "b") == "1")
    }

    @Test func `rename and link reach from one root into another`() throws {
        let root = try directory.root()
        try root.makeDirectory(bytes("one"))
        try root.makeDirectory(bytes("two"))
        try root.makeDirectory(bytes("two/deep"))
        let one = try root.openDirectory(bytes("one"))
        let two = try root.openDirectory(bytes("two"))
        try one.write("x", to: "f")
        try one.link(bytes("f"), to: bytes("deep/linked"), in: two)
        try one.rename(bytes("f"), to: bytes("moved"), in: two)
        #expect(try one.names() == [])
        #expect(try two.names() == ["deep", "moved"])
        #expect(try two.status(of: bytes("moved"))?.inode == two.status(of: bytes("deep/linked"))?.inode)
        #expect(try errno { try two.link(bytes("moved"), to: bytes("deep/linked")) } == .exists)
    }

    @Test func `files and directories are removed each by their own call`() throws {
        let root = try directory.root()
        try root.makeDirectory(bytes("d"))
        try root.write("", to: "d/f")
        #expect(try errno { try root.unlink(bytes("d")) } == .isDirectory)
        #expect(try errno { try root.removeDirectory(bytes("d")) } == .directoryNotEmpty)
        #expect(try errno { try root.removeDirectory(bytes("d/f")) } == .notDirectory)
        try root.unlink(bytes("d/f"))
        try root.removeDirectory(bytes("d"))
        #expect(try root.names() == [])
    }

    @Test func `a message names the whole path`() throws {
        let root = try directory.root()
        #expect(throws: SystemError(call: "openat2", path: directory("a/b"), errno: .noEntry)) {
            _ = try root.open(bytes("a/b"), for: .reading)
        }
    }

    @Test func `a file system tells its kind and room`() throws {
        let here = try directory.root().fileSystem()
        #expect(here.totalBytes > 0)
        #expect(here.availableBytes <= here.totalBytes)
        #expect(try Directory("/proc").fileSystem().kind.description == "0x9fa0")
        #expect(FileSystemKind.nfs.mayChangeElsewhere)
        #expect(!FileSystemKind.ext4.mayChangeElsewhere)
    }
}

import Linux
import Scratch
import Testing

@Suite struct FileLockTests {
    let directory = TemporaryDirectory()

    /// Takes a POSIX lock as Cyrus does (fcntl F_SETLK), says so, and keeps it until told.
    static let posixLocker = """
        import fcntl, os, sys
        file = open(sys.argv[1], "r+")
        kind = fcntl.LOCK_EX if sys.argv[2] == "exclusive" else fcntl.LOCK_SH
        fcntl.lockf(file, kind | fcntl.LOCK_NB, int(sys.argv[4]), int(sys.argv[3]))
        print(os.getpid())
        sys.stdin.readline()
        fcntl.lockf(file, fcntl.LOCK_UN)
        print("unlocked")
        sys.stdin.readline()
        """

    /// Tries a POSIX lock once, and says how that went.
    static let posixTrier = """
        import fcntl, sys
        file = open(sys.argv[1], "r+")
        kind = fcntl.LOCK_EX if sys.argv[2] == "exclusive" else fcntl.LOCK_SH
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            print("locked")
        except OSError:
            print("refused")
        """

    private func newFile() throws -> Descriptor { try Descriptor.open(directory("f"), for: .updatingOrCreating) }

    @Test func `a POSIX lock of another process keeps us out until it goes`() throws {
        let file = try newFile()
        let cyrus = PythonProcess(Self.posixLocker, directory("f"), "exclusive", "0", "0")
        let process = try #require(CInt(cyrus.line()))
        #expect(try FileLock.tryShared(file) == false)
        #expect(try FileLock.tryExclusive(file) == false)
        #expect(try FileLock.holder(file) == .process(process))
        cyrus.tell("let go")
        #expect(cyrus.line() == "unlocked")
        #expect(try FileLock.holder(file) == nil)
        #expect(try FileLock.tryExclusive(file))
    }

    @Test func `a shared POSIX lock of another process lets us share`() throws {
        let file = try newFile()
        let cyrus = PythonProcess(Self.posixLocker, directory("f"), "shared", "0", "0")
        #expect(!cyrus.line().isEmpty)
        #expect(try FileLock.tryShared(file))
        #expect(try FileLock.tryExclusive(file) == false)
    }

    @Test func `our shared lock keeps out a POSIX writer, not a reader`() throws {
        let file = try newFile()
        #expect(try FileLock.tryShared(file))
        #expect(PythonProcess(Self.posixTrier, directory("f"), "exclusive").line() == "refused")
        #expect(PythonProcess(Self.posixTrier, directory("f"), "shared").line() == "locked")
        try FileLock.unlock(file)
        #expect(PythonProcess(Self.posixTrier, directory("f"), "exclusive").line() == "locked")
    }

    @Test func `our lock outlives the closing of another descriptor of the file`() throws {
        let file = try newFile()
        #expect(try FileLock.tryExclusive(file))
        try newFile().close()
        #expect(PythonProcess(Self.posixTrier, directory("f"), "shared").line() == "refused")
    }

    @Test func `two open files of one process are two holders`() throws {
        let one = try newFile()
        let two = try newFile()
        #expect(try FileLock.tryExclusive(one))
        #expect(try FileLock.tryShared(two) == false)
        #expect(try FileLock.holder(two) == .openFile)
        #expect(try FileLock.holder(one) == nil)
        #expect(try FileLock.tryShared(one), "a lock is turned into a shared one")
        #expect(try FileLock.tryShared(two))
    }

    @Test func `a lock goes with the last duplicate`() throws {
        let other = try newFile()
        let file = try newFile()
        #expect(try FileLock.tryExclusive(file))
        let copy = try file.duplicate()
        try file.close()
        #expect(try FileLock.tryShared(other) == false)
        try copy.close()
        #expect(try FileLock.tryShared(other))
    }

    @Test func `ranges are held apart`() throws {
        let one = try newFile()
        let two = try newFile()
        #expect(try FileLock.tryExclusive(one, LockRange(start: 0, byteCount: 4)))
        #expect(try FileLock.tryExclusive(two, LockRange(start: 4, byteCount: 4)))
        #expect(try FileLock.tryExclusive(two, LockRange(start: 3, byteCount: 1)) == false)
        #expect(try FileLock.tryExclusive(two) == false)
        try FileLock.unlock(one, LockRange(start: 0, byteCount: 4))
        #expect(try FileLock.tryExclusive(two))
    }

    @Test func `a range locked by a POSIX lock is seen as such`() throws {
        let file = try newFile()
        let cyrus = PythonProcess(Self.posixLocker, directory("f"), "exclusive", "10", "5")
        #expect(!cyrus.line().isEmpty)
        #expect(try FileLock.tryShared(file, LockRange(start: 0, byteCount: 10)))
        #expect(try FileLock.tryShared(file, LockRange(start: 14, byteCount: 1)) == false)
        #expect(try FileLock.tryShared(file, LockRange(start: 15, byteCount: 0)))
    }

    @Test func `an exclusive lock wants a descriptor that may write`() throws {
        try newFile().close()
        let readOnly = try Descriptor.open(directory("f"), for: .reading)
        #expect(try FileLock.tryShared(readOnly))
        #expect(try errno { _ = try FileLock.tryExclusive(readOnly) } == .badDescriptor)
    }
}

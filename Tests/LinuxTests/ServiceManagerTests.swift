import Linux
import Scratch
import Testing

@Suite struct ServiceManagerTests {
    static let listener = """
        import socket, sys
        path = sys.argv[1]
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind("\\0" + path[1:] if path[0] == "@" else path)
        print("bound")
        print(s.recv(1000).decode().replace("\\n", ","))
        """

    let directory = TemporaryDirectory()

    @Test(arguments: [false, true])
    func `a text arrives, by file and by abstract name`(isAbstract: Bool) throws {
        let path = (isAbstract ? "@" : "") + directory("notify")
        let systemd = PythonProcess(Self.listener, path)
        #expect(systemd.line() == "bound")
        try ServiceManager.notify("READY=1\nSTATUS=fine", at: path)
        #expect(systemd.line() == "READY=1,STATUS=fine")
    }

    @Test func `without a socket nothing happens`() throws {
        try ServiceManager.notify("READY=1", at: nil)
    }
}

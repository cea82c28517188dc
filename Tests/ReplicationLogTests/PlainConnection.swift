import Glibc

/// A TCP connection to this host that speaks no TLS.
enum PlainConnection {
    struct Failure: Error {
        let call: String
        let errno: CInt
    }

    /// So many connections that say nothing.
    static func open(_ count: Int, toPort port: Int) throws -> [CInt] {
        try (0..<count).map { _ in try connected(toPort: port) }
    }

    static func close(_ sockets: [CInt]) { for socket in sockets { Glibc.close(socket) } }

    /// Waits, ten seconds at most, for the other end to close it.
    static func isClosed(_ socket: CInt) throws -> Bool {
        var byte: UInt8 = 0
        let count = recv(socket, &byte, 1, 0)
        return count == 0 || count < 0 && errno == ECONNRESET
    }

    /// Of which no end has come yet.
    static func stillOpen(_ sockets: [CInt]) -> Int {
        sockets.count { socket in
            var byte: UInt8 = 0
            return recv(socket, &byte, 1, CInt(MSG_DONTWAIT)) < 0 && errno == EAGAIN
        }
    }

    private static func connected(toPort port: Int) throws -> CInt {
        let socket = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw Failure(call: "socket", errno: errno) }
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let connected = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else {
            Glibc.close(socket)
            throw Failure(call: "connect", errno: errno)
        }
        return socket
    }

    /// Connects, says `bytes`, and reads until the other end closes; ten seconds at most.
    static func say(_ bytes: [UInt8], toPort port: Int) throws -> [UInt8] {
        let socket = try connected(toPort: port)
        defer { Glibc.close(socket) }
        guard send(socket, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else {
            throw Failure(call: "send", errno: errno)
        }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(socket, &buffer, buffer.count, 0)
            if count < 0 && errno != ECONNRESET { throw Failure(call: "recv", errno: errno) }
            guard count > 0 else { return answer }
            answer += buffer[..<count]
        }
    }
}

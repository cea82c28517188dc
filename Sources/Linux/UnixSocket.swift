internal import CKernel
internal import Glibc

// Byte streams between processes of one machine, by a name in the file system (unix(7)).

package enum UnixSocket {
    /// Listens at `path`, which gets `mode`: who may write the file may connect (socket, bind, chmod, listen).
    ///
    /// A socket that is there and nobody listens at, as after a crash, is removed first. `Errno.addressInUse` if
    /// somebody does, or if the file is something else. `Errno.nameTooLong` above 107 bytes.
    package static func listen(_ path: String, mode: UInt16 = 0o600) throws(SystemError) -> UnixListener {
        try removeStale(path)
        let descriptor = try newSocket(path, SOCK_STREAM, flags: SOCK_NONBLOCK)
        let raw = descriptor.raw
        try withAddress(path) { (address, byteCount) throws(SystemError) in
            try kernel("bind", path) { bind(raw, address, byteCount) }
        }
        // Before listen(2) nobody can connect, so there is no moment with a wrong mode.
        try kernel("chmod", path) { chmod(path, mode_t(mode)) }
        try kernel("listen", path) { Glibc.listen(raw, 16) }
        return UnixListener(descriptor)
    }

    /// Connects to who listens at `path` (socket, connect). `Errno.noEntry` or `.connectionRefused` if nobody does.
    ///
    /// `send` and `receive` on it wait at most `timeout`, which is more than 0, and then throw `Errno.wouldBlock`.
    package static func connect(_ path: String, timeout: Duration?) throws(SystemError) -> Descriptor {
        let descriptor = try newSocket(path, SOCK_STREAM)
        try descriptor.setSocketTimeout(timeout)
        let raw = descriptor.raw
        try withAddress(path) { (address, byteCount) throws(SystemError) in
            try kernel("connect", path) { Glibc.connect(raw, address, byteCount) }
        }
        return descriptor
    }

    /// One datagram to `path`; an `@` in front stands for a NUL, the kernel's namespace without files (sendto).
    static func sendDatagram(_ bytes: [UInt8], to path: String) throws(SystemError) {
        let descriptor = try newSocket(path, SOCK_DGRAM)
        let raw = descriptor.raw
        try withAddress(path) { (address, byteCount) throws(SystemError) in
            try kernel("sendto", path) {
                sendto(raw, bytes, bytes.count, CInt(MSG_NOSIGNAL), address, byteCount)
            }
        }
    }

    private static func newSocket(
        _ path: String, _ type: __socket_type, flags: __socket_type = __socket_type(0)
    ) throws(SystemError) -> Descriptor {
        let type = CInt(type.rawValue | flags.rawValue | SOCK_CLOEXEC.rawValue)
        return Descriptor(owning: try kernel("socket", path) { socket(AF_UNIX, type, 0) }, path: path)
    }

    private static func removeStale(_ path: String) throws(SystemError) {
        guard let status = try FileStatus.of(path) else { return }
        let taken = SystemError(call: "bind", path: path, errno: .addressInUse)
        guard status.kind == .other else { throw taken }
        do {
            try connect(path, timeout: .seconds(1)).close()
        } catch let error where error.errno == .connectionRefused {
            try kernel("unlink", path) { unlink(path) }
            return
        } catch let error where error.errno == .noEntry {
            return
        }
        throw taken
    }

    @discardableResult
    private static func withAddress<Result>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(SystemError) -> Result
    ) throws(SystemError) -> Result {
        var bytes = Array(path.utf8)
        var address = sockaddr_un()
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard !bytes.isEmpty, bytes.count < room else {
            throw SystemError(call: "sockaddr_un", path: path, errno: bytes.isEmpty ? .invalid : .nameTooLong)
        }
        // Names in files end with a NUL; in the other namespace the length says where they end.
        let isAbstract = bytes[0] == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let byteCount = MemoryLayout<sa_family_t>.size + bytes.count + (isAbstract ? 0 : 1)
        return try withUnsafePointer(to: address) { (address) throws(SystemError) in
            let general = UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
            return try body(general, socklen_t(byteCount))
        }
    }
}

/// A socket that others connect to. Its file stays when this goes: the next `UnixSocket.listen` replaces it.
package struct UnixListener: ~Copyable, Sendable {
    private let descriptor: Descriptor

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }

    /// For `Poller`.
    package var raw: CInt { descriptor.raw }

    /// The next that has connected, or nothing if none waits: poll first (accept4).
    ///
    /// `send` and `receive` on it wait at most `timeout`, which is more than 0, and then throw `Errno.wouldBlock`.
    package func accept(timeout: Duration?) throws(SystemError) -> Descriptor? {
        do {
            let raw = try kernel("accept4", descriptor.path) { ms_accept4(descriptor.raw) }
            let accepted = Descriptor(owning: raw, path: descriptor.path)
            try accepted.setSocketTimeout(timeout)
            return accepted
        } catch let error where error.errno == .wouldBlock || error.errno == .connectionAborted {
            return nil
        }
    }
}

extension Descriptor {
    /// Sends all of `bytes` on a connected socket (send). `Errno.brokenPipe` when the other side is gone, no signal.
    package func send(all bytes: [UInt8]) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try kernel("send", path) {
                bytes.withUnsafeBytes {
                    Glibc.send(raw, $0.baseAddress! + done, $0.count - done, CInt(MSG_NOSIGNAL))
                }
            }
        }
    }

    /// What has come on a connected socket, at least one byte and at most `max`; none when the other side has ended
    /// (recv).
    package func receive(max: Int) throws(SystemError) -> [UInt8] {
        precondition(max > 0, "nothing to receive: at most \(max) bytes")
        var bytes = [UInt8](repeating: 0, count: max)
        let count = try kernel("recv", path) { recv(raw, &bytes, max, 0) }
        bytes.removeLast(max - count)
        return bytes
    }

    /// Says that no more will be sent; the other side reads to the end (shutdown SHUT_WR).
    package func endSending() throws(SystemError) {
        try kernel("shutdown", path) { shutdown(raw, CInt(SHUT_WR)) }
    }

    fileprivate func setSocketTimeout(_ timeout: Duration?) throws(SystemError) {
        guard let timeout else { return }
        // A time of 0 would mean for ever.
        let microseconds = max(1, timeout.nanosecondsClamped / 1000)
        var time = timeval(tv_sec: Int(microseconds / 1_000_000), tv_usec: Int(microseconds % 1_000_000))
        let byteCount = socklen_t(MemoryLayout<timeval>.size)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            try kernel("setsockopt", path) { setsockopt(raw, SOL_SOCKET, option, &time, byteCount) }
        }
    }
}

internal import Glibc

/// The service manager that started us, systemd or one that speaks its protocol (sd_notify(3)): short texts,
/// `NAME=VALUE` in each line, as datagrams to a socket it has named in the environment.
package enum ServiceManager {
    /// `$NOTIFY_SOCKET`: nothing if nobody wants to hear.
    package static var socketPath: String? {
        guard let value = getenv("NOTIFY_SOCKET") else { return nil }
        let path = String(cString: value)
        return path.isEmpty ? nil : path
    }

    /// Tells it, as `READY=1`, `STOPPING=1`, `STATUS=catching up` (sendto). Without a socket nothing happens.
    package static func notify(_ text: String, at socketPath: String? = Self.socketPath) throws(SystemError) {
        guard let socketPath else { return }
        try UnixSocket.sendDatagram(Array(text.utf8), to: socketPath)
    }
}

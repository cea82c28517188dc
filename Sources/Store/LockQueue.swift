import Linux

/// Waits for locks in turn with Cyrus's processes, each in a thread of its own.
///
/// The kernel gives a lock to those who wait for it (fcntl(2), F_OFD_SETLKW): who tries now and then gets none of a user for whom
/// there is always somebody waiting. As such a wait has no timeout, who gives up leaves the thread behind, which lets go at once of what it
/// gets, unless it was asked again. One thread asks.
final class LockQueue: Sendable {
    private let waits = Condition<[String: Wait]>([:])

    private enum Wait: Sendable {
        case wanted, givenUp
        case locked(OpenLock)
    }

    private static let waitsMax = 64

    /// The file, locked shared; nothing after `timeout`, or where it is not waited for: one that cannot be locked, too many others, a
    /// simulation.
    func take(_ path: String, timeout: Duration) -> OpenLock? {
        guard Simulation.kernel == nil, join(path) else { return nil }
        let taken = waits.take(timeout: timeout) { waits -> OpenLock?? in
            if case .wanted? = waits[path] { return nil }
            return Self.taken(path, &waits)
        }
        if let taken { return taken }
        return waits.withLock { waits in
            if case .wanted? = waits[path] { waits[path] = .givenUp }
            return Self.taken(path, &waits)
        }
    }

    private static func taken(_ path: String, _ waits: inout [String: Wait]) -> OpenLock? {
        guard case .locked(let lock)? = waits[path] else { return nil }
        waits[path] = nil
        return lock
    }

    /// Whether a thread waits for it now.
    private func join(_ path: String) -> Bool {
        let isNew = waits.withLock { waits -> Bool? in
            let isNew = waits[path] == nil
            guard !isNew || waits.count < Self.waitsMax else { return nil }
            waits[path] = .wanted
            return isNew
        }
        guard isNew == true else { return isNew != nil }
        do throws(SystemError) {
            _ = try Thread.start(name: "lock") { self.wait(for: path) }
            return true
        } catch {
            waits.withLock { $0[path] = nil }
            return false
        }
    }

    private func wait(for path: String) {
        // Who asked tries it himself then, which tells why.
        var lock = try? OpenLock(awaiting: path)
        waits.update { waits in
            if case .wanted? = waits[path], let lock {
                waits[path] = .locked(lock)
            } else {
                (lock, waits[path]) = (nil, nil)
            }
        }
    }
}

/// A lock that is held as long as this lives.
final class OpenLock: Sendable {
    private let file: Descriptor

    /// `file` is locked.
    init(_ file: consuming Descriptor) { self.file = file }

    init(awaiting path: String) throws(SystemError) {
        let file = try Descriptor.open(path, for: .reading)
        try FileLock.awaitShared(file)
        self.file = file
    }
}

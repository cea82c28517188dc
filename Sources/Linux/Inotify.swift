internal import Glibc

/// The kernel's word of what changes in directories (inotify(7)). Hints: merged, and lost when nobody reads.
///
/// Watches may be added and removed from any thread; events are read by one. That one polls (`raw`, and a `WakeEvent`
/// to be stopped by) and then reads; the owner lets go of this only when the reader has ended, for another inotify
/// may get the same number.
///
/// To miss nothing: add the watch, then read the directory. What comes between is in both.
package final class Inotify: Sendable {
    /// What `read` wants for a buffer.
    package static let bufferBytes = 262_144

    /// A read that gave fewer events than this was not cut short by such a buffer: nothing else was there.
    package static let eventsOfFullBuffer = bufferBytes / (InotifyEvent.headerBytes + 256)

    private let descriptor: Descriptor

    /// `Errno.tooManyOpenFiles` also when this user has `InotifyLimits.instancesMax` (inotify_init1).
    package init() throws(SystemError) {
        let flags = CInt(IN_NONBLOCK) | CInt(IN_CLOEXEC)
        let raw = try kernel("inotify_init1", "inotify") { inotify_init1(flags) }
        descriptor = Descriptor(owning: raw, path: "inotify")
    }

    /// For `Poller`.
    package var raw: CInt { descriptor.raw }

    /// Watches `path` (inotify_add_watch); a directory that is watched already keeps its number and gets the new mask.
    ///
    /// `Errno.noSpace` when this user has `InotifyLimits.watchesMax`.
    package func addWatch(_ path: [UInt8], _ mask: InotifyMask) throws(SystemError) -> WatchNumber {
        let name = try terminated(path, for: "inotify_add_watch")
        let number = try kernel("inotify_add_watch", String(decoding: path, as: UTF8.self)) {
            inotify_add_watch(raw, name, mask.rawValue)
        }
        return WatchNumber(rawValue: number)
    }

    package func addWatch(_ path: String, _ mask: InotifyMask) throws(SystemError) -> WatchNumber {
        try addWatch(Array(path.utf8), mask)
    }

    /// Watches a directory beneath `root`, found without following a symbolic link.
    package func addWatch(
        _ path: [UInt8], in root: Directory, _ mask: InotifyMask
    ) throws(SystemError) -> WatchNumber {
        // inotify has no call that takes a descriptor; this link of /proc always leads to what the descriptor is.
        let directory = try root.openDirectory(path)
        do {
            return try addWatch("/proc/self/fd/\(directory.descriptor.raw)", mask.subtracting(.doNotFollow))
        } catch {
            throw SystemError(call: error.call, path: directory.path, errno: error.errno)
        }
    }

    /// An `ignored` event follows. `Errno.invalid` if there is no such watch, as when the directory is gone already.
    package func removeWatch(_ watch: WatchNumber) throws(SystemError) {
        try kernel("inotify_rm_watch", "inotify watch \(watch.rawValue)") { inotify_rm_watch(raw, watch.rawValue) }
    }

    /// What is there now, at most a `buffer` full; none if there is nothing (read). Never waits.
    ///
    /// `buffer` must have room for one event (272 bytes) and should have `bufferBytes`; its content is of no interest.
    package func read(into buffer: inout [UInt8]) throws(SystemError) -> [InotifyEvent] {
        do {
            let count = try kernel("read", "inotify") { Glibc.read(raw, &buffer, buffer.count) }
            return buffer.withUnsafeBytes { InotifyEvent.decodeAll(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        } catch let error where error.errno == .wouldBlock {
            return []
        }
    }
}

/// What the administrator allows (/proc/sys/fs/inotify), for each user.
package struct InotifyLimits: Equatable, Sendable {
    /// fs.inotify.max_user_watches
    package let watchesMax: Int
    /// fs.inotify.max_user_instances
    package let instancesMax: Int
    /// fs.inotify.max_queued_events: unread events of one instance; one more is an overflow.
    package let queuedEventsMax: Int

    package init(watchesMax: Int, instancesMax: Int, queuedEventsMax: Int) {
        self.watchesMax = watchesMax
        self.instancesMax = instancesMax
        self.queuedEventsMax = queuedEventsMax
    }

    package static func current() throws(SystemError) -> InotifyLimits {
        try InotifyLimits(
            watchesMax: number("max_user_watches"),
            instancesMax: number("max_user_instances"),
            queuedEventsMax: number("max_queued_events"))
    }

    private static func number(_ name: String) throws(SystemError) -> Int {
        let path = "/proc/sys/fs/inotify/\(name)"
        let text = try Descriptor.open(path, for: .reading).readAll(max: 64)
        guard let number = Int(String(decoding: text.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)) else {
            throw SystemError(call: "read", path: path, errno: .invalid)
        }
        return number
    }
}

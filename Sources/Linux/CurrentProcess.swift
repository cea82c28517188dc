internal import CKernel
internal import Glibc

/// What this process is, may and uses.
package enum CurrentProcess {
    /// getpid
    package static var identifier: CInt { getpid() }
    /// geteuid; 0 is root.
    package static var effectiveUser: UInt32 { geteuid() }

    /// The machine's own name, or nothing in words if it has none (gethostname).
    package static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// How many descriptors it may have open at once (getrlimit RLIMIT_NOFILE): now, and what it may raise that to.
    package static func openFilesMax() throws(SystemError) -> (current: UInt64, ceiling: UInt64) {
        var limit = rlimit()
        try kernel("getrlimit", "RLIMIT_NOFILE") { getrlimit(openFiles, &limit) }
        return (UInt64(limit.rlim_cur), UInt64(limit.rlim_max))
    }

    /// Raises the number to `wanted`, or as near as the ceiling allows (setrlimit); never lowers it.
    /// Returns what it is now.
    @discardableResult
    package static func raiseOpenFilesMax(to wanted: UInt64) throws(SystemError) -> UInt64 {
        let (current, ceiling) = try openFilesMax()
        let raised = min(wanted, ceiling)
        if raised <= current { return current }
        var limit = rlimit(rlim_cur: rlim_t(raised), rlim_max: rlim_t(ceiling))
        try kernel("setrlimit", "RLIMIT_NOFILE") { setrlimit(openFiles, &limit) }
        return raised
    }

    /// All threads share two of malloc's arenas, instead of eight for each processor: what one thread has freed another may
    /// use, and a daemon of a dozen threads holds less (mallopt, M_ARENA_MAX). To be called before there are threads.
    package static func shareMemoryAmongThreads() { _ = ms_limit_arenas(2) }  // refused, it is as without

    /// Memory in use (resident set size), from /proc/self/statm.
    package static func residentBytes() throws(SystemError) -> Int {
        let path = "/proc/self/statm"
        let text = try Descriptor.open(path, for: .reading).readAll(max: 4096)
        // Pages: total, resident, shared, ...
        let words = String(decoding: text, as: UTF8.self).split(separator: " ")
        guard words.count > 1, let pages = Int(words[1]) else {
            throw SystemError(call: "read", path: path, errno: .invalid)
        }
        return pages * sysconf(CInt(_SC_PAGESIZE))
    }

    /// Lets this thread, and those it starts later, use disks only when nobody else does (ioprio_set, class idle).
    /// Schedulers other than BFQ take no notice.
    package static func useDiskWhenIdle() throws(SystemError) {
        // There all threads take turns: one that is slow slows all.
        guard Simulation.kernel == nil else { return }
        try kernel("ioprio_set", "this thread") { ms_ioprio_idle() }
    }

    /// Lets this thread give way to others that want to run, and never wait for them for good: it has a tenth of one's share
    /// (setpriority); it cannot go back.
    package static func useProcessorModestly() {
        guard Simulation.kernel == nil else { return }
        // On Linux this is the thread's own; only politeness, so a refusal is no error.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
    }

    private static let openFiles = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
}

/// A user of this machine.
package struct Account: Hashable, Sendable {
    package let name: String
    package let user: UInt32
    package let group: UInt32

    package init(name: String, user: UInt32, group: UInt32) {
        self.name = name
        self.user = user
        self.group = group
    }

    /// From the user database; nothing if there is none of that name (getpwnam_r).
    package static func named(_ name: String) throws(SystemError) -> Account? {
        // A long entry needs a longer buffer; passwd lines above 1 MiB there are none.
        for byteCount in [1024, 65_536, 1 << 20] {
            var entry = passwd()
            var found: UnsafeMutablePointer<passwd>?
            var buffer = [CChar](repeating: 0, count: byteCount)
            do {
                try kernel(returningError: "getpwnam_r", name) {
                    getpwnam_r(name, &entry, &buffer, byteCount, &found)
                }
            } catch let error where error.errno.rawValue == ERANGE {
                continue
            } catch let error where error.errno == .noEntry {
                return nil
            }
            return found == nil ? nil : Account(name: name, user: entry.pw_uid, group: entry.pw_gid)
        }
        throw SystemError(call: "getpwnam_r", path: name, errno: Errno(rawValue: ERANGE))
    }
}

internal import CKernel
internal import Glibc

// Landlock (landlock(7)): a thread gives up rights, for itself and for all threads and programs it starts from then on,
// and never gets them back. What is open stays open. Needs no privilege; kernels before 5.13, and those built or booted
// without it, have none.
//
//     version   what came
//     1         files and directories, but renaming between directories is always forbidden: not used here
//     2         renaming between directories where both allow it
//     3         truncating
//     4         TCP: binding and connecting by port

/// What a process may still do once it has given up the rest. Reading is never restricted.
package struct Landlock: Sendable {
    /// Directories in which, and below which, anything may be written, made, renamed and removed. They must exist.
    package var writable: [String]
    /// TCP ports that may be listened at and connected to; from version 4.
    package var listening: [UInt16]
    package var connecting: [UInt16]

    package init(writable: [String], listening: [UInt16], connecting: [UInt16]) {
        self.writable = writable
        self.listening = listening
        self.connecting = connecting
    }

    /// What is in force.
    package enum Reach: Equatable, Sendable {
        /// This kernel has no Landlock, or one of version 1.
        case nothing
        case files
        case filesAndNetwork
    }

    /// Of the kernel's Landlock; 0 where there is none (landlock_create_ruleset).
    package static var version: Int { max(0, Int(ms_landlock_version())) }

    /// What `restrict` would put in force here.
    package static var reach: Reach { version < 2 ? .nothing : version < 4 ? .files : .filesAndNetwork }

    /// Restricts the calling thread, and those that it starts afterwards; other threads go on as they were, so this is
    /// for the first, before there is a second (landlock_create_ruleset, landlock_add_rule, landlock_restrict_self). Sets
    /// no_new_privs as well (prctl).
    ///
    /// When it throws, nothing is in force.
    package func restrict() throws(SystemError) -> Reach {
        let reach = Self.reach
        guard reach != .nothing else { return reach }
        let rights = Self.version < 3 ? Self.writing & ~UInt64(MS_LANDLOCK_TRUNCATE) : Self.writing
        let ports = reach == .filesAndNetwork ? UInt64(MS_LANDLOCK_BIND_TCP | MS_LANDLOCK_CONNECT_TCP) : 0
        let raw = try kernel("landlock_create_ruleset", "this thread") { ms_landlock_create(rights, ports) }
        let rules = Descriptor(owning: raw, path: "landlock")
        for path in writable { try allow(rights, beneath: path, rules) }
        if ports != 0 {
            for port in listening { try allow(UInt64(MS_LANDLOCK_BIND_TCP), port, rules) }
            for port in connecting { try allow(UInt64(MS_LANDLOCK_CONNECT_TCP), port, rules) }
        }
        try kernel("landlock_restrict_self", "this thread") { ms_landlock_restrict(rules.raw) }
        return reach
    }

    private func allow(_ rights: UInt64, beneath path: String, _ rules: borrowing Descriptor) throws(SystemError) {
        let raw = try kernel("open", path) { Glibc.open(path, CInt(MS_O_PATH) | O_DIRECTORY | O_CLOEXEC) }
        let directory = Descriptor(owning: raw, path: path)
        let rulesRaw = rules.raw
        try kernel("landlock_add_rule", path) { ms_landlock_allow_path(rulesRaw, directory.raw, rights) }
    }

    private func allow(_ right: UInt64, _ port: UInt16, _ rules: borrowing Descriptor) throws(SystemError) {
        let rulesRaw = rules.raw
        try kernel("landlock_add_rule", "port \(port)") { ms_landlock_allow_port(rulesRaw, UInt64(port), right) }
    }

    /// All that changes anything: the bits of landlock(7) but those for reading, executing and devices' own calls.
    private static let writing = UInt64(MS_LANDLOCK_WRITING)
}

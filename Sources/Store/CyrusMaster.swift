import Linux

/// Cyrus's master process, which starts all the others: where it runs, Cyrus writes the store.
package enum CyrusMaster {
    /// As it is installed upstream, by Debian, and by Fedora.
    private static let programs: Set<Substring> = ["master", "cyrmaster", "cyrus-master"]
    /// master(8): -C names another.
    private static let standardConfiguration = "/etc/imapd.conf"

    package static let replicaHint = "stop it, and keep it from starting with the host, until this end is promoted"

    /// What is wrong with a replica on which Cyrus runs with that imapd.conf; nothing if none is seen to run.
    package static func warning(for imapdConf: String) -> String? {
        // Without /proc there is none to be seen.
        guard let master = running(with: imapdConf, among: (try? RunningProcess.all()) ?? []) else { return nil }
        return "Cyrus runs on this replica (process \(master.identifier)), and what it writes the primary does not know"
    }

    /// Which of `processes` is a master with that imapd.conf; nothing if none is.
    static func running(with imapdConf: String, among processes: [RunningProcess]) -> RunningProcess? {
        processes.first { process in
            guard let its = configuration(of: process.arguments) else { return false }
            // In a container the same path is another file; whose files we may not see, the path is all there is.
            guard let own = file(imapdConf), let other = file("/proc/\(process.identifier)/root\(its)") ?? file(its)
            else { return its == imapdConf }
            return own == other
        }
    }

    /// The imapd.conf that a command line names; nothing if it is not a master's.
    static func configuration(of arguments: [String]) -> String? {
        guard let program = arguments.first?.split(separator: "/").last, programs.contains(program) else { return nil }
        for (index, word) in arguments.enumerated() where word.hasPrefix("-C") {
            if word.count > 2 { return String(word.dropFirst(2)) }
            return index + 1 < arguments.count ? arguments[index + 1] : nil
        }
        // Postfix has a master too: without -C, one counts that stands in a directory of Cyrus's name.
        return arguments[0].contains("cyr") ? standardConfiguration : nil
    }

    private struct File: Equatable {
        let device: UInt64
        let inode: UInt64
    }

    private static func file(_ path: String) -> File? {
        // What cannot be opened, the path stands for.
        guard let status = try? Descriptor.open(path, for: .reading).status() else { return nil }
        return File(device: status.device, inode: status.inode)
    }
}

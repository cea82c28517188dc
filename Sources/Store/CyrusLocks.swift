package import Formats
package import Linux

/// Cyrus's locks as a reader takes them: shared, by open file description (fcntl, F_OFD_SETLK).
///
/// Cyrus locks whole files with fcntl (lib/lock_fcntl.c). A writer of a mailbox holds its user's lock exclusively from
/// before its first write until after its last one (imap/user.c, user_namespacelock_full), so who has that lock shared
/// reads all the user's files between two transactions. No lock file is ever made here: one that does not exist is
/// held by nobody, and who made it meanwhile is found out afterwards.
package final class CyrusLocks: Sendable {
    package let directory: String
    private let rules: PathRules
    private let queue = LockQueue()

    /// `directory`: mboxname_lockpath. It may not exist before Cyrus's first start after a boot, and it may go and come
    /// again with the server, so it is looked up each time.
    package init(directory: String, rules: PathRules) {
        self.directory = directory
        self.rules = rules
    }

    /// A shared lock on a user's namespace, or the knowledge that nobody could hold one.
    package struct UserLock: ~Copyable {
        fileprivate let path: [UInt8]
        fileprivate let file: OpenLock?
    }

    /// Nothing while somebody writes. `user`: nothing for the namespace of shared mailboxes.
    package func tryUserLock(_ user: [UInt8]?) throws(SystemError) -> UserLock? {
        let path = MailboxPath.userLock(user ?? [], rules: rules)
        guard let file = try open(path) else { return UserLock(path: path, file: nil) }
        guard try FileLock.tryShared(file) else { return nil }
        return UserLock(path: path, file: OpenLock(file))
    }

    /// The same, in turn with those who write there; nothing if it does not come within `timeout`, and at once in a simulation.
    package func awaitUserLock(_ user: [UInt8]?, timeout: Duration) -> UserLock? {
        let path = MailboxPath.userLock(user ?? [], rules: rules)
        guard let lock = queue.take(place(path), timeout: timeout) else { return nil }
        return UserLock(path: path, file: lock)
    }

    /// Lets go; false if somebody may have written meanwhile, because there was no file to lock.
    package func release(_ lock: consuming UserLock) throws(SystemError) -> Bool {
        if lock.file != nil { return true }
        return try open(lock.path) == nil
    }

    private func place(_ path: [UInt8]) -> String { directory + "/" + String(decoding: path, as: UTF8.self) }

    private func open(_ path: [UInt8]) throws(SystemError) -> Descriptor? {
        do throws(SystemError) {
            return try .open(place(path), for: .reading)
        } catch {
            // A name too long for a file is no lock of Cyrus's either.
            guard [.noEntry, .notDirectory, .nameTooLong].contains(error.errno) else { throw error }
            return nil
        }
    }
}

/// How a file is to be locked for reading.
package enum FileLocking: Sendable {
    /// Only ever replaced: one open file is one version.
    case none
    /// The whole file: cyrus.index, twoskip, skiplist.
    case whole
    /// SQLite's SHARED lock (sqlite3, os_unix.c): its pending byte is tried first, so that a writer who waits gets on.
    case sqlite
}

/// A file that nobody writes while this lives, and its status then.
package final class LockedFile: Sendable {
    package let file: Descriptor
    package let status: FileStatus
    /// Half of a transaction of SQLite's may be in it, which its next opener takes back: the writer died.
    package let isHalfWritten: Bool

    init(status: FileStatus, file: consuming Descriptor, isHalfWritten: Bool = false) {
        self.status = status
        self.file = file
        self.isHalfWritten = isHalfWritten
    }
}

extension Directory {
    /// Opens the file `name` in this directory and locks it as told; nothing while it is being written, or was just
    /// replaced.
    ///
    /// Cyrus replaces databases and repacked indexes under their lock, so a lock counts only if the name still leads to
    /// the file that was locked (lib/cyrusdb_twoskip.c, lock_reopen).
    package func openLocked(_ name: [UInt8], _ locking: FileLocking) throws(SystemError) -> LockedFile? {
        let file = try open(name, for: .reading)
        var isHalfWritten = false
        switch locking {
        case .none:
            return LockedFile(status: try file.status(), file: file)
        case .whole:
            guard try FileLock.tryShared(file) else { return nil }
        case .sqlite:
            let pending = LockRange(start: 0x4000_0000, byteCount: 1)
            guard try FileLock.tryShared(file, pending) else { return nil }
            let locked = try FileLock.tryShared(file, LockRange(start: 0x4000_0002, byteCount: 510))
            try FileLock.unlock(file, pending)
            guard locked else { return nil }
            isHalfWritten = try hasHotJournal(name, file)
        }
        let status = try file.status()
        guard try self.status(of: name)?.inode == status.inode else { return nil }
        return LockedFile(status: status, file: file, isHalfWritten: isHalfWritten)
    }

    /// Who has a journal holds RESERVED as well, as long as they live (sqlite3, pager.c, hasHotJournal).
    private func hasHotJournal(_ name: [UInt8], _ file: borrowing Descriptor) throws(SystemError) -> Bool {
        func hasJournal() throws(SystemError) -> Bool {
            try status(of: name + Array("-journal".utf8)).map { $0.byteCount > 0 } ?? false
        }
        guard try hasJournal(), try FileLock.holder(file, LockRange(start: 0x4000_0001, byteCount: 1)) == nil else {
            return false
        }
        // It goes before the lock does.
        return try hasJournal()
    }
}

import Formats
import Linux

/// Sees Cyrus let go of users' locks: the moment at which what was written under them is complete.
///
/// Who releases a lock closes its file, opened for writing (imap/mboxlist.c, mboxname_release), so the kernel says
/// close-write in the lock's directory, after the events of all that was written before. These events are a reason to
/// look at once, not the only one: where they do not come, the capturer tries after a pause.
struct LockWatch {
    /// `mboxname_lockpath`: often on a file system of memory, and not there before Cyrus's first start after a boot.
    let root: String
    let rules: PathRules

    private static let mask: InotifyMask = [.closeWrite, .create, .onlyDirectory]

    /// Watches what there is of the lock directories; false if there is nothing yet.
    func attach(to inotify: Inotify, _ tree: inout WatchTree) throws(SystemError) -> Bool {
        guard try watch(root, inotify, &tree) else { return false }
        let entries: [DirectoryEntry]
        do throws(SystemError) {
            entries = try Directory(root).entries()
        } catch {
            guard Self.isBearable(error) else { throw error }
            return false
        }
        for entry in entries { try attach(entry.name, to: inotify, &tree) }
        return true
    }

    /// A name that came in the lock root: user locks are in it, or in directories of one letter.
    func attach(_ name: [UInt8], to inotify: Inotify, _ tree: inout WatchTree) throws(SystemError) {
        guard rules.spoolHash == .hashed, name.count == 1 else { return }
        // All of them begin with `*U*`, so but for `fulldirhash` they are in one directory.
        guard rules.letter == .ofWholeName || name == [rules.hash(Array("*U*".utf8))] else { return }
        _ = try watch(root + "/" + String(decoding: name, as: UTF8.self), inotify, &tree)
    }

    private func watch(_ path: String, _ inotify: Inotify, _ tree: inout WatchTree) throws(SystemError) -> Bool {
        do throws(SystemError) {
            tree.note(try inotify.addWatch(path, Self.mask), .locks)
            return true
        } catch {
            guard Self.isBearable(error) else { throw error }
            return false
        }
    }

    /// Without these watches capture is some milliseconds slower, and as right.
    private static func isBearable(_ error: SystemError) -> Bool {
        [.noEntry, .notDirectory, .accessDenied].contains(error.errno) || error.isShortage
    }
}

package import Digests
package import Formats
package import Linux

extension StoreRoots {
    /// What Cyrus's index says the content of the message at `path` is; nothing if it does not name it, or is broken.
    ///
    /// Reads the index without a lock: of a message that is there, its record says the same before and after.
    package func indexedGUID(of path: StorePath) throws(SystemError) -> MessageGUID? {
        guard case .message(let uid) = layout.role(of: path) else { return nil }
        for root in names where root == path.root || RootKind(root).holdsMailboxes {
            guard let directory = StorePath(root: root, path: path.parent.path),
                let file = try openIfThere(directory.appending("cyrus.index"))
            else { continue }
            let bytes = try file.readAll(max: 1 << 30)
            // One without a header that makes sense vouches for nothing; any other by each record whose checksum holds.
            guard let index = try? IndexImage(bytes) else { return nil }
            let found = index.record(uid: uid) ?? index.records.first { $0.uid == uid && $0.isCRCRight }
            return found.flatMap { $0.isCRCRight ? $0.guid : nil }
        }
        return nil
    }
}

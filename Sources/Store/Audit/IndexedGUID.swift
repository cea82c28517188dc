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
            return (try? IndexImage(bytes))?.record(uid: uid)?.guid  // a broken index vouches for nothing
        }
        return nil
    }
}

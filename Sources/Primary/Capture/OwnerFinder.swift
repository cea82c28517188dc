import Formats
import Linux
import Store

/// Finds whose lock covers a file: the user that Cyrus's own writers of it lock (imap/user.c).
struct OwnerFinder {
    let roots: StoreRoots

    /// Which lock to take before reading.
    enum Owner: Hashable {
        case user([UInt8])
        /// Mailboxes that are no user's share one lock.
        case shared
        /// No user's lock covers it; it has its own, or is only ever replaced.
        case none

        var user: [UInt8]? { if case .user(let name) = self { name } else { nil } }
    }

    func owner(of path: StorePath, isDirectory: Bool) throws(SystemError) -> Owner {
        let rules = roots.layout.rules.paths
        switch StoreUnit(of: path, isDirectory ? .directory : .file, rules: rules) {
        case .mailbox(let directory):
            return try owner(ofMailbox: directory)
        case .user(.name(let user)):
            return .user(user)
        case .user(.inbox(let id)):
            guard let directory = MailboxPath.directory(uniqueID: id) else { return .none }
            for root in roots.names where RootKind(root).holdsMailboxes {
                guard let inbox = StorePath(root: root, path: directory) else { continue }
                let owner = try owner(ofMailbox: inbox)
                if owner != .none { return owner }
            }
            return .none
        case .quota(let root):
            return MailboxName(internalName: root, rules: rules).userID.map(Owner.user) ?? .shared
        case .global:
            return .none
        }
    }

    /// By the path, where that tells the name; else by the name in cyrus.header, in whichever root that is. Not the other
    /// way round: in a legacy directory the header keeps the old name after its user was renamed.
    private func owner(ofMailbox directory: StorePath) throws(SystemError) -> Owner {
        let rules = roots.layout.rules.paths
        if let name = MailboxPath.name(ofLegacyDirectory: directory.path, rules: rules) {
            return name.userID.map(Owner.user) ?? .shared
        }
        for root in roots.names where RootKind(root).holdsMailboxes {
            guard let place = StorePath(root: root, path: directory.path),
                let bytes = try header(in: place),
                let header = try? MailboxHeader(decoding: bytes)  // a broken one: no owner, the poison gate tells
            else { continue }
            guard let name = header.name.map({ MailboxName(internalName: $0, rules: rules) }) else { continue }
            return name.userID.map(Owner.user) ?? .shared
        }
        return .none
    }

    private func header(in directory: StorePath) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            return try roots.open(directory.appending("cyrus.header")).readAll(max: 1 << 20)
        } catch {
            // One that may not be read is nobody's, as far as we can know: what is in it cannot be read either.
            guard [.noEntry, .notDirectory, .accessDenied].contains(error.errno) else { throw error }
            return nil
        }
    }
}

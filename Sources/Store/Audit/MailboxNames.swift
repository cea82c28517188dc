package import Formats
package import Linux

/// Whose a path is, in Cyrus's words: by the path, where a legacy directory tells the name, else by the name in cyrus.header.
///
/// Not the other way round: in a legacy directory the header keeps the old name after its user was renamed.
package final class MailboxNames {
    private let roots: StoreRoots
    private var known: [StorePath: MailboxName?] = [:]

    package struct Owner: Sendable {
        /// The internal name.
        package var mailbox: [UInt8]?
        package var user: [UInt8]?
    }

    package init(_ roots: StoreRoots) { self.roots = roots }

    /// For people. Nothing for what is no mailbox's, or has no header any more, or cannot be read; as it was when it was first
    /// asked for.
    package func name(of path: StorePath) -> MailboxName? {
        guard case .mailbox(let directory) = roots.layout.unit(of: path) else { return nil }
        if let name = known[directory] { return name }
        let name = try? self.name(ofMailbox: directory)  // a name is beside the point: what cannot be read has none
        known[directory] = .some(name)
        return name
    }

    /// As of now.
    package func owner(of path: StorePath) throws(SystemError) -> Owner {
        let rules = roots.layout.rules.paths
        let isDirectory = try roots.status(of: path)?.kind == .directory
        switch roots.layout.unit(of: path, isDirectory ? .directory : .file) {
        case .mailbox(let directory):
            let name = try name(ofMailbox: directory)
            return Owner(mailbox: name?.internalName(rules: rules), user: name?.userID)
        case .user(.name(let user)):
            return Owner(user: user)
        case .user(.inbox(let id)):
            guard let directory = MailboxPath.directory(uniqueID: id) else { return Owner() }
            for root in roots.names {
                guard let inbox = StorePath(root: root, path: directory) else { continue }
                if let name = try name(ofMailbox: inbox) { return Owner(user: name.userID) }
            }
            return Owner()
        case .quota(let root):
            return Owner(user: MailboxName(internalName: root, rules: rules).userID)
        case .global:
            return Owner()
        }
    }

    private func name(ofMailbox directory: StorePath) throws(SystemError) -> MailboxName? {
        guard let place = MailboxPlace(directory, layout: roots.layout) else { return nil }
        let rules = roots.layout.rules.paths
        if let name = place.name(nil, rules) { return name }
        // A broken one names nobody.
        return place.name(MailboxView.decoded(try MailboxView.headerBytes(place, roots)).0, rules)
    }
}

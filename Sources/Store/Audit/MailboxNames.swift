package import Formats

/// Whose a path is, for people: by the name in the cyrus.header beside it, or by a legacy directory itself.
package final class MailboxNames {
    private let roots: StoreRoots
    private var known: [StorePath: MailboxName?] = [:]

    package init(_ roots: StoreRoots) { self.roots = roots }

    /// Nothing for what is no mailbox's, or has no header any more.
    package func name(of path: StorePath) -> MailboxName? {
        let layout = roots.layout
        guard case .mailbox(let directory) = layout.unit(of: path) else { return nil }
        if let name = known[directory] { return name }
        var name: MailboxName?
        if let place = MailboxPlace(directory, layout: layout) {
            // A name is beside the point: what cannot be read has none.
            let bytes = try? MailboxView.headerBytes(place, roots)
            name = place.name(MailboxView.decoded(bytes).0, layout.rules.paths)
        }
        known[directory] = name
        return name
    }
}

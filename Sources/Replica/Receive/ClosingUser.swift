import Formats
import ReplicationLog

/// Closes its user's link when the replica stops.
final class ClosingUser: LinkUser {
    private let user: any LinkUser
    private let shared: SharedReplica

    init(_ user: any LinkUser, when shared: SharedReplica) {
        self.user = user
        self.shared = shared
    }

    func linkOpened(_ link: Link) {
        user.linkOpened(link)
        shared.opened(link)
    }

    func link(_ link: Link, received message: Message) { user.link(link, received: message) }
    func linkBecameWritable(_ link: Link) { user.linkBecameWritable(link) }
    func linkHeartbeat(_ link: Link) { user.linkHeartbeat(link) }

    func linkClosed(_ link: Link, reason: String) {
        shared.closed(link)
        user.linkClosed(link, reason: reason)
    }
}

internal import Digests
package import Formats

/// Tells the other end that there is a newer primary, and hears what it says: the fence.
package final class FenceUser: LinkUser {
    private let hello: Hello
    private let ended: @Sendable (_ isFenced: Bool) -> Void

    /// `ended` is called once, with the link; true if the other end knows now.
    package init(store: String, epoch: Epoch, ended: @escaping @Sendable (_ isFenced: Bool) -> Void) {
        hello = Hello(
            store: store, purpose: .fence, flushed: .zero, hash: .zero, applied: .zero, epochSeen: epoch,
            naming: NamingRules())
        self.ended = ended
    }

    package func linkOpened(_ link: Link) { link.send(.hello(hello)) }

    package func link(_ link: Link, received message: Message) {
        if case .refuse(let refusal, let text) = message {
            ended(refusal == .fenced || refusal == .notPrimary)
            link.close(because: text)
        }
    }

    package func linkBecameWritable(_ link: Link) {}
    package func linkHeartbeat(_ link: Link) {}
    package func linkClosed(_ link: Link, reason: String) {}
}

/// Refuses everybody: a primary that was replaced.
package final class FencedUser: LinkUser {
    private let epoch: Epoch

    package init(by epoch: Epoch) { self.epoch = epoch }

    /// To the operator and to the replicas.
    package static func reason(_ epoch: Epoch) -> String {
        "this primary was replaced: epoch \(epoch) was promoted elsewhere"
    }

    package func linkOpened(_ link: Link) {}

    package func link(_ link: Link, received message: Message) {
        link.refuse(.fenced, Self.reason(epoch))
    }

    package func linkBecameWritable(_ link: Link) {}
    package func linkHeartbeat(_ link: Link) {}
    package func linkClosed(_ link: Link, reason: String) {}
}

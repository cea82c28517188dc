internal import Digests
package import Formats

/// Tells the other end that there is a newer primary, and hears what it says: the fence.
package final class FenceUser: LinkUser {
    package enum Answer: Equatable, Sendable {
        /// It ships nothing any more, if it ever did.
        case told
        /// It is to be told again.
        case untold
        /// It is a primary of an epoch that is not lower, and goes on: for the operator.
        case rival(why: String)
    }

    private let hello: Hello
    private let ended: @Sendable (Answer) -> Void

    /// `ended` is called once, with the link.
    package init(store: String, epoch: Epoch, ended: @escaping @Sendable (Answer) -> Void) {
        hello = Hello(
            store: store, purpose: .fence, flushed: .zero, hash: .zero, applied: .zero, epochSeen: epoch,
            naming: NamingRules())
        self.ended = ended
    }

    package func linkOpened(_ link: Link) { link.send(.hello(hello)) }

    package func link(_ link: Link, received message: Message) {
        if case .refuse(let refusal, let text) = message {
            switch refusal {
            case .fenced, .notPrimary: ended(.told)
            case .rival: ended(.rival(why: text))
            default: ended(.untold)
            }
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

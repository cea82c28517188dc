package import Formats

/// Something in a store that a Cyrus would not have left between two transactions.
package struct CyrusFinding: Hashable, Sendable {
    /// Of the file or directory that is wrong.
    package let path: StorePath
    /// Whose it is, where that is known.
    package let mailbox: MailboxName?
    package let kind: Kind
    /// For the operator: what was found, and what should be there.
    package let why: String

    package enum Kind: String, Codable, Sendable {
        /// A file that must be there is not.
        case missing
        /// It cannot be read, or its bytes are not what such a file consists of.
        case unreadable
        /// A checksum within the file, or of the file, is not that of its bytes.
        case checksum
        /// A message that is not the one its index record is about.
        case message
        /// Numbers in one file contradict what they count.
        case count
        /// UIDs or modification sequences out of order or above their bounds.
        case order
        /// A flag without a name.
        case flag
        /// A message file that no record is about.
        case extra
        /// A directory of a mailbox that mailboxes.db does not name.
        case orphan
        /// An entry of mailboxes.db without its mailbox.
        case dangling
        /// Two places that should say the same of a mailbox do not.
        case disagreement
        /// Usage that is not the sum over the mailboxes.
        case quota
        /// A cache that is not there: Cyrus parses the messages again. It loses caches itself when a user moves between
        /// partitions of which only one has a metadata partition.
        case uncached
        /// Of a writer that died; Cyrus recovers it when it opens it next.
        case unfinished

        /// Whether something is lost or wrong; else Cyrus mends it by itself.
        package var isAlarm: Bool { self != .uncached && self != .unfinished }
    }

    package init(_ kind: Kind, _ path: StorePath, _ mailbox: MailboxName?, _ why: String) {
        self.kind = kind
        self.path = path
        self.mailbox = mailbox
        self.why = why
    }
}

extension CyrusFinding: CustomStringConvertible {
    package var description: String { "\(path): \(mailbox.map { "\($0): " } ?? "")\(why)" }
}

/// What a check came to.
package struct CyrusVerdict: Equatable, Sendable {
    package var findings: [CyrusFinding] = []
    /// What was written whenever it was looked at, or may not be read: neither good nor bad, come again.
    package var busy: [StorePath] = []

    package init() {}
}

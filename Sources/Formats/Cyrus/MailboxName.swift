/// The name of a mailbox, in the two forms that Cyrus stores it.
///
///     internal   [domain!] [DELETED.] [user.localpart | shared] [.box …] [.HEXTIME]       in cyrus.header, quotas, logs
///     database   [domain 1D] the same with 1F for the separator                           in keys of mailboxes.db
///
/// A dot within a component is `^` in the internal form and itself in the database's. Names are bytes: modified
/// UTF-7 as a rule, checked by nobody (imap/mboxname.c, mbname_from_intname).
package struct MailboxName: Hashable, Sendable {
    package private(set) var domain: [UInt8]?
    /// When it was deleted, in seconds since 1970, if it's a deleted mailbox that is still kept.
    package private(set) var deletedAt: UInt32?
    /// Of the user it belongs to; nothing for a shared mailbox.
    package private(set) var localpart: [UInt8]?
    /// Components below the user, or all of them of a shared mailbox.
    package private(set) var boxes: [[UInt8]]

    package init(domain: [UInt8]? = nil, localpart: [UInt8]?, boxes: [[UInt8]] = [], deletedAt: UInt32? = nil) {
        self.domain = domain
        self.localpart = localpart
        self.boxes = boxes
        self.deletedAt = deletedAt
    }

    /// From the internal form. Any bytes are a name of some mailbox.
    package init(internalName: some Collection<UInt8>, rules: PathRules = PathRules()) {
        var rest = Array(internalName)[...]
        var domain: [UInt8]?
        if let cut = rest.firstIndex(of: Self.exclamation) {
            domain = Array(rest[..<cut])
            rest = rest[(cut + 1)...]
        }
        let parts = rest.split(separator: Self.dot, omittingEmptySubsequences: false)
        self.init(domain: domain, components: rest.isEmpty ? [] : parts.map(Self.unescaped), rules: rules)
    }

    /// From the form of mailboxes.db, without the letter `N` before it.
    package init(databaseName: some Collection<UInt8>, rules: PathRules = PathRules()) {
        var rest = Array(databaseName)[...]
        var domain: [UInt8]?
        if let cut = rest.firstIndex(of: Self.databaseDomainSeparator) {
            domain = Array(rest[..<cut])
            rest = rest[(cut + 1)...]
        }
        let parts = rest.split(separator: Self.databaseSeparator, omittingEmptySubsequences: false)
        self.init(domain: domain, components: rest.isEmpty ? [] : parts.map(Array.init), rules: rules)
    }

    /// From whole components, with `DELETED`, `user` and the time among them.
    init(domain: [UInt8]?, components: [[UInt8]], rules: PathRules) {
        self.domain = domain == rules.defaultDomain ? nil : domain
        boxes = components
        if boxes.count > 2, boxes[0] == rules.deletedPrefix {
            boxes.removeFirst()
            deletedAt = Self.hexadecimalPrefix(boxes.removeLast())
        }
        if boxes.count > 1, boxes[0] == Self.user {
            boxes.removeFirst()
            localpart = boxes.removeFirst()
        }
    }

    package var isDeleted: Bool { deletedAt != nil }
    package var isInbox: Bool { localpart != nil && boxes.isEmpty && !isDeleted }

    /// Whose it is: `alice`, `alice@domain`, nothing when shared. A deleted mailbox remains its user's.
    package var userID: [UInt8]? {
        guard let localpart else { return nil }
        return domain.map { localpart + [Self.at] + $0 } ?? localpart
    }

    package func internalName(rules: PathRules = PathRules()) -> [UInt8] {
        joined(separator: Self.dot, rules: rules, Self.escaped, domainEnd: Self.exclamation)
    }

    package func databaseName(rules: PathRules = PathRules()) -> [UInt8] {
        joined(separator: Self.databaseSeparator, rules: rules, { $0 }, domainEnd: Self.databaseDomainSeparator)
    }

    /// `DELETED`, `user`, localpart, boxes, time: what both forms and the legacy directory are made of, unescaped.
    func components(rules: PathRules) -> [[UInt8]] {
        var parts = boxes
        if let localpart { parts.insert(contentsOf: [Self.user, localpart], at: 0) }
        if let deletedAt {
            parts.insert(rules.deletedPrefix, at: 0)
            parts.append(Array(String(deletedAt, radix: 16, uppercase: true).utf8))
        }
        return parts
    }

    private func joined(
        separator: UInt8, rules: PathRules, _ component: ([UInt8]) -> [UInt8], domainEnd: UInt8
    ) -> [UInt8] {
        let name = components(rules: rules).map(component).joined(separator: [separator])
        return (domain.map { $0 + [domainEnd] } ?? []) + name
    }

    /// `.` is written `^` where a dot would separate.
    static func escaped(_ component: some Sequence<UInt8>) -> [UInt8] { component.map { $0 == dot ? caret : $0 } }
    static func unescaped(_ component: some Sequence<UInt8>) -> [UInt8] { component.map { $0 == caret ? dot : $0 } }

    /// As strtoul(…, 16): the digits at the beginning, 0 if there are none.
    private static func hexadecimalPrefix(_ text: [UInt8]) -> UInt32 {
        var value: UInt32 = 0
        for byte in text {
            guard let digit = Character(UnicodeScalar(byte)).hexDigitValue, byte < 0x80 else { break }
            value = value &* 16 &+ UInt32(digit)
        }
        return value
    }

    static let user = Array("user".utf8)
    static let dot = UInt8(ascii: ".")
    static let caret = UInt8(ascii: "^")
    static let at = UInt8(ascii: "@")
    static let exclamation = UInt8(ascii: "!")
    static let databaseSeparator: UInt8 = 0x1f
    static let databaseDomainSeparator: UInt8 = 0x1d
}

extension MailboxName: CustomStringConvertible {
    package var description: String { String(decoding: internalName(), as: UTF8.self) }
}

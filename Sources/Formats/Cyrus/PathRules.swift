/// The options of imapd.conf that decide where a mailbox and its user's files are.
package struct PathRules: Hashable, Sendable {
    /// `hashimapspool`: whether a directory of one letter is put before a mailbox's legacy path and a lock's name.
    package var spoolHash: SpoolHash
    /// `fulldirhash`: how that letter is made, here and in `user/`, `quota/`, `domain/` and sieve directories.
    package var letter: HashLetter
    /// `virtdomains` other than off.
    package var domains: Domains
    /// `deletedprefix`, unescaped.
    package var deletedPrefix: [UInt8]
    /// `defaultdomain`: never shows in names.
    package var defaultDomain: [UInt8]?

    package enum SpoolHash: Sendable { case none, hashed }
    package enum HashLetter: Sendable { case first, ofWholeName }
    package enum Domains: Sendable { case off, virtual }

    package init(
        spoolHash: SpoolHash = .none, letter: HashLetter = .first, domains: Domains = .off,
        deletedPrefix: [UInt8] = Array("DELETED".utf8), defaultDomain: [UInt8]? = nil
    ) {
        self.spoolHash = spoolHash
        self.letter = letter
        self.domains = domains
        self.deletedPrefix = deletedPrefix
        self.defaultDomain = defaultDomain
    }

    /// The name of the hash directory of `name`: one letter (lib/util.c, dir_hash_c).
    package func hash(_ name: some Sequence<UInt8>) -> UInt8 {
        switch letter {
        case .first: Self.firstLetter(name)
        case .ofWholeName: Self.wholeNameLetter(name)
        }
    }

    private static func firstLetter(_ name: some Sequence<UInt8>) -> UInt8 {
        guard let first = name.first(where: { _ in true }) else { return UInt8(ascii: "q") }
        switch first {
        case UInt8(ascii: "a")...UInt8(ascii: "z"): return first
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): return first | 0x20
        default: return UInt8(ascii: "q")
        }
    }

    /// Up to the first dot.
    private static func wholeNameLetter(_ name: some Sequence<UInt8>) -> UInt8 {
        var sum: UInt32 = 0
        for byte in name {
            if byte == MailboxName.dot || byte == 0 { break }
            sum = ((sum << 3) ^ (sum >> 5)) ^ UInt32(byte)
        }
        return UInt8(ascii: "A") + UInt8(sum % 23)
    }
}

internal import Digests

/// cyrus.header: what a mailbox is called, whose quota it counts for, who may use it, and its user flags.
///
///     magic     115 bytes, beginning A1 02 8B 0D "Cyrus mailbox header"
///     3.6+      %(T type N name I uniqueid Q quotaroot A %(user rights …) U (flag …)) LF       Q, U when there are any
///     before    quotaroot TAB uniqueid LF  flag SP flag … LF  user TAB rights TAB … LF
///
/// Replaced as a whole, by rename. It holds no checksum; the CRC-32 of the whole file is in cyrus.index
/// (`IndexHeader.headerFileCRC`). From imap/mailbox.c (mailbox_read_header), 2.3 to 3.12.
package struct MailboxHeader: Equatable, Sendable {
    /// Internal form; nothing in files before 3.6, which know only where they are.
    package let name: [UInt8]?
    package let uniqueID: [UInt8]?
    package let quotaRoot: [UInt8]?
    /// As in mailboxes.db; nothing in files before 3.6.
    package let type: MailboxType?
    package let acl: [Right]
    /// By bit number in `IndexRecord.hasUserFlag`; nothing for a hole.
    package let userFlags: [[UInt8]?]
    /// CRC-32 of the whole file, to compare with what the index says it is.
    package let fileCRC: UInt32

    package struct Right: Equatable, Sendable {
        package let identifier: [UInt8]
        package let rights: [UInt8]
    }

    package static let magic =
        cyrusMagic
        + Array(
            "Cyrus mailbox header\n\"The best thing about this system was that it had lots of goals.\"\n\t--Jim Morris on Andrew\n"
                .utf8)
    package static let userFlagCountMax = 128

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        guard bytes.starts(with: Self.magic) else { throw MalformedBytes("cyrus.header", at: 0, "not its magic bytes") }
        let body = bytes[Self.magic.count...]
        fileCRC = crc32(bytes)
        if body.first == UInt8(ascii: "%") {
            let fields = try Self.dlist(body)
            name = fields["N"]?.text
            uniqueID = fields["I"]?.text
            quotaRoot = fields["Q"]?.text
            type = fields["T"]?.text.map(MailboxType.init)
            acl = Self.rights(fields["A"])
            userFlags = (fields["U"]?.items ?? []).prefix(Self.userFlagCountMax).map(\.text)
        } else {
            let lines = try Self.lines(body)
            name = nil
            type = nil
            let first = lines[0].split(separator: tab, omittingEmptySubsequences: false)
            quotaRoot = first[0].isEmpty ? nil : Array(first[0])
            uniqueID = first.count > 1 && !first[1].isEmpty ? Array(first[1]) : nil
            userFlags = Self.flags(lines[1])
            acl = Self.rights(lines[2])
        }
    }

    /// One line: what stands behind its line feed is ignored, as Cyrus does.
    private static func dlist(_ body: ArraySlice<UInt8>) throws(MalformedBytes) -> DList {
        guard let end = body.lastIndex(of: newline) else {
            throw MalformedBytes("cyrus.header", at: magic.count, "no end of line")
        }
        do throws(MalformedBytes) {
            let fields = try DList(decoding: body[..<end])
            guard fields.pairs != nil else { throw MalformedBytes("dlist", at: 0, "no keys and values") }
            return fields
        } catch {
            throw MalformedBytes("cyrus.header", at: magic.count + error.offset, error.why)
        }
    }

    private static func lines(_ body: ArraySlice<UInt8>) throws(MalformedBytes) -> [ArraySlice<UInt8>] {
        let lines = body.split(separator: newline, maxSplits: 3, omittingEmptySubsequences: false)
        guard lines.count >= 4 else {
            throw MalformedBytes("cyrus.header", at: magic.count, "\(lines.count - 1) of 3 lines")
        }
        return lines
    }

    private static func flags(_ line: ArraySlice<UInt8>) -> [[UInt8]?] {
        guard !line.isEmpty else { return [] }
        return line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false).prefix(userFlagCountMax)
            .map { $0.isEmpty ? nil : Array($0) }
    }

    static func rights(_ acl: DList?) -> [Right] {
        (acl?.pairs ?? []).map { Right(identifier: $0.key, rights: $0.value.text ?? []) }
    }

    /// `user TAB rights TAB …`; an unfinished pair at the end is left out.
    static func rights(_ acl: ArraySlice<UInt8>) -> [Right] {
        let words = acl.split(separator: tab, omittingEmptySubsequences: false).map(Array.init)
        return stride(from: 0, to: words.count - 1, by: 2).map { Right(identifier: words[$0], rights: words[$0 + 1]) }
    }
}

private let newline = UInt8(ascii: "\n")
private let tab = UInt8(ascii: "\t")

/// A mailbox's type: a letter for what it holds, letters for how it is (imap/mboxlist.c, mboxlist_string_to_mbtype).
package struct MailboxType: Equatable, Sendable {
    package let letters: [UInt8]

    package init(_ letters: some Sequence<UInt8>) { self.letters = Array(letters) }

    /// A deleted or renamed one's entry, kept so that its name isn't forgotten; there is no mailbox.
    package var isTombstone: Bool { has("d") }
    package var isMoving: Bool { has("m") }
    /// On another server.
    package var isRemote: Bool { has("r") }
    package var isReserved: Bool { has("z") }
    /// A name that exists because others are below it; there is no mailbox.
    package var isIntermediate: Bool { has("i") }
    /// Its directory is named after the mailbox rather than after its uniqueid.
    package var hasLegacyDirectory: Bool { has("l") }
    /// Whether there must be a directory with files.
    package var hasFiles: Bool { !isTombstone && !isRemote && !isReserved && !isIntermediate }

    private func has(_ letter: UnicodeScalar) -> Bool { letters.contains(UInt8(ascii: letter)) }
}

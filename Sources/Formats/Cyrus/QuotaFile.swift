/// One quota root's file, `quota/<h>/<root>` (imap/quota_db.c, quota_parseval).
///
///     since 2.5   %(S (used [limit]) M (used [limit]) AS (…) NF (…) [SCAN %(…)] [MODSEQ n])
///     before      used LF limit LF                                                            of storage
///
/// Used storage is in bytes, limits are in units of 1024 bytes. Replaced as a whole, by rename; no checksum.
package struct QuotaFile: Equatable, Sendable {
    package let storage: Resource
    /// Nothing where it is not counted, as in files of the form before 2.5; the same for the next two.
    package let messages: Resource?
    package let annotationStorage: Resource?
    package let folders: Resource?
    package let modseq: UInt64
    /// `quota -f` is at it: usage is of the mailboxes it has seen so far.
    package let isBeingScanned: Bool

    package struct Resource: Equatable, Sendable {
        package let used: UInt64
        /// Nothing: unlimited.
        package let limit: UInt64?

        package init(used: UInt64 = 0, limit: UInt64? = nil) {
            self.used = used
            self.limit = limit
        }
    }

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        guard bytes.first == UInt8(ascii: "%") else {
            storage = try Self.oldStorage(bytes)
            (messages, annotationStorage, folders, modseq) = (nil, nil, nil, 0)
            isBeingScanned = false
            return
        }
        let list = try DList(decoding: bytes)
        guard list.pairs != nil else { throw MalformedBytes("quota", at: 0, "no keys and values") }
        storage = Self.resource(list["S"]) ?? Resource()
        messages = Self.resource(list["M"])
        annotationStorage = Self.resource(list["AS"])
        folders = Self.resource(list["NF"])
        modseq = list["MODSEQ"]?.number ?? 0
        isBeingScanned = list["SCAN"] != nil
    }

    private static func resource(_ list: DList?) -> Resource? {
        guard let list else { return nil }
        let numbers = list.items?.map(\.number) ?? []
        let limit = numbers.dropFirst().first ?? nil
        return Resource(used: (numbers.first ?? nil) ?? 0, limit: limit)
    }

    /// A limit of -1 is none.
    private static func oldStorage(_ bytes: [UInt8]) throws(MalformedBytes) -> Resource {
        let words = bytes.split { $0 == 0x20 || (0x09...0x0d).contains($0) }.prefix(2)
            .map { Int64(String(decoding: $0, as: UTF8.self)) }
        guard words.count == 2, let used = words[0], let limit = words[1] else {
            throw MalformedBytes("quota", at: 0, "neither two numbers nor a list")
        }
        return Resource(used: UInt64(max(0, used)), limit: limit < 0 ? nil : UInt64(limit))
    }
}

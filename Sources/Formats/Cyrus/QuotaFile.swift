/// One quota root's file, `quota/<h>/<root>` (imap/quota_db.c, quota_parseval).
///
///     since 2.5   %(S (used [limit]) M (used [limit]) AS (…) NF (…) [SCAN %(…)] [MODSEQ n])
///     before      used LF limit LF                                                            of storage
///
/// Used storage is in bytes, limits are in units of 1024 bytes. Replaced as a whole, by rename; no checksum.
package struct QuotaFile: Equatable, Sendable {
    package let storage: Resource
    package let messages: Resource
    package let annotationStorage: Resource
    package let folders: Resource
    package let modseq: UInt64

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
            (messages, annotationStorage, folders, modseq) = (Resource(), Resource(), Resource(), 0)
            return
        }
        let list = try DList(decoding: bytes)
        storage = Self.resource(list["S"])
        messages = Self.resource(list["M"])
        annotationStorage = Self.resource(list["AS"])
        folders = Self.resource(list["NF"])
        modseq = list["MODSEQ"]?.number ?? 0
    }

    private static func resource(_ list: DList?) -> Resource {
        let numbers = list?.items?.map(\.number) ?? []
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

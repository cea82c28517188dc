import Digests
import Formats
import Linux
import Store

/// The messages that the indexes of a store have, whichever mailboxes these are of.
struct StoredMessages {
    private var guids: Set<MessageGUID> = []

    /// Looks at the store once more: what it had, nobody has `discarded`, and it has no more. A moved message is in one mailbox or the other.
    mutating func look(
        at paths: some Sequence<StorePath>, in roots: StoreRoots, discarded: Set<MessageGUID>
    ) throws -> Set<MessageGUID> {
        var there: Set<MessageGUID> = []
        for path in paths where path.name.elementsEqual("cyrus.index".utf8) {
            let index = try IndexImage(try roots.open(path).readAll(max: 1 << 24))
            there.formUnion(index.records.filter { !$0.isExpunged }.compactMap(\.guid))
        }
        defer { guids = there }
        return guids.subtracting(there).subtracting(discarded)
    }

    /// Of the `deliveries` in deliver.db the first that is in no mailbox, and was in none: whoever delivers it again would not be believed.
    func firstUnknown(of deliveries: [UInt8], discarded: Set<MessageGUID>) throws -> String? {
        let known = Set(guids.union(discarded).map(\.description))
        return try TwoskipDatabase(deliveries).entries().lazy
            .map { String(decoding: $0.key.prefix { $0 != 0 }, as: UTF8.self) }.first { !known.contains($0) }
    }
}

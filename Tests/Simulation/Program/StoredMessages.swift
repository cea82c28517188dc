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
}

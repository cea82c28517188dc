import Digests
import Formats
import Linux
import Store

/// This end's store as Cyrus understands it, at one position of the log. All but the contents of messages is looked at by the
/// applier, which is at that position; messages never change, and are read later.
struct SoundnessCheck: Sendable {
    private var found: [AuditVerdict.Unsound] = []
    private var messages: [Message] = []

    /// A file, and what its index says that its SHA-1 is.
    private struct Message {
        let path: StorePath
        let guid: MessageGUID
    }

    private static let messageBytesMax = 1 << 30
    private static let indexBytesMax = 1 << 30

    var outcome: AuditVerdict.Outcome { found.isEmpty ? .equal : .unsound(found) }

    mutating func look(at directory: StorePath, with check: CyrusCheck) throws(SystemError) {
        let roots = check.roots
        note(try check.mailbox(directory, messages: .sizes))
        guard let listing = try ListingReader(roots).list(directory) else { return }
        guard let index = try index(of: directory, roots) else { return }
        for item in listing.items where item.isMessage {
            let path = directory.appending(item.entry.name)
            guard case .message(let uid) = roots.layout.role(of: path), let guid = index.record(uid: uid)?.guid,
                !guid.isNull
            else { continue }
            messages.append(Message(path: path, guid: guid))
        }
    }

    mutating func lookAtStore(with check: CyrusCheck) throws(SystemError) { note(try check.store()) }

    /// Of the mailbox whose messages are in `directory`; nothing if there is none, or it cannot be read, which was told.
    private func index(of directory: StorePath, _ roots: StoreRoots) throws(SystemError) -> IndexImage? {
        for root in roots.names where root == directory.root || RootKind(root).holdsMailboxes {
            guard let place = StorePath(root: root, path: directory.path) else { continue }
            let path = place.appending("cyrus.index")
            guard try roots.status(of: path) != nil else { continue }
            return try? IndexImage(try roots.open(path).readAll(max: Self.indexBytesMax))  // was told of just before
        }
        return nil
    }

    private mutating func note(_ verdict: CyrusVerdict) {
        for finding in verdict.findings where finding.kind.isAlarm {
            found.append(AuditVerdict.Unsound(path: finding.path, why: "\(finding.kind.rawValue): \(finding.why)"))
        }
    }

    /// One that is gone, or another message's by now, is none of this position's.
    mutating func readMessages(_ roots: StoreRoots) {
        for message in messages {
            // What cannot be read is told by the comparison of contents.
            guard let bytes = try? roots.open(message.path).readAll(max: Self.messageBytesMax),
                MessageGUID(of: bytes) != message.guid,
                // An index that cannot be read says nothing of it.
                let now = try? roots.indexedGUID(of: message.path), now == message.guid
            else { continue }
            found.append(
                AuditVerdict.Unsound(
                    path: message.path, why: "message: its SHA-1 is not the GUID in the index"))
        }
        messages = []
    }
}

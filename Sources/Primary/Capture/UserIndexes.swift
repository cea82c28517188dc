import Formats
import Linux
import Store

/// Where the indexes of each user's mailboxes are, by mailboxes.db: for while events do not tell of all that changes.
struct UserIndexes {
    private var byOwner: [OwnerFinder.Owner: [StorePath]] = [:]
    /// That of the mailboxes.db it is of. Each transaction makes that longer or another file, so that a status is a content.
    private var status: FileStatus?

    /// It was read once, if there is one that names its mailboxes to us.
    private(set) var isKnown = false

    var all: some Sequence<StorePath> { byOwner.values.joined() }

    subscript(owner: OwnerFinder.Owner) -> [StorePath] { byOwner[owner] ?? [] }

    /// Stays as it was while mailboxes.db is being written, or cannot be read, of which its own reading gives the alarm.
    mutating func refresh(_ roots: StoreRoots) throws(SystemError) {
        let path = roots.layout.path(of: .mailboxes)
        do throws(SystemError) {
            let current = try roots.status(of: path)
            guard current != nil, current != status else {
                isKnown = true
                return
            }
            guard let locked = try roots.openLocked(path, UnitReader.locking(roots.layout.role(of: path))) else {
                return
            }
            isKnown = true
            let bytes = try locked.file.readAll(max: 2 << 30)
            guard let mailboxes = roots.layout.mailboxes(namedIn: bytes) else { return }
            status = locked.status
            byOwner = Dictionary(grouping: mailboxes) { $0.name.userID.map(OwnerFinder.Owner.user) ?? .shared }
                .mapValues { $0.map(\.index) }
        } catch {
            guard !error.isShortage else { throw error }
        }
    }
}

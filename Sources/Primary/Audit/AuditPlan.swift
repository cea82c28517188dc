import Formats
import Linux
import Store

/// The directories of an audit one after the other, parents first, each listed when it is its turn, and its files read. One
/// thread; no lock is taken.
struct AuditPlan {
    private let roots: StoreRoots
    private let reader: ListingReader
    private let options: AuditOptions
    private let names: MailboxNames
    /// Directories to come, the next one last.
    private var stack: [StorePath]
    /// What could not be looked at, since `takeUnreadable`.
    private var unreadable: [AuditProgress.Unreadable] = []

    init(_ options: AuditOptions, _ roots: StoreRoots, _ reader: ListingReader) throws {
        self.options = options
        self.roots = roots
        self.reader = reader
        names = MailboxNames(roots)
        switch options.scope {
        case .all, .user, .mailbox:
            stack = roots.names.reversed().map { StorePath(root: $0) }
        case .below(let path):
            guard roots.names.contains(path.root) else {
                throw AuditFailure(why: "\(path): this store has no \(path.root)", kind: .wrongScope)
            }
            let kind = try path.isRoot ? .directory : roots.status(of: path)?.kind
            guard let kind else {
                throw AuditFailure(
                    why: "\(path): the primary has no such path; name \(path.parent) to have all in it compared",
                    kind: .wrongScope)
            }
            stack = [kind == .directory ? path : path.parent]
        }
    }

    /// Nothing when all were given. `read` is told the bytes of each file, as `ListingReader.listReading` does.
    ///
    /// What cannot be looked at is noted and left out, with all below it: one directory ends no audit.
    mutating func next(read: (Int) -> Void) -> (listing: DirectoryListing, depth: AuditCheck.Depth)? {
        while let directory = stack.popLast() {
            do throws(SystemError) {
                if let found = try look(at: directory, read) { return found }
            } catch {
                unreadable.append(AuditProgress.Unreadable(path: directory, error: error))
            }
        }
        return nil
    }

    mutating func takeUnreadable() -> [AuditProgress.Unreadable] {
        defer { unreadable = [] }
        return unreadable
    }

    private mutating func look(
        at directory: StorePath, _ read: (Int) -> Void
    ) throws(SystemError) -> (listing: DirectoryListing, depth: AuditCheck.Depth)? {
        guard roots.isShipped(directory) || directory.isRoot else { return nil }
        let isRead = depth(of: directory) == .content && isDue(directory)
        // Whose it is shows only in a directory that is there; of somebody else's nothing is read.
        let found = isRead && isOfAll ? try reader.listReading(directory, read: read) : try reader.list(directory)
        guard var listing = found else { return nil }
        for name in listing.subdirectories.reversed() { stack.append(directory.appending(name)) }
        guard isDue(directory), try isWanted(directory) else { return nil }
        if isRead, !isOfAll { listing = try reader.listReading(directory, read: read) ?? listing }
        // Of a message the log's word would be taken for its content.
        unreadable += listing.unreadable.map {
            AuditProgress.Unreadable(path: directory.appending($0.name), error: $0.error)
        }
        return (listing, depth(of: directory))
    }

    /// The same directory again, as it is now.
    func again(
        _ directory: StorePath, _ depth: AuditCheck.Depth, read: (Int) -> Void
    ) throws(SystemError) -> DirectoryListing {
        let listing = depth == .content ? try reader.listReading(directory, read: read) : try reader.list(directory)
        return listing ?? DirectoryListing(directory: directory, items: [])
    }

    private func isDue(_ directory: StorePath) -> Bool {
        guard let last = options.resumeAfter else { return true }
        guard directory.root == last.root else { return last.root < directory.root }
        return last.comesBefore(directory)
    }

    private var isOfAll: Bool {
        switch options.scope {
        case .all, .below: true
        case .user, .mailbox: false
        }
    }

    private func isWanted(_ directory: StorePath) throws(SystemError) -> Bool {
        switch options.scope {
        case .all, .below: true
        case .user(let user): try names.owner(of: directory).user == user
        case .mailbox(let name): try names.owner(of: directory).mailbox == name
        }
    }

    func depth(of directory: StorePath) -> AuditCheck.Depth {
        guard options.depth != .metadata else { return .metadata }
        guard let sample = options.sample else { return .content }
        let number = AuditEntry(name: Array(directory.root.name.utf8) + directory.path, kind: .directory).hash
        return number % sample.parts == sample.part - 1 ? .content : .metadata
    }
}

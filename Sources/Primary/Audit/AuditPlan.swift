import Formats
import Linux
import Store

/// The directories of an audit one after the other, parents first, each listed when it is its turn, and its messages
/// read. One thread; no lock is taken.
struct AuditPlan {
    private let roots: StoreRoots
    private let reader: ListingReader
    private let options: AuditOptions
    private let names: MailboxNames
    /// Directories to come, the next one last.
    private var stack: [StorePath]
    /// Of messages with several names, the names.
    private(set) var links: [LinkKey: [StorePath]] = [:]

    struct LinkKey: Hashable {
        let root: RootName
        let device: UInt64
        let inode: UInt64
    }

    init(_ options: AuditOptions, _ roots: StoreRoots, _ reader: ListingReader) throws {
        self.options = options
        self.roots = roots
        self.reader = reader
        names = MailboxNames(roots: roots)
        switch options.scope {
        case .all, .user, .mailbox:
            stack = roots.names.reversed().map { StorePath(root: $0) }
        case .below(let path):
            guard roots.names.contains(path.root) else {
                throw AuditFailure(why: "\(path): this store has no \(path.root)", kind: .wrongScope)
            }
            let isDirectory = try path.isRoot || roots.status(of: path)?.kind == .directory
            stack = [isDirectory ? path : path.parent]
        }
    }

    /// Nothing when all were given. `read` is told the bytes of each message, as `ListingReader.digest` does.
    mutating func next(read: (Int) -> Void) throws -> (listing: DirectoryListing, depth: AuditCheck.Depth)? {
        while let directory = stack.popLast() {
            guard roots.isShipped(directory) || directory.isRoot, var listing = try reader.list(directory) else {
                continue
            }
            for item in listing.items.reversed() where item.entry.kind == .directory {
                stack.append(directory.appending(item.entry.name))
            }
            guard isDue(directory), try isWanted(directory) else { continue }
            let depth = depth(of: directory)
            if depth == .content { _ = try reader.digest(&listing, where: \.isMessage, read: read) }
            for item in listing.items where item.isMessage && item.status.linkCount > 1 {
                let key = LinkKey(root: directory.root, device: item.status.device, inode: item.status.inode)
                links[key, default: []].append(directory.appending(item.entry.name))
            }
            return (listing, depth)
        }
        return nil
    }

    /// The same directory again, as it is now.
    func again(_ directory: StorePath, _ depth: AuditCheck.Depth) throws -> DirectoryListing {
        guard var listing = try reader.list(directory) else {
            return DirectoryListing(directory: directory, items: [])
        }
        if depth == .content { _ = try reader.digest(&listing, where: \.isMessage) }
        return listing
    }

    /// Parents first, children by name: paths compared component by component.
    private func isDue(_ directory: StorePath) -> Bool {
        guard let last = options.resumeAfter else { return true }
        guard directory.root == last.root else { return last.root < directory.root }
        return last.path.split(separator: UInt8(ascii: "/")).lexicographicallyPrecedes(
            directory.path.split(separator: UInt8(ascii: "/"))
        ) { $0.lexicographicallyPrecedes($1) }
    }

    private func isWanted(_ directory: StorePath) throws -> Bool {
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

/// Whose a path is, in Cyrus's words: by the name in cyrus.header, or by the path.
struct MailboxNames {
    let roots: StoreRoots

    struct Owner {
        /// The internal name.
        var mailbox: [UInt8]?
        var user: [UInt8]?
    }

    func owner(of path: StorePath) throws -> Owner {
        let rules = roots.layout.rules.paths
        let isDirectory = try roots.status(of: path)?.kind == .directory
        switch roots.layout.unit(of: path, isDirectory ? .directory : .file) {
        case .mailbox(let directory): return try mailbox(directory)
        case .user(.name(let user)): return Owner(user: user)
        case .user(.inbox(let id)):
            guard let directory = MailboxPath.directory(uniqueID: id) else { return Owner() }
            for root in roots.names where RootKind(root).holdsMailboxes {
                guard let inbox = StorePath(root: root, path: directory) else { continue }
                let owner = try mailbox(inbox)
                if owner.mailbox != nil { return Owner(user: owner.user) }
            }
            return Owner()
        case .quota(let root): return Owner(user: MailboxName(internalName: root, rules: rules).userID)
        case .global: return Owner()
        }
    }

    private func mailbox(_ directory: StorePath) throws -> Owner {
        let rules = roots.layout.rules.paths
        for root in roots.names where RootKind(root).holdsMailboxes {
            guard let place = StorePath(root: root, path: directory.path), let bytes = try header(in: place),
                let header = try? MailboxHeader(decoding: bytes)  // a broken one names nobody
            else { continue }
            if let name = header.name {
                return Owner(mailbox: name, user: MailboxName(internalName: name, rules: rules).userID)
            }
        }
        guard let name = MailboxPath.name(ofLegacyDirectory: directory.path, rules: rules) else { return Owner() }
        return Owner(mailbox: name.internalName(rules: rules), user: name.userID)
    }

    private func header(in directory: StorePath) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            return try roots.open(directory.appending("cyrus.header")).readAll(max: 1 << 20)
        } catch {
            guard [.noEntry, .notDirectory, .symbolicLink].contains(error.errno) else { throw error }
            return nil
        }
    }
}

package import Formats
package import Linux

/// Checks a store as Cyrus would understand it: what each file says of itself, and what they say of each other.
///
/// Believes nothing it reads, writes nothing, and raises no alarm for what a Cyrus leaves between two transactions: of
/// a live store it looks at what must fit together under the user's lock, held for one reading of small files and never
/// waited for; messages and caches, which never change, are read without. Each call may take as long as reading takes;
/// calls may come from several threads.
package final class CyrusCheck: Sendable {
    package let roots: StoreRoots
    private let standing: Standing
    private let patience: Duration
    /// The last one that was read, nothing if it could not be: of what does not fit each is looked at again, and all of them in it.
    let lists = Condition<[FileStatus: MailboxList?]>([:])
    /// Told how many bytes were read, after each piece: may sleep.
    let read: @Sendable (Int) -> Void

    /// Whether somebody may be writing.
    package enum Standing: Sendable {
        /// A store without a Cyrus; of a replica, between two batches.
        case atRest
        case live(CyrusLocks)
    }

    /// What is looked at of message files.
    package enum Messages: Sendable {
        /// That they are there and have the right size.
        case sizes
        /// All their bytes.
        case contents
    }

    /// `patience`: how long a user is tried for before what is theirs counts as busy.
    package init(
        roots: StoreRoots, standing: Standing, patience: Duration = .seconds(5),
        read: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        self.roots = roots
        self.standing = standing
        self.patience = patience
        self.read = read
    }

    var layout: StoreLayout { roots.layout }

    /// The mailbox whose directory, in any of its roots, is `directory`; nothing is wrong with one that is none.
    ///
    /// Throws for what is no property of the store: rights, too many open files.
    package func mailbox(_ directory: StorePath, messages: Messages = .contents) throws(SystemError) -> CyrusVerdict {
        guard let place = MailboxPlace(directory, layout: layout) else { return CyrusVerdict() }
        var mailbox = MailboxCheck(check: self, place: place)
        return try mailbox.verdict(messages)
    }

    /// mailboxes.db against the directories, quotas against what the mailboxes use, and every database by itself. Does
    /// not look into mailboxes further than their headers.
    package func store() throws(SystemError) -> CyrusVerdict {
        var store = StoreCheck(check: self)
        return try store.verdict()
    }

    // MARK: stillness

    /// What `body` gives while nobody writes the mailboxes of `users`; nothing if somebody always did. `body` must be
    /// quick: Cyrus waits for it.
    func still<Result>(
        _ users: [[UInt8]?], _ body: () throws(SystemError) -> Result?
    ) throws(SystemError) -> Result? {
        guard case .live(let locks) = standing else { return try body() }
        let start = MonotonicTime.now()
        var pause = Duration.milliseconds(1)
        while true {
            if let result = try locked(users[...], locks, body) { return result }
            guard MonotonicTime.now() - start < patience else { return nil }
            // Nothing to wait for but time: Cyrus tells nobody that it lets go of a lock.
            _ = Condition(()).wait(timeout: pause) { _ in false }
            pause = min(pause * 2, .milliseconds(50))
        }
    }

    private func locked<Result>(
        _ users: ArraySlice<[UInt8]?>, _ locks: CyrusLocks, _ body: () throws(SystemError) -> Result?
    ) throws(SystemError) -> Result? {
        guard let user = users.first else { return try body() }
        guard let lock = try locks.tryUserLock(user) else { return nil }
        let result = try locked(users.dropFirst(), locks, body)
        return try locks.release(lock) ? result : nil
    }
}

/// Where a mailbox's files are: in the same path below each root of its partition.
struct MailboxPlace: Hashable {
    let partition: String
    let path: [UInt8]

    /// Nothing if `directory` is in no partition.
    init?(_ directory: StorePath, layout: StoreLayout) {
        guard RootKind(directory.root).holdsMailboxes, !directory.isRoot,
            let partition = StoreLayout.partition(of: directory.root)
        else { return nil }
        self.partition = partition
        path = directory.path
    }

    init(partition: String, path: [UInt8]) {
        self.partition = partition
        self.path = path
    }

    /// Nothing if the partition is not configured.
    func file(_ file: StoreLayout.MetaFile, _ layout: StoreLayout) -> StorePath? {
        guard let root = layout.root(of: file, partition: partition) else { return nil }
        return StorePath(root: root, path: path)?.appending(file.fileName)
    }

    func messages(_ place: StoreLayout.MessagePlace, _ layout: StoreLayout) -> StorePath? {
        layout.root(ofMessages: place, partition: partition).flatMap { StorePath(root: $0, path: path) }
    }

    var isByUniqueID: Bool { MailboxPath.uniqueID(in: path) != nil }

    /// What the mailbox is called. A legacy directory says so itself; its header may keep the name from before a rename.
    func name(_ header: MailboxHeader?, _ rules: PathRules) -> MailboxName? {
        guard isByUniqueID else { return MailboxPath.name(ofLegacyDirectory: path, rules: rules) }
        return header?.name.map { MailboxName(internalName: $0, rules: rules) }
    }
}

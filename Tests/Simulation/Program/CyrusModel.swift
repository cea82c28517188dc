import Digests
import Formats
import Linux
import Seeded
import Store

/// A small Cyrus: changes a store as Cyrus 3.6 does, system call by system call, in its order and under its locks.
///
/// Between any two calls the daemon may run. What is modelled: delivery (stage file, link, cache, new user flag, index
/// record, index header), flags, expunge and unlink, repack, create, rename, delete, copy and move by hard link, annotations of
/// mailboxes; and Sieve scripts. One process; it takes the user's lock as Cyrus takes it, and the databases'.
final class CyrusModel {
    private let world: World
    private let layout: StoreLayout
    private let mail: Directory
    private let configuration: Directory
    private let sieve: Directory
    /// What is done most.
    enum Focus {
        /// Messages are moved to and fro.
        case moves
        /// Mailboxes are made, renamed and removed.
        case mailboxes
    }

    private(set) var mailboxes: [ModelMailbox] = []
    /// Of deliver.db: by content, in which mailbox.
    private var deliveries: [(guid: MessageGUID, mailbox: String)] = []
    /// By mailbox, those included that are gone.
    private var annotationByteCounts: [String: Int] = [:]
    private var databaseGeneration: UInt64 = 1
    private var nextNumber: UInt32 = 1
    /// Half of the operations, or more; nothing: some of each.
    var focus: Focus?
    /// Operations until now.
    private(set) var operationCount = 0
    /// Between two calls; nothing while the store is made.
    private var isHurried = true

    private static let users = ["alice", "bob"]

    init(_ world: World, _ layout: StoreLayout) throws {
        self.world = world
        self.layout = layout
        guard let mail = layout.root(RootName("partition-default")), let conf = layout.root(.configuration),
            let sieve = layout.root(.sieve)
        else { preconditionFailure("no partition") }
        self.mail = try Directory(mail.path)
        configuration = try Directory(conf.path)
        self.sieve = try Directory(sieve.path)
        try self.mail.makeDirectory(utf8("stage."))
        for user in Self.users { try create(user, "user.\(user)") }
        for _ in 0..<world.pick(2...8) { try operate() }
        isHurried = false
    }

    // MARK: - steps

    /// The end of a system call.
    private func step() {
        guard !isHurried else { return }
        switch world.pick(0...40) {
        case 0: world.sleep(.milliseconds(world.pick(5...40)))
        case 1...12: world.sleep(.microseconds(world.pick(20...900)))
        default: world.yield()
        }
    }

    private func locked(_ user: String, _ body: () throws -> Void) throws {
        let path = String(decoding: layout.userLock(Array(user.utf8)), as: UTF8.self)
        let parts = path.split(separator: "/")
        let directory = "/" + parts.dropLast().joined(separator: "/")
        _ = try Directory.make(directory)
        let file = try Descriptor.open(path, for: .updatingOrCreating)
        while try !FileLock.tryExclusive(file) { world.sleep(.microseconds(100)) }
        step()
        try body()
        step()
        try file.close()
        step()
    }

    private func write(_ path: [UInt8], _ pieces: [(offset: Int, bytes: [UInt8])]) throws {
        let file = try mail.open(path, for: .updatingOrCreating)
        for piece in pieces {
            try file.write(piece.bytes, at: Int64(piece.offset))
            step()
        }
        try file.close()
    }

    private func replace(_ path: [UInt8], _ bytes: [UInt8]) throws {
        let new = path + utf8(".NEW")
        let file = try mail.open(new, for: .creatingNew)
        step()
        try file.write(bytes, at: 0)
        step()
        try file.close()
        try mail.rename(new, to: path)
        step()
    }

    private func place(_ mailbox: ModelMailbox, _ name: String) -> [UInt8] { mailbox.directory + utf8("/" + name) }

    /// Records first, the header last.
    private func commit(_ mailbox: ModelMailbox, records: [Int]) throws {
        let pieces = records.map { (mailbox.offset(ofRecord: $0), mailbox.messages[$0].record) }
        try write(place(mailbox, "cyrus.index"), pieces + [(0, mailbox.indexHeader)])
    }

    private func writeDatabase() throws {
        databaseGeneration += 1
        try write("mailboxes.db", mailboxesDatabase(mailboxes, generation: databaseGeneration))
    }

    /// A database of everybody's, in place or as after a repack.
    private func write(_ database: String, _ bytes: [UInt8]) throws {
        let path = utf8(database)
        if world.isLucky(1, in: 4) {
            let new = path + utf8(".NEW")
            let file = try configuration.open(new, for: .creatingNew)
            step()
            try file.write(bytes, at: 0)
            step()
            try file.close()
            return try configuration.rename(new, to: path)
        }
        let file = try configuration.open(path, for: .updatingOrCreating)
        while try !FileLock.tryExclusive(file) { world.sleep(.microseconds(100)) }
        step()
        var dirty = Array(bytes[..<64])
        dirty.put(UInt32(1), at: 56)
        dirty.put(crc32(dirty[..<60]), at: 60)
        try file.write(dirty, at: 0)
        step()
        let middle = 64 + (bytes.count - 64) / 2
        try file.write(bytes[64..<middle], at: 64)
        step()
        try file.write(bytes[middle...], at: Int64(middle))
        step()
        try file.truncate(to: Int64(bytes.count))
        step()
        try file.write(Array(bytes[..<64]), at: 0)
        step()
        try file.close()
    }

    // MARK: - operations

    /// One, by chance.
    func operate() throws {
        operationCount += 1
        let index = world.pick(0...mailboxes.count - 1)
        switch focus {
        case .moves? where world.isLucky(2, in: 3): return try move(index)
        case .mailboxes? where world.isLucky(1, in: 2): return try changeMailboxes(index)
        default: break
        }
        switch world.pick(0...22) {
        case 0...7: try deliver(index)
        case 8...11: try flag(index)
        case 12, 13: try expunge(index)
        case 14: try unlinkExpunged(index)
        case 15: try copy(index)
        case 16: try repack(index)
        case 17: try createOne(index)
        case 18: try rename(index)
        case 19: try putScript(mailboxes[index].user)
        case 20: try annotate(index)
        case 21: try move(index)
        default: try remove(index)
        }
    }

    private func changeMailboxes(_ index: Int) throws {
        switch world.pick(0...5) {
        case 0...2: try createOne(index)
        case 3: try rename(index)
        default: try remove(index)
        }
    }

    private func createOne(_ index: Int) throws {
        guard mailboxes.count < 8 else { return try remove(index) }
        let user = mailboxes[index].user
        nextNumber += 1
        try create(user, "user.\(user).box\(nextNumber)")
    }

    private func create(_ user: String, _ name: String) throws {
        let id = (0..<24).map { _ in String("0123456789abcdefghijklmnopqrstuvwxyz".randomElement(using: &world.chance)!)
        }
        let mailbox = ModelMailbox(
            user: user, name: name, uniqueID: id.joined(), uidValidity: 1_000_000_000 + nextNumber)
        world.note("cyrus: create \(name) in \(String(decoding: mailbox.directory, as: UTF8.self))")
        try locked(user) {
            let parts = mailbox.directory.split(separator: UInt8(ascii: "/"))
            for count in 1...parts.count {
                try mail.makeDirectory(Array(parts.prefix(count).joined(separator: [UInt8(ascii: "/")])))
                step()
            }
            try write(place(mailbox, "cyrus.index"), [(0, mailbox.indexHeader)])
            try write(place(mailbox, "cyrus.cache"), [(0, mailbox.cache)])
            try replace(place(mailbox, "cyrus.header"), mailbox.header)
            mailboxes.append(mailbox)
            try writeDatabase()
        }
    }

    /// The database first, then the index that keeps the sum (imap/mailbox.c, mailbox_commit). The value only grows, so
    /// that a sum that is too large is an index ahead of the database.
    private func annotate(_ index: Int) throws {
        var mailbox = mailboxes[index]
        world.note("cyrus: annotate \(mailbox.name)")
        try locked(mailbox.user) {
            mailbox.annotationByteCount += world.pick(1...20)
            mailbox.modseq += 1
            annotationByteCounts[mailbox.uniqueID] = mailbox.annotationByteCount
            databaseGeneration += 1
            try write(
                "annotations.db", annotationsDatabase(annotationByteCounts, generation: databaseGeneration))
            try commit(mailbox, records: [])
            mailboxes[index] = mailbox
        }
    }

    private func deliver(_ index: Int) throws {
        var mailbox = mailboxes[index]
        let byteCount = world.isLucky(1, in: 30) ? world.pick(20_000...60_000) : world.pick(40...2500)
        let message = utf8("Subject: \(operationCount)\r\n\r\n") + world.chance.bytes(byteCount)
        world.note("cyrus: deliver \(mailbox.lastUID + 1) to \(mailbox.name)")
        let stage = utf8("stage./\(operationCount)")
        let file = try mail.open(stage, for: .creatingNew)
        step()
        try file.write(message, at: 0)
        step()
        try file.close()
        try locked(mailbox.user) {
            try append(&mailbox, from: stage, message, mayFlag: true)
            mailboxes[index] = mailbox
            // While the mailbox is still locked (imap/lmtpd.c, deliver_local).
            guard world.isLucky(1, in: 3) else { return }
            deliveries.append((MessageGUID(of: message), mailbox.name))
            databaseGeneration += 1
            try write("deliver.db", deliveriesDatabase(deliveries, generation: databaseGeneration))
        }
        try mail.unlink(stage)
        step()
    }

    private func append(_ mailbox: inout ModelMailbox, from source: [UInt8], _ message: [UInt8], mayFlag: Bool) throws {
        mailbox.lastUID += 1
        mailbox.modseq += 1
        let name = place(mailbox, "\(mailbox.lastUID).")
        try mail.link(source, to: name)
        step()
        let date = UInt32(1_000_000_000 + operationCount)
        if mayFlag {
            try mail.setTimes(of: name, mtimeNanoseconds: Int64(date) * 1_000_000_000)
            step()
        }
        let cache = cacheRecord(Array(message.prefix(30)))
        var record = ModelMessage(
            uid: mailbox.lastUID, date: date, byteCount: message.count, guid: MessageGUID(of: message),
            cacheOffset: mailbox.cache.count, cacheByteCount: cache.count, cacheCRC: crc32(cache),
            modseq: mailbox.modseq, lastUpdated: date)
        try write(place(mailbox, "cyrus.cache"), [(mailbox.cache.count, cache)])
        mailbox.cache += cache
        if mayFlag, world.isLucky(1, in: 6), mailbox.flags.count < 30 {
            mailbox.flags.append("kw\(operationCount)")
            record.userFlags = 1 << UInt32(mailbox.flags.count - 1)
            mailbox.messages.append(record)
            try replace(place(mailbox, "cyrus.header"), mailbox.header)
        } else {
            mailbox.messages.append(record)
        }
        try commit(mailbox, records: [mailbox.messages.count - 1])
    }

    private func flag(_ index: Int) throws {
        try changeSome(of: index, "flag", 1, in: 2) { message, date in
            message.systemFlags ^= [1, 2, 4, 16].randomElement(using: &world.chance)!
            message.lastUpdated = date
        }
    }

    private func expunge(_ index: Int) throws {
        try changeSome(of: index, "expunge", 1, in: 3) { message, _ in
            world.discarded.insert(message.guid)
            message.systemFlags |= ModelMessage.expunged
        }
    }

    /// Of the messages that are there each with this chance, in one transaction.
    private func changeSome(
        of index: Int, _ name: String, _ one: Int, in many: Int, _ body: (inout ModelMessage, UInt32) -> Void
    ) throws {
        var mailbox = mailboxes[index]
        let wanted = mailbox.messages.indices.filter {
            !mailbox.messages[$0].isExpunged && world.isLucky(one, in: many)
        }
        guard !wanted.isEmpty else { return }
        world.note("cyrus: \(name) \(wanted.map { mailbox.messages[$0].uid }) of \(mailbox.name)")
        try locked(mailbox.user) {
            mailbox.modseq += 1
            for number in wanted {
                body(&mailbox.messages[number], UInt32(1_000_000_000 + operationCount))
                mailbox.messages[number].modseq = mailbox.modseq
            }
            try commit(mailbox, records: wanted)
            mailboxes[index] = mailbox
        }
    }

    private func unlinkExpunged(_ index: Int) throws {
        var mailbox = mailboxes[index]
        let wanted = mailbox.messages.indices.filter {
            mailbox.messages[$0].isExpunged && !mailbox.messages[$0].isUnlinked
        }
        guard !wanted.isEmpty else { return }
        world.note("cyrus: unlink \(wanted.map { mailbox.messages[$0].uid }) of \(mailbox.name)")
        try locked(mailbox.user) {
            for number in wanted { mailbox.messages[number].systemFlags |= ModelMessage.unlinked }
            try commit(mailbox, records: wanted)
            for number in wanted {
                try mail.unlink(place(mailbox, "\(mailbox.messages[number].uid)."))
                step()
            }
            mailboxes[index] = mailbox
        }
    }

    /// Into another mailbox of the same user, by a hard link.
    private func copy(_ index: Int) throws {
        let source = mailboxes[index]
        guard let message = source.messages.first(where: { !$0.isUnlinked }),
            let target = mailboxes.indices.filter({ mailboxes[$0].user == source.user }).randomElement(
                using: &world.chance)
        else { return }
        world.note("cyrus: copy \(message.uid) of \(source.name) to \(mailboxes[target].name)")
        try link(message.uid, of: source, to: target)
    }

    private func link(_ uid: UInt32, of source: ModelMailbox, to target: Int) throws {
        var mailbox = mailboxes[target]
        let name = place(source, "\(uid).")
        let bytes = try mail.open(name, for: .reading).readAll(max: 1 << 20)
        try locked(mailbox.user) {
            try append(&mailbox, from: name, bytes, mayFlag: false)
            mailboxes[target] = mailbox
        }
    }

    /// Copied, perhaps to somebody else, and then expunged where it was (imap/index.c, index_copy), which are two transactions.
    private func move(_ index: Int) throws {
        var source = mailboxes[index]
        guard let number = source.messages.firstIndex(where: { !$0.isExpunged }),
            let target = mailboxes.indices.filter({ $0 != index }).randomElement(using: &world.chance)
        else { return }
        world.note("cyrus: move \(source.messages[number].uid) of \(source.name) to \(mailboxes[target].name)")
        try link(source.messages[number].uid, of: source, to: target)
        try locked(source.user) {
            source.modseq += 1
            source.messages[number].systemFlags |= ModelMessage.expunged
            source.messages[number].modseq = source.modseq
            try commit(source, records: [number])
            mailboxes[index] = source
        }
    }

    /// Index first, then cache: both under names of their own until then.
    private func repack(_ index: Int) throws {
        var mailbox = mailboxes[index]
        world.note("cyrus: repack \(mailbox.name)")
        try locked(mailbox.user) {
            mailbox.repack()
            let (newIndex, newCache) = (place(mailbox, "cyrus.index.NEW"), place(mailbox, "cyrus.cache.NEW"))
            try write(newIndex, [(0, mailbox.index)])
            try write(newCache, [(0, mailbox.cache)])
            try mail.rename(newIndex, to: place(mailbox, "cyrus.index"))
            step()
            try mail.rename(newCache, to: place(mailbox, "cyrus.cache"))
            step()
            mailboxes[index] = mailbox
        }
    }

    /// No file moves: the name is in mailboxes.db and, after that, cyrus.header (imap/mboxlist.c, mboxlist_renamemailbox).
    /// A later name has a larger number.
    private func rename(_ index: Int) throws {
        var mailbox = mailboxes[index]
        guard mailbox.name != "user.\(mailbox.user)" else { return try deliver(index) }
        nextNumber += 1
        let name = "user.\(mailbox.user).box\(nextNumber)"
        world.note("cyrus: rename \(mailbox.name) to \(name)")
        try locked(mailbox.user) {
            mailbox.name = name
            mailbox.modseq += 1
            mailboxes[index] = mailbox
            try writeDatabase()
            try replace(place(mailbox, "cyrus.header"), mailbox.header)
            try commit(mailbox, records: [])
        }
    }

    /// A user's Sieve script, which is nobody's mailbox: written aside, and put in place.
    private func putScript(_ user: String) throws {
        let directory = utf8("\(user.first!)/\(user)")
        world.note("cyrus: script of \(user)")
        try sieve.makeDirectory(utf8("\(user.first!)"))
        try sieve.makeDirectory(directory)
        let (new, name) = (directory + utf8("/main.script.NEW"), directory + utf8("/main.script"))
        let file = try sieve.open(new, for: .creatingNew)
        step()
        try file.write(utf8("# \(operationCount)\r\n") + world.chance.bytes(world.pick(0...1500)), at: 0)
        step()
        try file.close()
        try sieve.rename(new, to: name)
        step()
    }

    private func remove(_ index: Int) throws {
        let mailbox = mailboxes[index]
        guard mailbox.name != "user.\(mailbox.user)" else { return try flag(index) }
        world.note("cyrus: delete \(mailbox.name)")
        try locked(mailbox.user) {
            mailboxes.remove(at: index)
            // Others were moved to where they are now.
            world.discarded.formUnion(mailbox.messages.filter { !$0.isExpunged }.map(\.guid))
            try writeDatabase()
            for message in mailbox.messages where !message.isUnlinked {
                try mail.unlink(place(mailbox, "\(message.uid)."))
                step()
            }
            for name in ["cyrus.cache", "cyrus.index", "cyrus.header"] {
                try mail.unlink(place(mailbox, name))
                step()
            }
            try mail.removeDirectory(mailbox.directory)
        }
    }
}

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

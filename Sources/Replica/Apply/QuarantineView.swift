package import Formats
package import Linux

/// The quarantine for who looks into it: what was taken out of the store, when, and its bytes.
///
/// Needs no daemon and does no harm to one. The time of an entry is when something was last taken at
/// its batch, to the second; seeds are all batch 0.
package final class QuarantineView {
    private let directory: Directory

    package struct Entry: Equatable, Sendable {
        /// The batch that took it out of the store.
        package let batch: SequenceNumber
        /// Where it was. Another one of that name in the same batch has a number behind a dot.
        package let path: StorePath
        /// An empty directory is one too.
        package let kind: FileKind
        package let byteCount: Int64
        package let mtimeNanoseconds: Int64
        package let taken: Timestamp

        /// As people name it.
        package var name: String { "\(batch)/\(path)" }
    }

    /// Of a batch.
    package struct Removed: Equatable, Sendable {
        package let batch: SequenceNumber
        package var entryCount = 0
        package var byteCount: Int64 = 0
    }

    /// Nothing if there is no quarantine in `state`: nothing was ever taken.
    package init?(state: String) throws(SystemError) {
        do throws(SystemError) { directory = try Directory(state + "/quarantine") } catch {
            guard error.errno == .noEntry else { throw error }
            return nil
        }
    }

    /// Every batch there is something of, oldest first.
    package func batches() throws(SystemError) -> [SequenceNumber] {
        try directory.entries().compactMap { UInt64(String(decoding: $0.name, as: UTF8.self)) }.sorted()
            .map { SequenceNumber($0) }
    }

    /// The entries of a batch, in the order of their paths. Nothing of a batch that is gone.
    package func entries(of batch: SequenceNumber) throws(SystemError) -> [Entry] {
        let top = Array("\(batch.number)".utf8)
        guard let status = try directory.status(of: top) else { return [] }
        let taken = Quarantine.taken(status)
        var entries: [Entry] = []
        for root in try names(in: top) {
            let name = RootName(String(decoding: root, as: UTF8.self))
            try walk(top + [slash] + root, StorePath(root: name)) { path, status in
                entries.append(
                    Entry(
                        batch: batch, path: path, kind: status.kind, byteCount: status.byteCount,
                        mtimeNanoseconds: status.mtimeNanoseconds, taken: taken))
            }
        }
        return entries.sorted { $0.path < $1.path }
    }

    /// Files, links, and directories with nothing in them.
    private func walk(
        _ place: [UInt8], _ path: StorePath, _ body: (StorePath, FileStatus) -> Void
    ) throws(SystemError) {
        var isEmpty = true
        for name in try names(in: place) where StorePath.isName(name) {
            isEmpty = false
            let below = place + [slash] + name
            guard let status = try directory.status(of: below) else { continue }
            if status.kind == .directory {
                try walk(below, path.appending(name), body)
            } else {
                body(path.appending(name), status)
            }
        }
        if isEmpty, !path.isRoot, let status = try directory.status(of: place) { body(path, status) }
    }

    /// None of a directory that went meanwhile.
    private func names(in place: [UInt8]) throws(SystemError) -> [[UInt8]] {
        do throws(SystemError) { return try directory.entries(of: place).map(\.name) } catch {
            guard error.errno == .noEntry || error.errno == .notDirectory else { throw error }
            return []
        }
    }

    /// For reading.
    package func open(_ entry: Entry) throws(SystemError) -> Descriptor {
        try directory.open(place(of: entry), for: .reading)
    }

    package func readLink(_ entry: Entry) throws(SystemError) -> [UInt8] { try directory.readLink(place(of: entry)) }

    package func status(of entry: Entry) throws(SystemError) -> FileStatus? {
        try directory.status(of: place(of: entry))
    }

    private func place(of entry: Entry) -> [UInt8] {
        Array("\(entry.batch.number)/\(entry.path.root.name)/".utf8) + entry.path.path
    }

    /// Those of `batches` to which a daemon that runs may be adding: the newest, and while it is seeded that of all seeds.
    package func beingFilled(
        of batches: [SequenceNumber], by state: String
    ) throws(SystemError) -> Set<SequenceNumber> {
        var filled = Set(batches.suffix(1))
        if try ReplicaRecord(in: state).phase == .seeding { filled.insert(Quarantine.seeds) }
        return filled
    }

    /// Removes those of `batches` at which nothing was taken for `age`, whole. What is put there meanwhile stays.
    package func expire(
        _ batches: [SequenceNumber], olderThan age: Duration, now: Timestamp
    ) throws(SystemError) -> [Removed] {
        var removed: [Removed] = []
        for batch in batches {
            let top = Array("\(batch.number)".utf8)
            guard let status = try directory.status(of: top),
                Quarantine.isDue(status, olderThan: age, now: now)
            else { continue }
            var account = Removed(batch: batch)
            try directory.removeTree(top, status) { status in
                guard status.kind != .directory else { return }
                account.entryCount += 1
                account.byteCount += status.byteCount
            }
            removed.append(account)
        }
        return removed
    }

    /// The same of all batches in `state`, where nothing is put there any more, as after a promotion.
    package static func expire(in state: String, olderThan age: Duration, now: Timestamp) throws(SystemError) {
        guard let view = try QuarantineView(state: state) else { return }
        _ = try view.expire(try view.batches(), olderThan: age, now: now)
    }

    private var slash: UInt8 { UInt8(ascii: "/") }
}

extension Directory {
    /// Removes what is at `path` and all below it, and tells the status of each thing that went. Leaves a directory into
    /// which somebody puts something meanwhile.
    func removeTree(
        _ path: [UInt8], _ status: FileStatus, _ removed: (FileStatus) -> Void = { _ in }
    ) throws(SystemError) {
        do throws(SystemError) {
            if status.kind == .directory {
                for entry in try entries(of: path) {
                    let below = path + [UInt8(ascii: "/")] + entry.name
                    if let status = try self.status(of: below) { try removeTree(below, status, removed) }
                }
                try removeDirectory(path)
            } else {
                try unlink(path)
            }
            removed(status)
        } catch {
            guard error.errno == .noEntry || error.errno == .directoryNotEmpty else { throw error }
        }
    }
}

import Formats
import Linux
import Logging
import Synchronization

/// Where what is removed from the store, or makes room for something of another kind, is kept for a while:
/// `quarantine/<sequence number of the batch>/<root>/<path>` in the state directory.
///
/// By renaming, if that is the same file system as the store's, else by copying; a copy is on disk before the store's next flush
/// returns, and before anything goes in a seed, which may be the last that has it. The mtime of `<sequence number>` is when
/// something was last taken at that batch, to the second: what is taken lands deeper and would not move it. All seeds are
/// batch 0.
final class Quarantine: Sendable {
    private let directory: Directory
    /// Tells lives of one name in one batch apart.
    private let nextLife = Atomic<UInt64>(1)

    private let taken = Atomic(0)
    /// Copies that `flush` has to see to.
    private let hasCopies = Atomic(false)
    private let lastExpiry = Mutex(Timestamp(nanoseconds: 0))
    /// The batch of which the directory's time was set last, and when.
    private let lastTouch = Mutex<(SequenceNumber, Timestamp)?>(nil)

    private static let touchInterval = Duration.seconds(1)

    init(_ path: String) throws(SystemError) {
        directory = try Directory.make(path, parents: .cachedBySoleWriter)
    }

    /// Names that were put here since this was made; a directory counts as one.
    var takenCount: Int { taken.load(ordering: .relaxed) }

    /// Takes `path`, which `status` is of, out of `root`.
    func take(
        _ path: StorePath, _ status: FileStatus, from root: Directory, at sequence: SequenceNumber
    ) throws(SystemError) {
        try makePlace(for: path, at: sequence) { (place) throws(SystemError) in
            do throws(SystemError) {
                try root.rename(path.path, to: place, in: directory)
            } catch {
                guard error.errno == .crossDevice else { throw error }
                try copy(path.path, status, from: root, to: place, isLast: sequence == Self.seeds)
            }
        }
    }

    /// The same, and leaves it where it is: another name for it, or a copy. What replaces it is another file.
    func keep(
        _ path: StorePath, _ status: FileStatus, from root: Directory, at sequence: SequenceNumber
    ) throws(SystemError) {
        try makePlace(for: path, at: sequence) { (place) throws(SystemError) in
            do throws(SystemError) {
                try root.link(path.path, to: place, in: directory)
            } catch {
                guard error.errno == .crossDevice || error.errno == .tooManyLinks else { throw error }
                try copyAside(path.path, status, from: root, to: place, isLast: sequence == Self.seeds)
            }
        }
    }

    static let seeds = SequenceNumber(0)

    /// On return what was copied is on disk. Not what was renamed: that is in the store's file system.
    func flush() throws(SystemError) {
        guard hasCopies.exchange(false, ordering: .relaxed) else { return }
        do throws(SystemError) {
            try directory.descriptor.syncFileSystem()
        } catch {
            hasCopies.store(true, ordering: .relaxed)
            throw error
        }
    }

    /// Calls `body` with a name of which the directory is there.
    private func makePlace(
        for path: StorePath, at sequence: SequenceNumber, _ body: ([UInt8]) throws(SystemError) -> Void
    ) throws(SystemError) {
        do throws(SystemError) {
            try body(try newPlace(for: path, at: sequence))
        } catch {
            // "mailsync quarantine expire" may take away a directory that this one remembers.
            guard error.errno == .noEntry else { throw error }
            directory.forgetCached()
            try body(try newPlace(for: path, at: sequence))
        }
        taken.add(1, ordering: .relaxed)
    }

    private func newPlace(for path: StorePath, at sequence: SequenceNumber) throws(SystemError) -> [UInt8] {
        let place = Array("\(sequence.number)/\(path.root.name)/".utf8) + path.path
        try makeParents(of: place)
        try touch(sequence)
        guard try directory.status(of: place) != nil else { return place }
        // An earlier process has counted from one as well. To rename a file over another name of the same file does
        // nothing, and says that it was done (rename(2)): it would stay in the store.
        while true {
            let other = place + Array(".\(nextLife.wrappingAdd(1, ordering: .relaxed).oldValue)".utf8)
            guard try directory.status(of: other) != nil else { return other }
        }
    }

    /// Before something is taken, so that nobody expires what was just put there.
    private func touch(_ sequence: SequenceNumber) throws(SystemError) {
        let now = Timestamp.now()
        let isDue = lastTouch.withLock { last in
            guard let (batch, time) = last, batch == sequence else { return true }
            // Also after the clock was set back.
            return now - time >= Self.touchInterval || now < time
        }
        guard isDue else { return }
        try directory.setTimes(of: Array("\(sequence.number)".utf8), mtimeNanoseconds: now.nanoseconds)
        lastTouch.withLock { $0 = (sequence, now) }
    }

    private func copy(
        _ path: [UInt8], _ status: FileStatus, from root: Directory, to place: [UInt8], isLast: Bool
    ) throws(SystemError) {
        switch status.kind {
        case .directory:
            try directory.makeDirectory(place)
            for entry in try root.entries(of: path) {
                let below = path + [slash] + entry.name
                guard let status = try root.status(of: below) else { continue }
                try copy(below, status, from: root, to: place + [slash] + entry.name, isLast: isLast)
            }
            return try root.removeDirectory(path)
        case .symlink, .file:
            try copyAside(path, status, from: root, to: place, isLast: isLast)
        case .other:
            break
        }
        try root.unlink(path)
    }

    private func copyAside(
        _ path: [UInt8], _ status: FileStatus, from root: Directory, to place: [UInt8], isLast: Bool
    ) throws(SystemError) {
        hasCopies.store(true, ordering: .relaxed)
        switch status.kind {
        case .symlink:
            try directory.symlink(try root.readLink(path), at: place)
        case .file:
            let source = try root.open(path, for: .reading)
            let target = try directory.open(place, for: .creatingNew)
            try source.copyContent(to: target)
            try target.setTimes(mtimeNanoseconds: status.mtimeNanoseconds)
            if isLast { try target.flushData() }
        case .directory, .other:
            break
        }
    }

    private func makeParents(of place: [UInt8]) throws(SystemError) {
        guard let cut = place.lastIndex(of: slash) else { return }
        let parent = Array(place[..<cut])
        guard try directory.status(of: parent) == nil else { return }
        try makeParents(of: parent)
        try directory.makeDirectory(parent)
    }

    /// `expire` by the clock, at most every ten minutes; a failure is only told, and tried again then.
    func expireNow(olderThan age: Duration, _ log: Logger) {
        let now = Timestamp.now()
        let isDue = lastExpiry.withLock { last in
            guard now - last > .seconds(600) else { return false }
            last = now
            return true
        }
        guard isDue else { return }
        do throws(SystemError) {
            try expire(olderThan: age, now: now)
        } catch {
            log.warning("quarantine: \(error)")
        }
    }

    /// Removes the batches at which nothing was taken for `age`.
    func expire(olderThan age: Duration, now: Timestamp) throws(SystemError) {
        for entry in try directory.entries() {
            guard let status = try directory.status(of: entry.name),
                Self.isDue(status, olderThan: age, now: now)
            else { continue }
            try directory.removeTree(entry.name, status)
        }
    }

    /// When something was last taken at the batch whose directory has `status`.
    static func taken(_ status: FileStatus) -> Timestamp { Timestamp(nanoseconds: status.mtimeNanoseconds) }

    /// The one rule of expiry, for the daemon and for the command.
    static func isDue(_ status: FileStatus, olderThan age: Duration, now: Timestamp) -> Bool {
        now - taken(status) >= age
    }

    private var slash: UInt8 { UInt8(ascii: "/") }
}

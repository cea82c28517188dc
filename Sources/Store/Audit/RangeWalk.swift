package import Formats

/// The directories of a root from one through another, as each end of an audit lists its own: parents first, then children
/// by name (`StorePath.comesBefore`).
///
/// Flow: `next` gives a directory; who walks tells which directories are in it (`descend`), if it is there, before the next
/// one is asked for. The first need not exist: then what would come after it does.
package struct RangeWalk: Sendable {
    package let last: StorePath
    /// Directories to come, the next one last.
    private var stack: [StorePath] = []

    /// `subdirectories` gives the names of the directories in a directory, in any order; it is asked about those that `first`
    /// is in.
    package init<Failure: Error>(
        from first: StorePath, through last: StorePath,
        subdirectories: (StorePath) throws(Failure) -> [[UInt8]]
    ) throws(Failure) {
        self.last = last
        var above: [StorePath] = []
        var directory = first
        while !directory.isRoot {
            directory = directory.parent
            above.append(directory)
        }
        // From the root down, so that what is nearest to the first is next.
        for parent in above.reversed() {
            let names = try subdirectories(parent)
            push(names.map { parent.appending($0) }.filter { first.comesBefore($0) && !first.isWithin($0) })
        }
        push([first])
    }

    /// Nothing when all were given.
    package mutating func next() -> StorePath? { stack.popLast() }

    /// `names` are the directories in `directory`, in any order.
    package mutating func descend(into directory: StorePath, _ names: [[UInt8]]) {
        push(names.map { directory.appending($0) })
    }

    private mutating func push(_ directories: [StorePath]) {
        let due = directories.filter { !last.comesBefore($0) }
        stack += due.sorted { $1.comesBefore($0) }
    }
}

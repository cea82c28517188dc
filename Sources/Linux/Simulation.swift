// The seam for the simulation (Tests/Simulation): what there stands in for time, threads, waiting and the disk.
//
// In the program nothing is ever put here, and each place that asks compares a pointer with nothing. Only this library
// asks, so that all others run in a simulation as they are.

/// Time, threads, waiting and what becomes of files, made up. All calls may come from any thread.
package protocol SimulatedKernel: AnyObject, Sendable {
    /// ns of the wall clock or of the monotonic one.
    func now(_ clock: Simulation.Clock) -> Int64

    /// A thread is about to be made; its number. It calls `threadBegan` first and `threadEnded` last of all.
    func threadWillStart(_ name: String) -> UInt64
    func threadBegan(_ number: UInt64)
    func threadEnded(_ number: UInt64)
    /// Returns when `threadEnded` was called.
    func waitForEnd(of number: UInt64)

    /// Returns after `wake` for the same object, at `deadline`, or earlier for nothing.
    func wait(on object: ObjectIdentifier, until deadline: MonotonicTime?)
    func wake(_ object: ObjectIdentifier)
    /// Returns when something may have become readable, or at `deadline`.
    func waitForEvents(until deadline: MonotonicTime?, isReady: () -> Bool)

    /// Before a call of the kernel about `path`; an error thrown is the call's.
    func willCall(_ name: String, _ path: String) throws(SystemError)
    /// Of `byteCount` bytes that are to be read or written in one call, how many are; at least 1.
    func transferBytes(_ byteCount: Int) -> Int
    /// After a call that changed something, or made something durable.
    func did(_ change: Simulation.Change)
    /// What a file's status is told to be.
    func adjusted(_ status: FileStatus) -> FileStatus
    func random() -> UInt64
    /// Whether this is to be done wrong on purpose, to see that it is found.
    func isMutated(_ mutation: Simulation.Mutation) -> Bool
}

package enum Simulation {
    /// Nothing in the program. Set before there is a second thread, and never again: so it is no race to read it.
    nonisolated(unsafe) package static var kernel: (any SimulatedKernel)?

    package enum Clock: Sendable { case wall, monotonic }

    /// Descriptors and names as they were given to the kernel.
    package enum Change {
        case opened(CInt, Access)
        case wrote(CInt, offset: Int64, UnsafeRawBufferPointer)
        case truncated(CInt, to: Int64)
        case allocated(CInt, Int64)
        /// fdatasync, fsync
        case flushed(CInt)
        /// syncfs
        case flushedAll(CInt)
        case setTimes(CInt, mtimeNanoseconds: Int64)
        case setMode(CInt)
        case madeDirectory(CInt, [CChar])
        case renamed(CInt, [CChar], to: CInt, [CChar])
        case linked(CInt, [CChar], to: CInt, [CChar])
        case symlinked([CChar], at: CInt, [CChar])
        case unlinked(CInt, [CChar])
        case setTimesOf(CInt, [CChar], mtimeNanoseconds: Int64)
    }

    /// What can be done wrong only where it is done.
    package enum Mutation: Sendable {
        case indexFirst, skipBasis, claimUnproven, ignoreTold, ignoreAwaited, trimEarly, annotationsFirst, mailboxesOnce
        case untoldMailboxes, usersOnce, othersLater, partAnywhere
    }

    /// False in the program.
    package static func isMutated(_ mutation: Mutation) -> Bool { kernel?.isMutated(mutation) ?? false }
}

/// Chance: the system's, or a simulation's.
package struct Chance: RandomNumberGenerator {
    private var system = SystemRandomNumberGenerator()

    package init() {}

    package mutating func next() -> UInt64 { Simulation.kernel?.random() ?? system.next() }
}

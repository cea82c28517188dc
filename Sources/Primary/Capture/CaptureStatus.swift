package import Formats
package import Linux
private import Synchronization

/// What capture tells of itself; counters since the start of the daemon.
package struct CaptureStatus: Sendable {
    /// Directories that are dirty now.
    package var dirtyCount = 0
    package var batchCount: UInt64 = 0
    package var recordCount: UInt64 = 0
    package var batchBytes: UInt64 = 0
    /// Times a user was not read because somebody wrote, and was read a moment later.
    package var busyCount: UInt64 = 0
    /// Batches that did not wait any longer for users who wrote all the time: a message that was moved between two of them just then
    /// may have been in neither mailbox until the next.
    package var unsettledCount: UInt64 = 0
    /// When there was something to ship last.
    package var lastShipped = MonotonicTime.distantPast
    /// Differences that no event had told of.
    package var missedCount: UInt64 = 0
    package var sweepCount: UInt64 = 0
    package var lastSweep: Timestamp?
    package var lockHolds = LockHolds()
    /// What is not shipped, or was not good when it was: by path, why, since when.
    package var alarms: [StorePath: Alarm] = [:]
    package var lastError: Alarm?
    /// Capture waits for room in the journal; `lastError` says where.
    package var isPaused = false

    package struct Alarm: Sendable {
        package let why: String
        package let since: Timestamp
        /// It is not the file that is to blame, and it is tried again.
        var isShortage = false
    }
}

/// Why a file is not shipped, or not as it should be.
enum AlarmCause: CustomStringConvertible {
    /// By Cyrus's own account.
    case unsound(String)
    case system(SystemError)
    /// So many names in a directory.
    case tooLong(Int)

    var description: String {
        switch self {
        case .unsound(let why): why
        case .system(let error): "\(error)"
        case .tooLong(let count):
            "\(count) names in it are not replicated: their paths have more than \(StorePath.pathBytesMax) bytes"
        }
    }

    var isShortage: Bool { if case .system(let error) = self { error.isShortage } else { false } }
}

/// How long Cyrus's locks were held: a histogram.
package struct LockHolds: Sendable {
    /// Upper bounds in microseconds of all counts but the last.
    package static let boundsMicroseconds: [Int64] = [100, 300, 1000, 3000, 10000, 30000, 100_000, 1_000_000]
    package private(set) var counts = [UInt64](repeating: 0, count: boundsMicroseconds.count + 1)
    package private(set) var longest = Duration.zero

    package mutating func add(_ held: Duration) {
        let microseconds = held.nanosecondsClamped / 1000
        let bucket = Self.boundsMicroseconds.firstIndex { microseconds <= $0 } ?? Self.boundsMicroseconds.count
        counts[bucket] += 1
        longest = max(longest, held)
    }
}

/// The status, where the capturer writes it and others read it.
package final class SharedCaptureStatus: Sendable {
    private let status = Mutex(CaptureStatus())

    package init() {}

    package var current: CaptureStatus { status.withLock { $0 } }

    func update<Result>(_ body: (inout CaptureStatus) -> Result) -> Result {
        status.withLock { status in body(&status) }
    }
}

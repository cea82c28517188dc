import Formats
import Linux

/// How many of a store's files may be removed within an hour.
package struct RemovalLimit: Sendable {
    /// Of them all, 0 to 1.
    package var shareMax: Double
    /// Fewer than this never stop anything.
    package var countMin = 1000

    package init(shareMax: Double) { self.shareMax = shareMax }
}

/// Stops a replica that is about to lose much of its store at once: a primary whose disk came up empty says "removed" of
/// everything, and says so correctly.
///
/// Pure: what is about to be removed goes in, and whether to go on comes out. Counted are names, in windows of an hour.
struct RemovalBrake {
    let limit: RemovalLimit
    /// Names in the store when the window began.
    private var storeCount: Int
    private var windowStart: MonotonicTime
    private var removedCount = 0
    private var isReleased = false

    static let window = Duration.seconds(3600)

    init(_ limit: RemovalLimit, storeCount: Int, now: MonotonicTime) {
        self.limit = limit
        self.storeCount = storeCount
        windowStart = now
    }

    /// Whether an hour has gone, and the store is to be counted again.
    func isOver(now: MonotonicTime) -> Bool { now - windowStart >= Self.window }

    /// Whether `count` more names may go; they are counted if so.
    mutating func mayRemove(_ count: Int) -> Bool {
        let after = removedCount + count
        let allowed = max(limit.countMin, Int(limit.shareMax * Double(storeCount)))
        guard count == 0 || isReleased || after <= allowed else { return false }
        removedCount = after
        return true
    }

    /// The operator has looked: no limit until the window ends.
    mutating func release() { isReleased = true }

    /// For the operator.
    func reason(_ count: Int) -> String {
        "\(removedCount + count) of \(storeCount) files would be removed within an hour, more than removal_brake allows"
    }
}

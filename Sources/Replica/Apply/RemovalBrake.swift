import Formats
import Linux

/// Stops a replica that is about to lose much of its store at once: a primary whose disk came up empty says "removed" of
/// everything, and says so correctly.
///
/// Pure: what is about to be removed goes in, and whether to go on comes out. Counted are names, in windows of an hour.
struct RemovalBrake {
    /// Of the store's files, 0 to 1.
    let shareMax: Double
    /// Names in the store when the window began.
    private var storeCount: Int
    private var windowStart: MonotonicTime
    private var removedCount = 0
    private var isReleased = false

    /// Fewer removals than this never stop anything.
    static let removalCountMin = 1000
    static let window = Duration.seconds(3600)

    init(shareMax: Double, storeCount: Int, now: MonotonicTime) {
        self.shareMax = shareMax
        self.storeCount = storeCount
        windowStart = now
    }

    /// Whether an hour has gone, and the store is to be counted again (`begin`).
    func isOver(now: MonotonicTime) -> Bool { now - windowStart >= Self.window }

    mutating func begin(storeCount: Int, now: MonotonicTime) {
        self = RemovalBrake(shareMax: shareMax, storeCount: storeCount, now: now)
    }

    /// Whether `count` more names may go; they are counted if so.
    mutating func mayRemove(_ count: Int) -> Bool {
        let after = removedCount + count
        let allowed = max(Self.removalCountMin, Int(shareMax * Double(storeCount)))
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

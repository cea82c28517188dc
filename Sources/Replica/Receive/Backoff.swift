import Linux

/// Longer and longer pauses, each shortened by chance, so that many who were cut off together do not come back together.
struct Backoff {
    private let first: Duration
    private let max: Duration
    private var current: Duration

    init(first: Duration, max: Duration) {
        self.first = first
        self.max = max
        current = first
    }

    mutating func next() -> Duration {
        defer { current = min(current * 2, max) }
        var chance = Chance()
        return current * Double.random(in: 0.5...1, using: &chance)
    }

    mutating func reset() { current = first }
}

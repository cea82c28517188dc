package import Formats
package import Linux

/// What the continuous audit has proven, over a restart: `scrub` in the state directory, `key value` lines, replaced whole.
package struct ScrubRecord: Equatable, Sendable {
    /// The last round of each depth that came to its end; everything was compared since it began.
    package var content: Round?
    package var metadata: Round?
    /// The round of contents that is under way: when it began, and the last directory it has proven.
    package var contentBegan: Timestamp?
    var contentReached: StorePath?
    /// Of that round so far. What is looked at again, after an interruption, may count again.
    var contentFindingCount = 0
    /// Since the state directory was made.
    package var findingCount: UInt64 = 0
    package var lastFinding: Timestamp?

    /// Directories that could not be compared, each with the time since which nothing proves it, at most `unprovenMax`.
    private(set) var unproven: [StorePath: Unproven] = [:]

    struct Unproven: Equatable, Sendable {
        var since: Timestamp
        var depth: Depth
    }

    enum Depth: String, Sendable {
        case content, metadata
    }

    static let unprovenMax = 256

    package struct Round: Equatable, Sendable {
        package var began: Timestamp
        package var ended: Timestamp
        package var findingCount: Int
    }

    /// The directory, or the file that is one no longer, that has gone longest without being compared; nothing if the last
    /// rounds have compared all.
    package var oldestUnproven: (path: StorePath, since: Timestamp)? {
        unproven.min { ($0.value.since, $0.key) < ($1.value.since, $1.key) }.map { ($0.key, $0.value.since) }
    }

    /// What a round that came to its end has not compared; all else of that depth was.
    mutating func note(unproven paths: [StorePath], _ depth: Depth) {
        let last = depth == .content ? content : metadata
        let before = unproven
        unproven = unproven.filter { $0.value.depth != depth }
        for path in paths.prefix(Self.unprovenMax) where unproven[path] == nil {
            unproven[path] = before[path] ?? Unproven(since: last?.began ?? .now(), depth: depth)
        }
    }

    private static let fileName = "scrub"

    init() {}

    /// Empty if there is no such file; a line that cannot be read says nothing.
    init(in directory: String) throws(SystemError) {
        let bytes = try AtomicFile.read(directory: directory, name: Self.fileName, max: 8 << 20) ?? []
        self.init(decoding: String(decoding: bytes, as: UTF8.self))
    }

    init(decoding text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            let numbers = words.dropFirst().map { Int64($0) ?? 0 }
            switch (words[0], numbers.count) {
            case ("content", 3): content = Self.round(numbers)
            case ("metadata", 3): metadata = Self.round(numbers)
            case ("content_began", 1): contentBegan = Timestamp(nanoseconds: numbers[0])
            case ("content_reached", 2):
                contentReached = Self.bytes(words[2]).flatMap { StorePath(root: RootName(words[1]), path: $0) }
            case ("content_findings", 1): contentFindingCount = Int(max(0, numbers[0]))
            case ("unproven", 4):
                guard let depth = Depth(rawValue: words[1]), let bytes = Self.bytes(words[4]),
                    let path = StorePath(root: RootName(words[3]), path: bytes), unproven.count < Self.unprovenMax * 2
                else { continue }
                unproven[path] = Unproven(since: Timestamp(nanoseconds: numbers[1]), depth: depth)
            case ("findings", 2):
                findingCount = UInt64(max(0, numbers[0]))
                lastFinding = numbers[1] == 0 ? nil : Timestamp(nanoseconds: numbers[1])
            default: continue
            }
        }
    }

    private static func round(_ numbers: [Int64]) -> Round {
        Round(
            began: Timestamp(nanoseconds: numbers[0]), ended: Timestamp(nanoseconds: numbers[1]),
            findingCount: Int(numbers[2]))
    }

    /// A path may hold any byte, so it is written in hexadecimal digits behind an `x`.
    private static func bytes(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8.dropFirst())
        guard text.first == "x", digits.count % 2 == 0 else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16) ?? 0
        }
    }

    private static func words(_ path: StorePath) -> String {
        path.root.name + " x" + path.path.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    var encoded: String {
        var lines: [String] = []
        for (name, round) in [("content", content), ("metadata", metadata)] {
            guard let round else { continue }
            lines.append("\(name) \(round.began.nanoseconds) \(round.ended.nanoseconds) \(round.findingCount)")
        }
        if let contentBegan { lines.append("content_began \(contentBegan.nanoseconds)") }
        if let contentReached { lines.append("content_reached \(Self.words(contentReached))") }
        for (path, item) in unproven.sorted(by: { $0.key < $1.key }) {
            lines.append("unproven \(item.depth.rawValue) \(item.since.nanoseconds) \(Self.words(path))")
        }
        if contentFindingCount > 0 { lines.append("content_findings \(contentFindingCount)") }
        lines.append("findings \(findingCount) \(lastFinding?.nanoseconds ?? 0)")
        return lines.joined(separator: "\n") + "\n"
    }

    /// On disk on return.
    func save(in directory: String) throws(SystemError) {
        try AtomicFile.replace(directory: directory, name: Self.fileName, bytes: Array(encoded.utf8))
    }
}

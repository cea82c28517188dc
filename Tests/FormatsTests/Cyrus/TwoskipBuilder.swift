import Digests

/// Writes twoskip files with what the fixtures lack: long keys, deletions, chosen levels.
struct TwoskipBuilder {
    enum Item {
        case pair(String, [UInt8], level: Int)
        case deletion
    }

    /// In the order of the list; a deletion stands where its key was.
    static func file(_ items: [Item], generation: UInt64 = 1, recordCount: Int? = nil) -> [UInt8] {
        var offsets: [Int] = []
        var offset = 64 + 8 + 32 * 8 + 8
        for item in items {
            offsets.append(offset)
            offset += head(item) + tail(item).count
        }
        var next = [Int](repeating: 0, count: 31)
        var pieces: [[UInt8]] = []
        for (item, offset) in zip(items, offsets).reversed() {
            switch item {
            case .pair(_, _, let level):
                pieces.append(record(item, type: "+", level: level, pointers: [0] + next[..<level]))
                for lane in 0..<level { next[lane] = offset }
            case .deletion:
                pieces.append(record(item, type: "-", level: 0, pointers: [next[0]]))
                next[0] = offset
            }
        }
        let dummy = record(.deletion, type: "=", level: 31, pointers: [0] + next)
        let end = offset + 24
        let commit = record(.deletion, type: "$", level: 0, pointers: [336])
        let count = recordCount ?? items.count { if case .pair = $0 { true } else { false } }
        return header(generation, count, end) + dummy + pieces.reversed().flatMap { $0 } + commit
    }

    static func header(_ generation: UInt64, _ count: Int, _ size: Int, flags: UInt32 = 0) -> [UInt8] {
        var bytes: [UInt8] = [0xa1, 0x02, 0x8b, 0x0d] + utf8("twoskip file\0\0\0\0")
        bytes.add(UInt32(1))
        for value in [generation, UInt64(count), UInt64(size), UInt64(size)] { bytes.add(value) }
        bytes.add(flags)
        bytes.add(crc32(bytes))
        return bytes
    }

    private static func keyValue(_ item: Item) -> ([UInt8], [UInt8], Int) {
        switch item {
        case .pair(let key, let value, let level): (utf8(key), value, level)
        case .deletion: ([], [], 0)
        }
    }

    private static func head(_ item: Item) -> Int {
        let (key, _, level) = keyValue(item)
        return 8 + (key.count >= 0xffff ? 8 : 0) + 8 * (level + 1) + 8
    }

    private static func tail(_ item: Item) -> [UInt8] {
        let (key, value, _) = keyValue(item)
        return key + value + [UInt8](repeating: 0, count: (8 - (key.count + value.count) % 8) % 8)
    }

    private static func record(_ item: Item, type: Character, level: Int, pointers: [Int]) -> [UInt8] {
        let (key, value, _) = keyValue(item)
        var bytes: [UInt8] = [type.asciiValue!, UInt8(level)]
        bytes.add(UInt16(clamping: key.count))
        bytes.add(UInt32(value.count))
        if key.count >= 0xffff { bytes.add(UInt64(key.count)) }
        for pointer in pointers { bytes.add(UInt64(pointer)) }
        bytes.add(crc32(bytes))
        bytes.add(crc32(tail(item)))
        return bytes + tail(item)
    }
}

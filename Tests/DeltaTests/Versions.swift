import Seeded

extension SeededGenerator {
    /// Like mail: lines that come again, and lines that don't.
    mutating func mail(_ count: Int) -> [UInt8] {
        let line = Array("Received: from mail.example.org (mail.example.org [192.0.2.1]) by imap.example.org\r\n".utf8)
        var bytes: [UInt8] = []
        while bytes.count < count { bytes += Bool.random(using: &self) ? line : self.bytes(60) }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}

/// What happens to files.
enum Mutation: String, CaseIterable, Sendable {
    case nothing, append, insert, delete, scatter, truncate, swap, grow, rewrite, empty, fill

    func callAsFunction(_ old: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        var new = old
        let place = Int.random(in: 0...old.count, using: &random)
        let some = Int.random(in: 1...3000, using: &random)
        switch self {
        case .nothing: break
        case .append: new += random.bytes(some)
        case .insert: new.insert(contentsOf: random.bytes(some), at: place)
        case .delete: new.removeSubrange(place..<min(place + some, old.count))
        case .scatter:
            for _ in 0..<20 where !new.isEmpty {
                let at = Int.random(in: 0..<new.count, using: &random)
                for index in at..<min(at + some / 100 + 1, new.count) { new[index] ^= 1 | UInt8(some & 0xff) }
            }
        case .truncate: new.removeLast(old.count - place)
        case .swap: new = Array(old[place...] + old[..<place])
        case .grow: new += [UInt8](repeating: 0, count: 4096 - new.count % 4096)
        case .rewrite: new = random.bytes(old.count + some)
        case .empty: new = []
        case .fill: for index in new.indices { new[index] = 0 }
        }
        return new
    }
}

/// Lengths around every border: of words, pages, blocks and pieces.
let lengths = [0, 1, 7, 8, 63, 100, 4095, 4096, 4097, 20_000, 70_001, 262_144, 300_000]

import Formats
import Foundation
import Seeded

/// Files that a real Cyrus wrote; Fixtures/cyrus/README.md says how.
enum CyrusFixture {
    static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(
        path: "../../../Fixtures/cyrus")

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: directory.appending(path: name)))
    }

    static func text(_ name: String) throws -> String { String(decoding: try bytes(name), as: UTF8.self) }

    static func lines(_ name: String) throws -> [String] { try text(name).split(separator: "\n").map(String.init) }
}

extension [UInt8] {
    /// One bit changed.
    func flipping(bit: Int, at offset: Int) -> [UInt8] {
        var changed = self
        changed[offset] ^= 1 << UInt8(bit)
        return changed
    }

    /// Some bytes changed, a piece moved, the end cut or grown: what no writer would do.
    func mutated(using generator: inout SeededGenerator) -> [UInt8] {
        var changed = self
        for _ in 0..<Int.random(in: 1...8, using: &generator) where !changed.isEmpty {
            let offset = Int.random(in: 0..<changed.count, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: changed[offset] = [0, 0xff, 0x7f, 0x80, 1].randomElement(using: &generator)!
            case 1: changed[offset] = UInt8.random(in: 0...255, using: &generator)
            case 2: changed.removeSubrange(offset..<Swift.min(changed.count, offset + 4))
            case 3: changed.insert(contentsOf: [0xff, 0xff, 0xff, 0xff], at: offset)
            case 4: changed.removeLast(Swift.min(changed.count, offset % 64))
            default:
                for index in offset..<Swift.min(changed.count, offset + 4) { changed[index] = 0xff }
            }
        }
        return changed
    }

    mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        Swift.withUnsafeBytes(of: value.bigEndian) { replaceSubrange(offset..<offset + $0.count, with: $0) }
    }

    mutating func add<Value: FixedWidthInteger>(_ value: Value) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }
}

func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

extension [IndexFinding] {
    var tellDamage: Bool { contains { $0.isDamage } }
}

extension [DatabaseFinding] {
    var tellDamage: Bool { contains { $0.isDamage } }
}

import Delta
import Digests
import Formats
import Linux
import Seeded
import Testing

@testable import Replica

/// Random histories of one file, crashes anywhere in them, and a replay from the last checkpoint.
///
/// The model: each record is a batch. A checkpoint (everything flushed) is made now and then, and before each record
/// that needs one, as `Applier` does. A crash leaves
/// - of a process that died: all records before some record, and of that one the first calls;
/// - of a power cut: the file that was flushed last under that name, with any page, and the length, of any state since.
/// The replay is of all records after the checkpoint to the end of the history, on a process that knows nothing.
@Suite struct ReplayTests {
    private let path = StorePath(mail, "user/alice/cyrus.index")
    private let page = PageTable.pageBytes

    private struct Step {
        let record: Record
        /// What the file is after it; nothing if there is none.
        let after: [UInt8]?
    }

    // MARK: - histories

    private func history(_ generator: inout SeededGenerator) throws -> (start: [UInt8], steps: [Step]) {
        let start = generator.bytes(Int.random(in: 1...5 * page, using: &generator))
        var now: [UInt8]? = start
        var steps: [Step] = []
        while steps.count < 12 {
            guard let old = now else {
                let new = generator.bytes(Int.random(in: 0...4 * page, using: &generator))
                steps.append(Step(record: .whole(path, new), after: new))
                now = new
                continue
            }
            var new = mutated(old, &generator)
            switch Int.random(in: 0..<16, using: &generator) {
            case 0:
                steps.append(Step(record: Record(path, .remove), after: nil))
                now = nil
                continue
            case 1:
                let result = PageTable.digest(of: old)
                let metadata = Metadata(mode: 0o640, mtimeNanoseconds: Int64(steps.count))
                steps.append(Step(record: Record(path, .metadata(metadata, result: result)), after: old))
                continue
            case 2:
                steps.append(Step(record: .whole(path, new), after: new))
            case 3:
                new += generator.bytes(1)
                let records = Record.parts(path, new)
                steps += records.dropLast().map { Step(record: $0, after: old) }
                steps.append(Step(record: records.last!, after: new))
            case 4, 5, 6:
                new = generator.bytes(Int.random(in: 1...600, using: &generator)) + new
                steps.append(Step(record: try .delta(path, from: old, to: new), after: new))
            default:
                steps.append(Step(record: .extents(path, from: old, to: new), after: new))
            }
            now = new
        }
        return (start, steps)
    }

    /// As Cyrus changes its files: bytes in place, more of them, fewer of them.
    private func mutated(_ old: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var new = old
        for _ in 0..<Int.random(in: 0...4, using: &generator) where !new.isEmpty {
            let start = Int.random(in: 0..<new.count, using: &generator)
            for index in start..<min(new.count, start + Int.random(in: 1...300, using: &generator)) {
                new[index] = UInt8(truncatingIfNeeded: generator.next())
            }
        }
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: new += generator.bytes(Int.random(in: 1...2 * page, using: &generator))
        case 1: new.removeLast(Int.random(in: 0...new.count, using: &generator))
        default: break
        }
        return new
    }

    // MARK: - crashes

    private static let file = "mail/user/alice/cyrus.index"

    /// The first calls of a patch: some extents, of the last one a part; maybe the new length; the head last.
    private func begin(_ record: Record, _ store: TemporaryStore, _ generator: inout SeededGenerator) throws {
        guard case .extents(_, _, _, let byteCount, let extents) = record.change else { return }
        let file = try Descriptor.open(store.path + "/" + Self.file, for: .updating)
        let behindHead = extents.filter { $0.offset != 0 }
        let count = Int.random(in: 0...behindHead.count, using: &generator)
        for extent in behindHead.prefix(count) { try file.write(extent.bytes, at: Int64(extent.offset)) }
        if count < behindHead.count {
            let torn = behindHead[count]
            let some = Int.random(in: 0..<torn.bytes.count, using: &generator)
            return try file.write(torn.bytes[..<some], at: Int64(torn.offset))
        }
        guard Bool.random(using: &generator) else { return }
        try file.truncate(to: Int64(byteCount))
        if let head = extents.first, head.offset == 0 {
            let some = Int.random(in: 0...head.bytes.count, using: &generator)
            try file.write(head.bytes[..<some], at: 0)
        }
    }

    /// A state of the file, and the record it came by; nothing for the one at the checkpoint.
    private struct State {
        let after: [UInt8]?
        let record: Record?

        /// Whether a rename made it.
        var isNewFile: Bool {
            switch record?.change {
            case .whole, .delta, .assembled, .remove: true
            case .extents, .metadata, .part, .directory, .link, .symlink, .keep, .check, nil: false
            }
        }
    }

    /// What a power cut may leave of the states since the checkpoint, and the renames that it undid.
    private func torn(_ states: [State], _ generator: inout SeededGenerator) -> (bytes: [UInt8]?, undone: [Record]) {
        // Renames come to disk in order, but how many did is open.
        let firsts = [0] + states.indices.dropFirst().filter { states[$0].isNewFile }
        let file = Int.random(in: 0..<firsts.count, using: &generator)
        let end = file + 1 < firsts.count ? firsts[file + 1] : states.count
        let undone = firsts.dropFirst(file + 1).compactMap { states[$0].record }
        let versions = states[firsts[file]..<end].map(\.after)
        guard let some = versions.randomElement(using: &generator), let byteCount = some?.count else {
            return (nil, undone)
        }
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: byteCount, by: page) {
            let count = min(page, byteCount - start)
            let version = versions.compactMap { $0 }.randomElement(using: &generator) ?? []
            let piece = version.dropFirst(start).prefix(count)
            bytes += piece + [UInt8](repeating: 0, count: count - piece.count)
        }
        return (bytes, undone)
    }

    // MARK: - the property

    private enum Crash: CaseIterable {
        case process, power
    }

    private func run(seed: UInt64, _ crash: Crash) throws -> String? {
        var generator = SeededGenerator(seed: seed)
        let (start, steps) = try history(&generator)
        let store = try TemporaryStore()
        let applier = try store.applier()
        guard try applier.apply(.whole(path, start)) == .applied else { return "the start was not applied" }
        let died = Int.random(in: 0...steps.count, using: &generator)
        var checkpoint = 0
        var states = [State(after: start, record: nil)]
        for (number, step) in steps.prefix(died).enumerated() {
            if step.record.needsCheckpoint || Int.random(in: 0..<6, using: &generator) == 0 {
                checkpoint = number
                states = [State(after: states.last!.after, record: nil)]
            }
            let outcome = try applier.apply(step.record)
            guard outcome == .applied else { return "step \(number): \(outcome)" }
            states.append(State(after: step.after, record: step.record))
        }
        switch crash {
        case .process:
            if died < steps.count, !steps[died].record.needsCheckpoint {
                try begin(steps[died].record, store, &generator)
            }
        case .power:
            // Of the next record some may have been written.
            if died < steps.count, case .extents = steps[died].record.change {
                states.append(State(after: steps[died].after, record: steps[died].record))
            }
            let left = torn(states, &generator)
            if let bytes = left.bytes {
                _ = try applier.apply(.whole(path, bytes))
            } else {
                _ = try applier.apply(Record(path, .remove))
            }
            // Parts that were not renamed are parts still.
            for case .assembled(_, let result, _) in left.undone.map(\.change) {
                for step in steps {
                    guard case .part(result, _, _) = step.record.change else { continue }
                    _ = try applier.apply(step.record)
                }
            }
        }
        let next = try store.applier()
        for (number, step) in steps.enumerated().dropFirst(checkpoint) {
            let outcome = try next.apply(step.record, .replay)
            guard outcome == .applied else { return "replay of \(number) of \(checkpoint)...\(died): \(outcome)" }
        }
        let wrong = try next.settle()
        let kinds = steps.map(\.record.kindName).joined(separator: " ")
        guard wrong.isEmpty else { return "not settled, after \(checkpoint)...\(died) of \(kinds)" }
        guard let expected = steps.last!.after else { return try store.status(Self.file) == nil ? nil : "not gone" }
        return try store.bytes(Self.file) == expected
            ? nil : "another content, after \(checkpoint)...\(died) of \(kinds)"
    }

    @Test(arguments: 0..<20) func `a replay after the process died comes out where the log does`(_ block: UInt64) throws
    {
        for seed in block * 10..<(block + 1) * 10 {
            let why = try run(seed: seed, .process)
            #expect(why == nil, "seed \(seed)")
        }
    }

    @Test(arguments: 0..<20) func `a replay after a power cut comes out where the log does`(_ block: UInt64) throws {
        for seed in 100_000 + block * 10..<100_000 + (block + 1) * 10 {
            let why = try run(seed: seed, .power)
            #expect(why == nil, "seed \(seed)")
        }
    }

    /// A file that was already what a later record makes of it kept an older record's doubt, and was asked for whole.
    @Test(arguments: [236, 310, 397, 413] as [UInt64]) func `a doubt ends with the record that finds its result`(
        _ seed: UInt64
    ) throws {
        #expect(try run(seed: seed, .process) == nil)
        #expect(try run(seed: 100_000 + seed, .power) == nil)
    }

    /// That the records which ask for a checkpoint need it: extents written over a file of another shape do not settle.
    @Test func `without a checkpoint before a delta the replay finds out that it went wrong`() throws {
        let store = try TemporaryStore()
        let v0 = content(20_000)
        var v1 = v0
        v1[10_000] ^= 0xff
        let v2 = utf8("shifted") + v1
        let log = [Record.extents(path, from: v0, to: v1), try Record.delta(path, from: v1, to: v2)]
        #expect(try store.applier().applyAll([.whole(path, v0)] + log) == [])
        let next = try store.applier()
        #expect(try next.applyAll(log, .replay) == [])
        #expect(try next.settle() == [path])
    }
}

extension Record {
    fileprivate var kindName: String { String("\(change)".prefix { $0 != "(" }) }
}

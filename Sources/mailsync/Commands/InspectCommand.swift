import ArgumentParser
import Delta
import Formats
import Linux
import ReplicationLog

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show what is in segments of a journal, and check every checksum.",
        discussion:
            "Exit status 1 when a segment is torn or damaged, or the chain is broken: it says where. A daemon may be running."
    )

    @OptionGroup var common: CommonOptions
    @Argument(
        help:
            "Files of a journal, in the order of the log; with --chain also a state directory, or none for this end's.")
    var segments: [String] = []
    @Flag(help: "Only batches, without their records.") var batches = false
    @Flag(
        help:
            "Follow the hash chain over all segments, and print its ends: equal positions have equal hashes on both ends."
    )
    var chain = false
    @Option(help: ArgumentHelp("With --chain: print the hash at this position too.", valueName: "epoch/number"))
    var at: [String] = []

    func validate() throws {
        guard chain || !segments.isEmpty else { throw ValidationError("which segments?") }
        guard chain || at.isEmpty else { throw ValidationError("--at goes with --chain") }
        if let wrong = at.first(where: { Position($0) == nil }) { throw ValidationError("not a position: \(wrong)") }
    }

    func run() throws {
        if chain {
            return try InspectChain(common: common, places: segments, marks: at.compactMap { Position($0) }).run()
        }
        var isWhole = true
        for segment in segments { isWhole = try inspect(segment) && isWhole }
        if !isWhole { throw ExitCode(ExitStatus.differences.rawValue) }
    }

    private func inspect(_ path: String) throws -> Bool {
        let file = try open(path)
        let status = try file.status()
        guard status.kind == .file else {
            throw Failure(
                .usage, "\(path): is no file", hint: "name segments, as in STATE/journal/*.journal, or say --chain")
        }
        guard status.byteCount > 0 else {
            Output.print("\(path): is empty: a segment begins with a head of \(SegmentHead.byteCount) bytes")
            return false
        }
        let head: SegmentHead
        do throws(MalformedBytes) {
            head = try SegmentHead(decoding: try bytes(file, 0, SegmentHead.byteCount))
        } catch {
            Output.print("\(path): \(error)")
            return false
        }
        Output.print("\(path): log after \(head.position), chain hash \(head.hash)")
        var scan = SegmentScan(head: head)
        while true {
            let offset = scan.offset
            switch try scan.next({ (at, count) throws(SystemError) in try file.read(at: Int64(at), count: count) }) {
            case .batch(let batch):
                try show(batch, at: offset)
            case .end:
                Output.print("  end at offset \(offset), chain hash \(scan.receiver.hash)")
                return true
            case .torn(let why):
                Output.print("  torn at offset \(offset): \(why)")
                return false
            }
        }
    }

    private func open(_ path: String) throws -> Descriptor {
        do throws(SystemError) {
            return try Descriptor.open(path, for: .reading)
        } catch {
            throw Failure(.inputOutput, "\(error)")
        }
    }

    private func bytes(_ file: borrowing Descriptor, _ offset: Int64, _ count: Int) throws(MalformedBytes) -> [UInt8] {
        do throws(SystemError) { return try file.read(at: offset, count: count) } catch {
            throw MalformedBytes("segment", at: Int(offset), "\(error)")
        }
    }

    private func show(_ batch: SealedBatch, at offset: Int) throws {
        let header = batch.header
        let time = Timestamp(nanoseconds: header.timeNanoseconds).iso8601
        Output.print(
            "  \(batch.position) at offset \(offset): \(time), \(header.recordCount) records, \(header.payloadBytes) bytes"
                + (header.isCompressed ? " of \(header.rawBytes)" : ""))
        guard !batches else { return }
        for record in try BatchReader.records(of: batch) { Output.print("    \(record.summary)") }
    }
}

extension Record {
    /// One line.
    var summary: String {
        let what =
            switch change {
            case .directory(let metadata): "directory, mode \(String(metadata.mode, radix: 8))"
            case .whole(_, let result, let bytes): "whole, \(bytes.count) bytes, digest \(result)"
            case .extents(_, let basis, let result, let byteCount, let extents):
                "\(extents.count) extents, \(extents.reduce(0) { $0 + $1.bytes.count }) bytes of \(byteCount), "
                    + "from \(basis) to \(result)"
            case .delta(_, let basis, let result, let byteCount, let delta):
                "delta of \(delta.count) bytes for \(byteCount), from \(basis) to \(result)"
            case .part(let result, let offset, let bytes): "part of \(result), \(bytes.count) bytes at \(offset)"
            case .assembled(_, let result, let byteCount): "assembled, \(byteCount) bytes, digest \(result)"
            case .link(let target, _): "link to \(target)"
            case .symlink(_, let target): "symbolic link to \(String(decoding: target, as: UTF8.self))"
            case .metadata(let metadata, _): "metadata, mode \(String(metadata.mode, radix: 8))"
            case .remove: "removed"
            case .keep: "kept in the quarantine"
            case .check(let check): "check \(check.number) of \(check.directories.count) directories"
            }
        return "\(path): \(what)"
    }
}

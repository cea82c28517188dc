/// One unbroken life of a journal; a promotion starts the next one. 0 is before any life.
package struct Epoch: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let number: UInt32

    package init(_ number: UInt32) { self.number = number }

    package var next: Epoch { Epoch(number + 1) }

    package static func < (one: Epoch, other: Epoch) -> Bool { one.number < other.number }
    package var description: String { "\(number)" }
}

/// The number of a batch: one more than the batch before, never used twice in an epoch, carried on into the next.
package struct SequenceNumber: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let number: UInt64

    package init(_ number: UInt64) { self.number = number }

    package var next: SequenceNumber { SequenceNumber(number + 1) }

    package static func < (one: SequenceNumber, other: SequenceNumber) -> Bool { one.number < other.number }
    package var description: String { "\(number)" }
}

/// A place in the log: an epoch and the last batch before it. Like an LSN.
///
/// Sequence numbers go on over a change of epoch, so positions are ordered by epoch first.
package struct Position: Hashable, Comparable, Sendable {
    package let epoch: Epoch
    package let sequence: SequenceNumber

    package init(epoch: Epoch, sequence: SequenceNumber) {
        self.epoch = epoch
        self.sequence = sequence
    }

    /// Before everything.
    package static let zero = Position(epoch: Epoch(0), sequence: SequenceNumber(0))

    /// The position after one more batch of the same epoch.
    package var next: Position { Position(epoch: epoch, sequence: sequence.next) }

    package static func < (one: Position, other: Position) -> Bool {
        (one.epoch, one.sequence) < (other.epoch, other.sequence)
    }
}

extension Position: CustomStringConvertible {
    /// `EPOCH/SEQ`, as the commands take it.
    package var description: String { "\(epoch)/\(sequence)" }

    /// Reads `EPOCH/SEQ`; nothing if `text` is anything else.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.allSatisfy(\.isNumber) }), let epoch = UInt32(parts[0]),
            let sequence = UInt64(parts[1])
        else { return nil }
        self.init(epoch: Epoch(epoch), sequence: SequenceNumber(sequence))
    }
}

extension ByteWriter {
    /// 12 bytes.
    package mutating func write(_ position: Position) {
        write(position.epoch.number)
        write(position.sequence.number)
    }

    /// Two bytes, mostly: how many epochs `position` is behind `front`, and how many batches; or, in an earlier epoch,
    /// its sequence number. A position that is not behind makes counts that no reader takes.
    package mutating func write(_ position: Position, behind front: Position) {
        let epochs = front.epoch.number &- position.epoch.number
        write(count: UInt64(epochs))
        let sequence = position.sequence.number
        write(count: epochs == 0 ? front.sequence.number &- sequence : sequence)
    }
}

extension ByteReader {
    package mutating func readPosition(_ what: @autoclosure () -> String) throws(MalformedBytes) -> Position {
        let epoch = try readEpoch(what())
        let number = try read(UInt64.self, what())
        guard number <= UInt64(Int64.max) else { throw MalformedBytes(what(), at: offset, "\(number) is no batch") }
        return Position(epoch: epoch, sequence: SequenceNumber(number))
    }

    /// A position of which only the way back from `front` was written.
    package mutating func readPosition(
        behind front: Position, _ what: @autoclosure () -> String
    ) throws(MalformedBytes) -> Position {
        let epochs = try readCount(max: UInt64(front.epoch.number), what())
        let number = try readCount(max: epochs == 0 ? front.sequence.number : UInt64(Int64.max), what())
        return Position(
            epoch: Epoch(front.epoch.number - UInt32(epochs)),
            sequence: SequenceNumber(epochs == 0 ? front.sequence.number - number : number))
    }

    /// Half of the numbers there are: what was read has a next one.
    package mutating func readEpoch(_ what: @autoclosure () -> String) throws(MalformedBytes) -> Epoch {
        let number = try read(UInt32.self, what())
        guard number <= UInt32(Int32.max) else { throw MalformedBytes(what(), at: offset, "\(number) is no epoch") }
        return Epoch(number)
    }
}

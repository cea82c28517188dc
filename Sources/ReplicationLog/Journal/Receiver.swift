package import Digests
package import Formats

/// Decides of every batch that arrives whether it is the next one of the log.
///
/// A journal's contents have passed through one, on both ends: what lies in it is dense and chained.
package struct Receiver: Sendable {
    /// The newest batch taken, and the chain hash there.
    package private(set) var position: Position
    package private(set) var hash: ChainHash

    package init(after position: Position, hash: ChainHash) {
        self.position = position
        self.hash = hash
    }

    package enum Verdict: Equatable, Sendable {
        case append
        /// Taken before; to be dropped.
        case duplicate
        case refuse(Problem)
    }

    package enum Problem: Error, Equatable, Sendable, CustomStringConvertible {
        case gap(expected: SequenceNumber, found: SequenceNumber)
        case wrongEpoch(expected: Epoch, found: Epoch)
        case brokenChain(at: Position)
        case notOfTheLog(at: Position)

        package var description: String {
            switch self {
            case .gap(let expected, let found): "batch \(found) came where \(expected) was due"
            case .wrongEpoch(let expected, let found): "batch of epoch \(found) in a log that is at epoch \(expected)"
            case .brokenChain(let position): "batch \(position) does not follow the batch before it"
            case .notOfTheLog(let position): "batch \(position) is a part of a seed, not of the log"
            }
        }
    }

    /// `known`: the chain hash at `batch`, if another receiver has taken it already behind the same log.
    package mutating func arrived(_ batch: SealedBatch, known: ChainHash? = nil) -> Verdict {
        let found = batch.position
        guard batch.header.kind == .log else { return .refuse(.notOfTheLog(at: found)) }
        guard found.epoch >= position.epoch else {
            return .refuse(.wrongEpoch(expected: position.epoch, found: found.epoch))
        }
        // A newer epoch that begins before what we have is a fork, not a repetition.
        if found.sequence <= position.sequence, found.epoch == position.epoch { return .duplicate }
        guard found.sequence == position.sequence.next else {
            return .refuse(.gap(expected: position.sequence.next, found: found.sequence))
        }
        guard batch.follows(hash) else { return .refuse(.brokenChain(at: found)) }
        position = found
        hash = known ?? batch.chainHash(after: hash)
        return .append
    }
}

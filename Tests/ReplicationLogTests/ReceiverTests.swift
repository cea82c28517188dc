import Digests
import Formats
import ReplicationLog
import Testing

@Suite struct ReceiverTests {
    @Test func `a session in order`() {
        var chain = BatchChain(after: position(1, 40), hash: ChainHash(of: utf8("forty")))
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        for _ in 0..<3 {
            #expect(receiver.arrived(chain.next()) == .append)
            #expect(receiver.position == chain.position)
            #expect(receiver.hash == chain.hash)
        }
        #expect(receiver.position == position(1, 43))
    }

    @Test func `what came before is a duplicate, what comes too early a gap, and neither moves anything`() {
        var chain = BatchChain(after: position(1, 0))
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        let batches = chain.next(4)
        #expect(receiver.arrived(batches[0]) == .append)
        #expect(receiver.arrived(batches[0]) == .duplicate)
        #expect(receiver.arrived(batches[2]) == .refuse(.gap(expected: SequenceNumber(2), found: SequenceNumber(3))))
        #expect(receiver.position == position(1, 1))
        #expect(receiver.arrived(batches[1]) == .append)
        #expect(receiver.arrived(batches[0]) == .duplicate)
        #expect(receiver.arrived(batches[2]) == .append)
        #expect(receiver.arrived(batches[3]) == .append)
        #expect(receiver.hash == chain.hash)
    }

    @Test func `a batch of another past is a broken chain`() {
        var chain = BatchChain(after: position(1, 0))
        var other = BatchChain(after: position(1, 0), hash: ChainHash(of: utf8("another past")))
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        #expect(receiver.arrived(other.next()) == .refuse(.brokenChain(at: position(1, 1))))
        #expect(receiver.arrived(chain.next()) == .append)
    }

    @Test func `one changed batch breaks the chain for all that follow it`() {
        var chain = BatchChain(after: position(1, 0))
        var other = chain
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        #expect(receiver.arrived(chain.next(utf8("one"))) == .append)
        _ = other.next(utf8("another"))
        #expect(receiver.arrived(other.next()) == .refuse(.brokenChain(at: position(1, 2))))
        #expect(receiver.arrived(chain.next()) == .append)
    }

    @Test func `a promotion carries the numbers on, and the epoch before is refused from then on`() {
        var chain = BatchChain(after: position(1, 7))
        var deposed = chain
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        #expect(receiver.arrived(chain.next(epoch: 2)) == .append)
        #expect(receiver.position == position(2, 8))
        #expect(receiver.arrived(deposed.next()) == .refuse(.wrongEpoch(expected: Epoch(2), found: Epoch(1))))
        #expect(receiver.arrived(deposed.next()) == .refuse(.wrongEpoch(expected: Epoch(2), found: Epoch(1))))
        #expect(receiver.arrived(chain.next()) == .append)
        #expect(receiver.position == position(2, 9))
    }

    /// It was never taken: who drops it silently goes on with a log that has forked.
    @Test func `a later epoch that began before our position is no duplicate`() {
        var chain = BatchChain(after: position(1, 0))
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        var promoted = chain
        for batch in chain.next(3) { #expect(receiver.arrived(batch) == .append) }
        let verdict = receiver.arrived(promoted.next(utf8("other"), epoch: 2))
        #expect(verdict != .duplicate)
        #expect(verdict != .append)
        #expect(receiver.position == position(1, 3))
    }

    @Test func `a part of a seed is not of the log`() {
        var chain = BatchChain(after: position(1, 0))
        var receiver = Receiver(after: chain.position, hash: chain.hash)
        #expect(receiver.arrived(chain.next(kind: .seed)) == .refuse(.notOfTheLog(at: position(1, 1))))
        #expect(receiver.position == position(1, 0))
    }

    @Test func `each problem tells an operator the numbers`() {
        #expect(
            Receiver.Problem.gap(expected: SequenceNumber(2), found: SequenceNumber(5)).description
                == "batch 5 came where 2 was due")
        #expect(
            Receiver.Problem.wrongEpoch(expected: Epoch(2), found: Epoch(1)).description
                == "batch of epoch 1 in a log that is at epoch 2")
        #expect(Receiver.Problem.brokenChain(at: position(1, 2)).description.contains("1/2"))
        #expect(Receiver.Problem.notOfTheLog(at: position(1, 2)).description.contains("1/2"))
    }
}

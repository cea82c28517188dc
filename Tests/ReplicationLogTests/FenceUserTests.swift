import Formats
import Linux
import ReplicationLog
import Synchronization
import Testing

@Suite struct FenceUserTests {
    private func answer(to refusal: Refusal) -> FenceUser.Answer? {
        let said = Mutex<FenceUser.Answer?>(nil)
        let user = FenceUser(store: "mail", epoch: Epoch(2)) { answer in said.withLock { $0 = answer } }
        user.link(
            Link(over: NoTransport(), peer: Fingerprint(ofDER: [1])), received: .refuse(refusal, text: "epoch 2, too"))
        return said.withLock { $0 }
    }

    /// Two that were promoted to one epoch each believed that the other had given way.
    @Test func `a primary that does not give way has not been told`() {
        #expect(answer(to: .rival) == .rival(why: "epoch 2, too"))
    }

    @Test func `who gives way, and who is no primary, has been told; whoever says something else has not`() {
        #expect(answer(to: .fenced) == .told)
        #expect(answer(to: .notPrimary) == .told)
        for refusal in [Refusal.failed, .wrongStore, .wrongVersion] { #expect(answer(to: refusal) == .untold) }
    }
}

private struct NoTransport: LinkTransport {
    var isWritable: Bool { true }
    var isOpen: Bool { false }
    func write(_ head: [UInt8], _ body: [UInt8]) {}
    func flush() {}
    func close() {}
    func setReading(paused: Bool) {}
    func onLoop(_ body: @escaping @Sendable () -> Void) { body() }
}

import Formats
import Linux
import Logging
import Scratch
import Store
import Testing

@testable import Primary

@Suite struct SweeperTests {
    private let store = TemporaryDirectory()

    @Test func `the walk waits for a capturer that is slower, and loses nothing`() throws {
        for name in ["conf", "mail"] { _ = try Directory.make(store(name)) }
        let (directoryCount, messageCount) = (8, Sweeper.pendingCountMax / 4)
        for directory in 0..<directoryCount {
            let place = try Directory.make(store("mail/\(directory)"))
            for number in 1...messageCount { _ = try place.open(utf8("\(number)."), for: .creatingNew) }
        }
        let text = "configdirectory: \(store("conf"))\npartition-default: \(store("mail"))\n"
        let roots = try StoreRoots(try StoreLayout(try ImapdConf.parse(text, named: "imapd.conf") { _ in "" }))
        let inbox = Condition(CaptureInbox())
        let sweeper = Sweeper(
            Sweeper.Parts(
                roots: roots, catalogue: try Catalogue(path: store("catalogue")), inbox: inbox,
                status: SharedCaptureStatus(), period: .seconds(3600), now: { .now() }, log: Logger(label: "test")))
        let thread = try Thread.start(name: "sweep") {
            try? sweeper.run(baseline: Timestamp(nanoseconds: .max), swept: {})
        }

        // It rests with what it may have pending, and ends only when that is taken.
        #expect(inbox.wait(timeout: .seconds(60)) { $0.baseline.count >= Sweeper.pendingCountMax })
        #expect(!inbox.wait(timeout: .milliseconds(200)) { $0.sweptThrough > 0 })
        var (found, most) = (0, 0)
        while found < directoryCount * (messageCount + 1) {
            let taken = inbox.take(timeout: .seconds(60)) { $0.baseline.isEmpty ? nil : $0.takeAll() }
            let count = try #require(taken).baseline.count
            found += count
            most = max(most, count)
        }
        #expect(found == directoryCount * (messageCount + 1))
        #expect(most <= Sweeper.pendingCountMax + messageCount + directoryCount)
        sweeper.stop()
        thread.join()
    }
}

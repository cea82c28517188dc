import Linux
import Testing

@testable import Replica

@Suite struct RemovalBrakeTests {
    private let start = MonotonicTime(nanoseconds: 1_000_000_000)

    private func brake(_ share: Double, countMin: Int = 10, storeCount: Int = 1000) -> RemovalBrake {
        var limit = RemovalLimit(shareMax: share)
        limit.countMin = countMin
        return RemovalBrake(limit, storeCount: storeCount, now: start)
    }

    @Test func `what goes within an hour is added up, and stops at the share`() {
        var brake = brake(0.2)
        let answers = [150, 50, 1, 0].map { brake.mayRemove($0) }
        #expect(answers == [true, true, false, true])
    }

    @Test func `what may not go is not counted`() {
        var brake = brake(0.2)
        let answers = [201, 200].map { brake.mayRemove($0) }
        #expect(answers == [false, true])
    }

    @Test func `of a small store a few may go in any case`() {
        var brake = brake(0.2, countMin: 10, storeCount: 4)
        let answers = [10, 1].map { brake.mayRemove($0) }
        #expect(answers == [true, false])
    }

    @Test func `as configured, a thousand never stop anything`() {
        var brake = RemovalBrake(RemovalLimit(shareMax: 0), storeCount: 1_000_000, now: start)
        let answers = [1000, 1].map { brake.mayRemove($0) }
        #expect(answers == [true, false])
    }

    @Test func `once released it holds nothing, and says what it held`() {
        var brake = brake(0.2)
        #expect(
            brake.reason(300)
                == "300 of 1000 files would be removed within an hour, more than removal_brake allows")
        brake.release()
        let mayRemoveAll = brake.mayRemove(1000)
        #expect(mayRemoveAll)
    }

    @Test func `its window is an hour`() {
        let brake = brake(0.2)
        #expect(!brake.isOver(now: start + .seconds(3599)))
        #expect(brake.isOver(now: start + .seconds(3600)))
    }
}

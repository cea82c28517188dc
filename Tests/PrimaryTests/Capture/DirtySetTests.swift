import Formats
import Linux
import Seeded
import Testing

@testable import Primary

@Suite struct DirtySetTests {
    private let inbox = StorePath(mail, "user/alice")
    private let now = MonotonicTime.milliseconds(1000)

    private func names(_ names: String...) -> DirtySet.Names { .some(Set(names.map(utf8))) }

    // MARK: - coalescing

    @Test func `hints about one directory are one piece of work`() {
        var dirty = DirtySet()
        for name in ["cyrus.index", "1.", "cyrus.index", "2."] { dirty.mark(inbox.appending(name)) }
        #expect(dirty.count == 1)
        let taken = dirty.take(now: now)
        #expect(taken.map(\.directory) == [inbox])
        #expect(taken[0].names == names("cyrus.index", "1.", "2."))
        #expect(!taken[0].isSuspicion)
        #expect(dirty.isEmpty)
        #expect(dirty.take(now: now).isEmpty)
    }

    @Test func `all names swallow some, whichever came first`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.markAll(inbox)
        dirty.mark(inbox.appending("2."))
        #expect(dirty.take(now: now).map(\.names) == [.all])
    }

    @Test func `a root itself is looked at wholly`() {
        var dirty = DirtySet()
        dirty.mark(StorePath(root: mail))
        let taken = dirty.take(now: now)
        #expect(taken.map(\.directory) == [StorePath(root: mail)])
        #expect(taken.map(\.names) == [.all])
    }

    @Test func `very many names in one directory become all of it`() {
        var dirty = DirtySet()
        for number in 0..<DirtySet.namesMax { dirty.mark(inbox.appending("\(number).")) }
        guard case .some(let some) = dirty.take(now: now)[0].names else {
            Issue.record("all of it already")
            return
        }
        #expect(some.count == DirtySet.namesMax)
        for number in 0...DirtySet.namesMax { dirty.mark(inbox.appending("\(number).")) }
        #expect(dirty.take(now: now).map(\.names) == [.all])
    }

    @Test func `what has been dirty longest is taken first`() {
        var dirty = DirtySet()
        let paths = ["c", "a", "b"].map { StorePath(mail, "user/\($0)") }
        for path in paths { dirty.markAll(path) }
        dirty.mark(paths[2].appending("1."))
        dirty.mark(paths[0].appending("1."))
        #expect(dirty.take(now: now).map(\.directory) == paths)
    }

    // MARK: - suspicions

    @Test func `what only the sweep found is a suspicion, until an event tells of it too`() {
        var dirty = DirtySet()
        dirty.suspect(inbox.appending("1."))
        dirty.suspect(inbox.appending("cyrus.index"))
        #expect(dirty.take(now: now).map(\.isSuspicion) == [true])
        dirty.suspect(inbox.appending("1."))
        dirty.mark(inbox.appending("2."))
        #expect(dirty.take(now: now).map(\.isSuspicion) == [false])
        dirty.mark(inbox.appending("2."))
        dirty.suspect(inbox.appending("1."))
        let taken = dirty.take(now: now)
        #expect(taken.map(\.isSuspicion) == [false])
        #expect(taken.map(\.names) == [names("1.", "2.")])
    }

    @Test func `a suspicion put back stays one`() {
        var dirty = DirtySet()
        dirty.suspect(inbox.appending("1."))
        dirty.putBack(dirty.take(now: now)[0], now: now)
        #expect(dirty.take(now: now + .seconds(1)).map(\.isSuspicion) == [true])
    }

    @Test func `a root that is suspected is looked at wholly`() {
        var dirty = DirtySet()
        dirty.suspect(StorePath(root: mail))
        #expect(dirty.take(now: now).map(\.names) == [.all])
    }

    // MARK: - waiting

    @Test func `what is gathered waits for its time, or until it is hurried`() {
        var dirty = DirtySet()
        let other = StorePath(mail, "user/bob")
        dirty.mark(inbox.appending("1."), notBefore: now + .milliseconds(10))
        dirty.mark(inbox.appending("2."), notBefore: now + .milliseconds(20))
        dirty.mark(other.appending("1."), notBefore: now + .milliseconds(10))
        #expect(dirty.take(now: now).isEmpty)
        #expect(dirty.nextTake == now + .milliseconds(10))
        dirty.hurry { $0 == inbox }
        #expect(dirty.take(now: now).map(\.names) == [names("1.", "2.")])
        #expect(dirty.take(now: now + .milliseconds(10)).map(\.directory) == [other])
    }

    @Test func `what was put back is hurried too`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.putBack(dirty.take(now: now)[0], now: now)
        dirty.hurry { $0 == inbox }
        #expect(dirty.take(now: now).map(\.directory) == [inbox])
    }

    @Test func `outside of mailboxes every name is for itself`() {
        var dirty = DirtySet()
        let quota = StorePath(.configuration, "quota/u")
        for user in ["user.a", "user.b"] { dirty.mark(quota.appending(user), notBefore: now + .milliseconds(10)) }
        dirty.hurry { $0 == quota.appending("user.b") }
        #expect(dirty.take(now: now).map(\.names) == [names("user.b")])
    }

    @Test func `a directory's name and what is in it are two pieces of work`() {
        var dirty = DirtySet()
        let directory = StorePath(.configuration, "user/uuid")
        dirty.mark(directory, notBefore: now + .milliseconds(10))
        dirty.markAll(directory)
        let taken = dirty.take(now: now + .milliseconds(10))
        #expect(taken.map(\.directory) == [directory.parent, directory])
        #expect(taken.map(\.names) == [names("uuid"), .all])
    }

    // MARK: - backoff

    @Test func `a new directory outside of mailboxes is looked at as a name and as a whole`() {
        for isNameFirst in [true, false] {
            var dirty = DirtySet()
            let directory = StorePath(.configuration, "user/uuid/9/7")
            if isNameFirst { dirty.mark(directory) }
            dirty.markAll(directory)
            if !isNameFirst { dirty.mark(directory) }
            let taken = Dictionary(dirty.take(now: now).map { ($0.directory, $0.names) }) { $1 }
            #expect(taken == [directory: .all, directory.parent: names("7")])
        }
    }

    @Test func `what is busy comes again after a pause that doubles up to its bound`() {
        var dirty = DirtySet()
        var now = now
        dirty.markAll(inbox)
        var expected = DirtySet.backoffFirst
        for round in 0..<9 {
            let dirt = dirty.take(now: now)
            #expect(dirt.count == 1)
            dirty.putBack(dirt[0], now: now)
            let next = dirty.nextTake!
            #expect(next == now + expected, "round \(round)")
            #expect(dirty.take(now: MonotonicTime(nanoseconds: next.nanoseconds - 1)).isEmpty)
            now = next
            expected = min(expected * 2, DirtySet.backoffMax)
        }
        #expect(expected == DirtySet.backoffMax)
    }

    @Test func `a new hint neither waits for what was put back nor shortens its pause`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.putBack(dirty.take(now: now)[0], now: now)
        dirty.mark(inbox.appending("2."))
        #expect(dirty.count == 1)
        #expect(dirty.take(now: now).map(\.names) == [names("2.")])
        #expect(dirty.take(now: now).isEmpty)
        #expect(dirty.take(now: now + DirtySet.backoffFirst).map(\.names) == [names("1.")])
        #expect(dirty.isEmpty)
    }

    @Test func `others need not wait for who is busy`() {
        var dirty = DirtySet()
        let other = StorePath(mail, "user/bob")
        dirty.markAll(inbox)
        dirty.putBack(dirty.take(now: now)[0], now: now)
        dirty.markAll(other)
        #expect(dirty.take(now: now).map(\.directory) == [other])
        #expect(dirty.count == 1)
        #expect(dirty.nextTake == now + DirtySet.backoffFirst)
        _ = dirty.take(now: now + DirtySet.backoffFirst)
        #expect(dirty.nextTake == nil)
    }

    @Test func `a success forgets the pauses`() {
        var dirty = DirtySet()
        dirty.markAll(inbox)
        for wait in [0, 10, 20] as [Int64] {
            dirty.putBack(dirty.take(now: now + .milliseconds(wait))[0], now: now)
        }
        _ = dirty.take(now: now + .seconds(1))
        dirty.markAll(inbox)
        #expect(dirty.take(now: now).map(\.backoff) == [DirtySet.backoffFirst])
    }

    // MARK: - cookies

    @Test func `a cookie with nothing dirty before it is due at once`() {
        var dirty = DirtySet()
        dirty.note(cookie: 7)
        #expect(dirty.takeDueCookies() == [7])
        #expect(dirty.takeDueCookies().isEmpty)
    }

    @Test func `what is chosen comes before its time, new or put back, and nothing else`() {
        var dirty = DirtySet()
        let (alice, bob) = (StorePath(mail, "user/alice"), StorePath(mail, "user/bob"))
        dirty.mark(alice.appending("1."))
        dirty.mark(bob.appending("1."))
        for dirt in dirty.take(now: .milliseconds(0)) { dirty.putBack(dirt, now: .milliseconds(0)) }
        dirty.mark(alice.appending("2."), notBefore: .milliseconds(10))
        dirty.note(cookie: 1)
        let chosen = dirty.take { $0.directory == alice }
        #expect(chosen.map(\.names) == [.some([utf8("1.")]), .some([utf8("2.")])])
        #expect(dirty.takeDueCookies().isEmpty)
        #expect(dirty.take(now: .milliseconds(100)).map(\.directory) == [bob])
        #expect(dirty.isEmpty)
        #expect(dirty.takeDueCookies() == [1])
    }

    @Test func `a later mark is told from the first, in a place that was dirty before`() {
        var dirty = DirtySet()
        let (one, two) = (StorePath(mail, "user/alice/1."), StorePath(mail, "user/alice/2."))
        dirty.mark(one)
        let before = dirty.generation
        #expect(dirty.take { $0.newest > before }.isEmpty)
        dirty.mark(two)
        let taken = dirty.take { $0.newest > before }
        #expect(taken.map(\.names) == [.some([utf8("1."), utf8("2.")])] && taken.first?.since == before)
    }

    @Test func `a cookie waits for what was dirty before it, and for nothing after`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.note(cookie: 1)
        dirty.markAll(StorePath(mail, "user/bob"))
        dirty.note(cookie: 2)
        #expect(dirty.takeDueCookies().isEmpty)
        let taken = dirty.take(now: now)
        #expect(taken.count == 2)
        dirty.putBack(taken[1], now: now)
        #expect(dirty.takeDueCookies() == [1])
        _ = dirty.take(now: now + .seconds(1))
        #expect(dirty.takeDueCookies() == [2])
    }

    @Test func `a cookie is not due while older dirt is busy, however much is new`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.note(cookie: 1)
        var now = now
        for _ in 0..<5 {
            let taken = dirty.take(now: now)
            #expect(taken.first?.names == names("1."))
            dirty.mark(inbox.appending("2."))
            dirty.putBack(taken[0], now: now)
            #expect(dirty.takeDueCookies().isEmpty)
            now = now + DirtySet.backoffMax
        }
        #expect(dirty.take(now: now).map(\.names) == [names("1."), names("2.")])
        #expect(dirty.takeDueCookies() == [1])
    }

    /// A stream of new hints about a busy directory must not hold up the cookies for ever.
    @Test func `a cookie is due when its own dirt is captured, though newer dirt of the directory is busy`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.note(cookie: 1)
        let older = dirty.take(now: now)
        dirty.putBack(older[0], now: now)
        dirty.mark(inbox.appending("2."))
        let taken = dirty.take(now: now + .seconds(1))
        #expect(taken.count == 2)
        dirty.putBack(taken[1], now: now + .seconds(1))
        #expect(dirty.takeDueCookies() == [1])
    }

    @Test func `a hint that joins older dirt makes a later cookie wait for both`() {
        var dirty = DirtySet()
        dirty.mark(inbox.appending("1."))
        dirty.note(cookie: 1)
        dirty.mark(inbox.appending("2."))
        dirty.note(cookie: 2)
        _ = dirty.take(now: now)
        #expect(dirty.takeDueCookies() == [1, 2])
    }

    /// Against a model that keeps every single hint.
    @Test func `no hint is lost and no cookie comes early, whatever happens`() {
        for seed: UInt64 in 0..<50 {
            var generator = SeededGenerator(seed: seed)
            var dirty = DirtySet()
            var now = now
            var pending: [StorePath: Int] = [:]  // path -> when it was marked first since it was captured
            var cookies: [UInt64: Int] = [:]  // number -> when it was noted
            func capture(_ dirt: DirtySet.Dirt, _ step: Int) {
                guard case .some(let names) = dirt.names else {
                    Issue.record("seed \(seed), step \(step): all names")
                    return
                }
                for name in names { pending[dirt.directory.appending(name)] = nil }
            }
            func expectDue(_ step: Int) {
                for due in dirty.takeDueCookies() {
                    guard let noted = cookies.removeValue(forKey: due) else {
                        Issue.record("seed \(seed), step \(step): cookie \(due) again")
                        continue
                    }
                    let early = pending.filter { $0.value < noted }
                    #expect(early.isEmpty, "seed \(seed), step \(step): cookie \(due) before \(early)")
                }
            }
            for step in 0..<400 {
                switch Int.random(in: 0..<7, using: &generator) {
                case 0, 1, 2:
                    let directory = StorePath(mail, "user/\(Int.random(in: 0..<5, using: &generator))")
                    let path = directory.appending("\(Int.random(in: 0..<5, using: &generator)).")
                    dirty.mark(path, notBefore: Bool.random(using: &generator) ? now + .milliseconds(10) : .distantPast)
                    if pending[path] == nil { pending[path] = step }
                case 3:
                    dirty.note(cookie: UInt64(step))
                    cookies[UInt64(step)] = step
                case 4:
                    dirty.hurry { _ in Bool.random(using: &generator) }
                default:
                    now = now + .milliseconds(Int.random(in: 0..<60, using: &generator))
                    for dirt in dirty.take(now: now) {
                        if Bool.random(using: &generator) { capture(dirt, step) } else { dirty.putBack(dirt, now: now) }
                    }
                    expectDue(step)
                }
            }
            for dirt in dirty.take(now: now + .seconds(1)) { capture(dirt, 400) }
            expectDue(400)
            #expect(pending.isEmpty, "seed \(seed): never taken: \(pending)")
            #expect(cookies.isEmpty, "seed \(seed): never due: \(cookies)")
            #expect(dirty.isEmpty, "seed \(seed)")
        }
    }
}

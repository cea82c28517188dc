/// One thing at a time, done by one, that several may ask for: who asks for it while it is under way gets the same answer.
package final class Errand<Wish: Equatable & Sendable, Answer: Sendable>: Sendable {
    private struct State: Sendable {
        /// What is under way.
        var wish: Wish?
        var isTaken = false
        /// Of what is under way, or was last.
        var number = 0
        var answered: (number: Int, answer: Answer)?
        var isEnded = false
    }

    private let state = Condition(State())

    package init() {}

    /// What to wait for; nothing if something else is under way, or nobody does anything any more.
    package func ask(for wish: Wish) -> Int? {
        state.update { state in
            guard !state.isEnded else { return nil }
            if let known = state.wish { return known == wish ? state.number : nil }
            state.wish = wish
            state.isTaken = false
            state.number += 1
            return state.number
        }
    }

    /// For who does it: what was asked for, once.
    package func take() -> Wish? {
        state.update { state in
            guard !state.isTaken, let wish = state.wish else { return nil }
            state.isTaken = true
            return wish
        }
    }

    /// What to wait for, if this is under way.
    package func join(_ wish: Wish) -> Int? { state.withLock { $0.wish == wish ? $0.number : nil } }

    /// What was asked for is done, or is not.
    package func answer(_ answer: Answer) {
        state.update { state in
            state.answered = (state.number, answer)
            state.wish = nil
        }
    }

    /// Nothing is done any more: whoever waits, waits for nothing.
    package func end() { state.update { $0.isEnded = true } }

    /// Blocks its thread. Nothing after `timeout`, or if it came to an end without one.
    package func wait(for number: Int, timeout: Duration) -> Answer? {
        state.take(timeout: timeout) { state -> Answer?? in
            if let answered = state.answered, answered.number >= number { return .some(answered.answer) }
            if state.isEnded { return .some(nil) }
            return nil
        } ?? nil
    }
}

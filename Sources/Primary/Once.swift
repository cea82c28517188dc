import Synchronization

/// A value that is told once and may be awaited before.
final class Once<Value: Sendable>: Sendable {
    private let state = Mutex<(value: Value?, waiting: [CheckedContinuation<Value, Never>])>((nil, []))

    var value: Value {
        get async {
            await withCheckedContinuation { continuation in
                let known = state.withLock { state -> Value? in
                    if state.value == nil { state.waiting.append(continuation) }
                    return state.value
                }
                if let known { continuation.resume(returning: known) }
            }
        }
    }

    /// Later calls change nothing.
    func resume(returning value: Value) {
        let waiting = state.withLock { state -> [CheckedContinuation<Value, Never>] in
            guard state.value == nil else { return [] }
            defer { state.waiting = [] }
            state.value = value
            return state.waiting
        }
        for continuation in waiting { continuation.resume(returning: value) }
    }
}

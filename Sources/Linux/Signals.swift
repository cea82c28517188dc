internal import Glibc

/// A signal (signal(7)).
package struct Signal: RawRepresentable, Hashable, Sendable {
    package let rawValue: CInt

    package init(rawValue: CInt) { self.rawValue = rawValue }

    package static let hangUp = Signal(rawValue: SIGHUP)
    package static let interrupt = Signal(rawValue: SIGINT)
    package static let terminate = Signal(rawValue: SIGTERM)
    package static let user1 = Signal(rawValue: SIGUSR1)
    package static let user2 = Signal(rawValue: SIGUSR2)
    package static let pipe = Signal(rawValue: SIGPIPE)
}

extension Signal: CustomStringConvertible {
    package var description: String {
        switch self {
        case .hangUp: "SIGHUP"
        case .interrupt: "SIGINT"
        case .terminate: "SIGTERM"
        case .user1: "SIGUSR1"
        case .user2: "SIGUSR2"
        case .pipe: "SIGPIPE"
        default: "signal \(rawValue)"
        }
    }
}

/// Signals without handlers: blocked everywhere, and one thread waits for them as for anything else.
package enum Signals {
    /// Keeps them from this thread and all it starts later (pthread_sigmask): first thing in the program, before any
    /// other thread is there, for one that doesn't block them would be killed.
    package static func block(_ signals: [Signal]) {
        var set = sigset_t(signals)
        let result = pthread_sigmask(SIG_BLOCK, &set, nil)
        precondition(result == 0, "pthread_sigmask: \(Errno(rawValue: result))")
    }

    /// Lets them through again, to do what they do by default (pthread_sigmask).
    package static func unblock(_ signals: [Signal]) {
        var set = sigset_t(signals)
        let result = pthread_sigmask(SIG_UNBLOCK, &set, nil)
        precondition(result == 0, "pthread_sigmask: \(Errno(rawValue: result))")
    }

    /// Waits for the next of them, which must be blocked (sigwait). On a thread of its own.
    package static func wait(for signals: [Signal]) -> Signal {
        var set = sigset_t(signals)
        var number: CInt = 0
        let result = sigwait(&set, &number)
        precondition(result == 0, "sigwait: \(Errno(rawValue: result))")
        return Signal(rawValue: number)
    }

    /// Makes the kernel drop it for the whole process (signal SIG_IGN); of `pipe`, writing then throws
    /// `Errno.brokenPipe`.
    package static func ignore(_ ignored: Signal) { signal(ignored.rawValue, SIG_IGN) }
}

extension sigset_t {
    fileprivate init(_ signals: [Signal]) {
        self.init()
        sigemptyset(&self)
        for signal in signals {
            let result = sigaddset(&self, signal.rawValue)
            precondition(result == 0, "\(signal.rawValue) is no signal")
        }
    }
}

import Glibc

/// What is said when a signal ends the process: a trap, or the alarm of a run that goes on for ever.
enum LastWords {
    /// A C string; the one of before is not given back, as a handler may be reading it.
    nonisolated(unsafe) private static var words: UnsafeMutablePointer<CChar>?

    private static let signals = [SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGALRM]

    static func set(_ text: String) {
        words = strdup(text)
        for number in signals {
            signal(number) { number in
                if let words = LastWords.words { _ = write(1, words, strlen(words)) }
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }
}

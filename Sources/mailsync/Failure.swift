import Foundation

/// How a command ends; sysexits(3), and the table in mailsync(8).
enum ExitStatus: Int32, Sendable {
    case fine = 0
    case differences = 1
    case usage = 64
    case dataError = 65
    case unavailable = 69
    case bug = 70
    case systemError = 71
    case inputOutput = 74
    case tryAgain = 75
    case configuration = 78
}

/// Why a command could not do what it was asked: `what: where: why`, and what to do about it.
struct Failure: Error, CustomStringConvertible {
    let status: ExitStatus
    let why: String
    let hint: String?

    init(_ status: ExitStatus, _ why: String, hint: String? = nil) {
        self.status = status
        self.why = why
        self.hint = hint
    }

    var description: String { hint.map { "\(why)\nmailsync: hint: \($0)" } ?? why }
}

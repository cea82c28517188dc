import Foundation
import Linux
import Logging

// The rules of talking. What a command was asked for goes to standard output, and nothing else does. Everything else goes
// to standard error behind "mailsync: ", lower-case, without a full stop, as `what: where: why`; a line with
// "mailsync: hint: " says what to do. The daemon's log has its level in front, which systemd understands.

enum Output {
    static func print(_ text: String) { write(text + "\n", to: .output) }
    static func printRaw(_ text: String) { write(text, to: .output) }
    static func fail(_ text: String) { write("mailsync: \(text)\n", to: .error) }
    static func note(_ text: String) { write("mailsync: \(text)\n", to: .error) }

    private static func write(_ text: String, to stream: StandardStream) {
        do throws(SystemError) {
            try stream.write(plain(text, keeping: "\n"))
        } catch {
            // The reader has gone; there is nobody to tell.
        }
    }

    /// Names of files are any bytes, and a peer says what it likes: what could command the terminal, or begin a line that looks like
    /// one of ours, is shown as in `\x1B`.
    static func plain(_ text: String, keeping kept: Unicode.Scalar? = nil) -> String {
        func isOdd(_ scalar: Unicode.Scalar) -> Bool {
            scalar.properties.generalCategory == .control && scalar != kept
        }
        guard text.unicodeScalars.contains(where: isOdd) else { return text }
        return text.unicodeScalars.map { scalar in
            isOdd(scalar) ? String(format: "\\x%02X", scalar.value) : String(scalar)
        }.joined()
    }

    static func makeLogger() -> Logger { Logger(label: "mailsync") { _ in LineLogHandler() } }
}

/// One line an event, to standard error.
struct LineLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let level =
            switch event.level {
            case .trace, .debug: "<7>"
            case .info: "<6>"
            case .notice: "<5>"
            case .warning: "<4>"
            case .error: "<3>"
            case .critical: "<2>"
            }
        let isJournal = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil
        let time = isJournal ? level : Timestamp.now().iso8601 + " \(event.level): "
        try? StandardStream.error.write("\(time)mailsync: \(Output.plain("\(event.message)"))\n")  // nobody to tell
    }
}

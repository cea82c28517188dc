import Foundation
import Linux
import Replica
import Synchronization

/// What the commands say to the daemon, one JSON object on one line, and its answer likewise.
///
/// The socket is `control` in the state directory; who may write there may command the daemon.
enum ControlRequest: Codable, Sendable {
    case status
    /// The position at which all is in the log that was written before this.
    case positionNow(timeoutSeconds: Double)
    /// Whether a position was reached, `applied` or `flushed`.
    case wait(position: String, level: String, timeoutSeconds: Double)
    case promote(held: ReplicaEnd.HeldLog)
    /// Goes on after the removal brake.
    case resume
    /// Answered by many lines (`VerifyLine`), not by one.
    case verify(VerifyRequest)
    case stop
}

enum ControlAnswer: Codable, Sendable {
    case status(StatusReport)
    case position(String)
    case reached
    case notInTime(why: String)
    case done(String)
    case failed(String)
}

/// Serves requests, a thread each, until `stop`.
final class ControlServer: Sendable {
    private let path: String
    private let wake: WakeEvent
    private let answer: @Sendable (ControlRequest) async -> ControlAnswer
    private let verify: @Sendable (VerifyRequest, VerifyOutput) async -> Void
    private let isStopped = Atomic(false)

    private static let lineBytesMax = 65536
    /// From connecting until the request is there.
    private static let lineTimeMax = Duration.seconds(10)
    /// Requests in hand; who comes next waits in the kernel's queue.
    private static let connectionCountMax = 256

    init(
        path: String, verify: @escaping @Sendable (VerifyRequest, VerifyOutput) async -> Void,
        answer: @escaping @Sendable (ControlRequest) async -> ControlAnswer
    ) throws {
        self.path = path
        self.verify = verify
        self.answer = answer
        wake = try WakeEvent()
    }

    func stop() {
        isStopped.store(true, ordering: .relaxed)
        wake.signal()
    }

    func run() async throws {
        let listener = Listener(try UnixSocket.listen(path))
        try await withThrowingTaskGroup(of: Void.self) { group in
            var connectionCount = 0
            while !isStopped.load(ordering: .relaxed) {
                guard let connection = try await nextOrShortage(listener) else { continue }
                group.addTask { await self.serve(connection) }
                connectionCount += 1
                if connectionCount > Self.connectionCountMax {
                    try await group.next()
                    connectionCount -= 1
                }
            }
            group.cancelAll()
        }
    }

    private final class Listener: Sendable {
        let socket: UnixListener
        init(_ socket: consuming UnixListener) { self.socket = socket }
    }

    private final class Connection: Sendable {
        let socket: Descriptor
        init(_ socket: consuming Descriptor) { self.socket = socket }
    }

    /// Who asks waits while there are no descriptors or threads; nothing else does.
    private func nextOrShortage(_ listener: Listener) async throws -> Connection? {
        do {
            return try await next(listener)
        } catch let error as SystemError where error.isShortage || error.errno == .wouldBlock {
            try? await Task.sleep(for: .milliseconds(200))  // cut short, the next try is only earlier
            return nil
        }
    }

    private func next(_ listener: Listener) async throws -> Connection? {
        let wake = wake
        return try await Linux.Thread.run(name: "control") {
            _ = try Poller.wait([Poller.Interest(listener.socket.raw), Poller.Interest(wake.raw)])
            guard let socket = try listener.socket.accept(timeout: .seconds(10)) else { return nil }
            return Connection(socket)
        }
    }

    private func serve(_ connection: Connection) async {
        let reply: ControlAnswer
        do {
            // Never on a thread of Swift's pool: who connects and says nothing would hold it up.
            let line = try await Linux.Thread.run(name: "control-in") {
                try ControlLine.receive(
                    from: connection.socket, max: Self.lineBytesMax, before: .now() + Self.lineTimeMax)
            }
            let request = try JSONDecoder().decode(ControlRequest.self, from: Data(line))
            if case .verify(let wanted) = request {
                return await verify(
                    wanted, VerifyOutput { line in try connection.socket.send(all: try ControlLine.encode(line)) })
            }
            reply = await answer(request)
        } catch {
            reply = .failed("control: \(error)")
        }
        do {
            let line = try ControlLine.encode(reply)
            try await Linux.Thread.run(name: "control-out") { try connection.socket.send(all: line) }
        } catch {
            // Who asked has gone; there is nobody to tell.
        }
    }
}

/// Where the lines of a verification go, until nobody reads them any more.
final class VerifyOutput: Sendable {
    private let write: @Sendable (VerifyLine) throws -> Void
    private let isGone = Atomic(false)

    init(_ write: @escaping @Sendable (VerifyLine) throws -> Void) { self.write = write }

    /// The reader has gone.
    var isClosed: Bool { isGone.load(ordering: .relaxed) }

    func send(_ line: VerifyLine) {
        guard !isClosed else { return }
        do { try write(line) } catch { isGone.store(true, ordering: .relaxed) }
    }
}

/// The commands' side.
struct ControlClient {
    let path: String

    /// Of a daemon that verifies.
    private static let silenceMax = Duration.seconds(300)

    /// Throws `Failure` with `unavailable` when no daemon runs.
    func ask(_ request: ControlRequest, timeout: Duration = .seconds(10)) throws -> ControlAnswer {
        do throws(SystemError) {
            let socket = try UnixSocket.connect(path, timeout: timeout)
            return try Self.exchange(request, socket)
        } catch {
            throw error.errno == .wouldBlock
                ? Failure(.tryAgain, "the daemon did not answer within \(timeout)") : Self.failure(error)
        }
    }

    private static func failure(_ error: SystemError) -> Failure {
        switch error.errno {
        case .noEntry, .connectionRefused:
            Failure(.unavailable, "no daemon is running for this state directory", hint: "start \"mailsync run\"")
        case .accessDenied, .notPermitted:
            Failure(.systemError, "control: \(error)", hint: StateDirectory.ownerHint)
        default: Failure(.systemError, "control: \(error)")
        }
    }

    /// Asks, and gives `body` each line of the answer until it returns false.
    ///
    /// Throws `Failure` when no daemon runs, or when it goes away before the last line.
    func stream(_ request: ControlRequest, _ body: (VerifyLine) -> Bool) throws {
        let socket: Descriptor
        do throws(SystemError) { socket = try UnixSocket.connect(path, timeout: Self.silenceMax) } catch {
            throw Self.failure(error)
        }
        do {
            try socket.send(all: try ControlLine.encode(request))
            var buffer: [UInt8] = []
            while true {
                let more = try socket.receive(max: 65536)
                guard !more.isEmpty else { break }
                buffer += more
                while let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = try JSONDecoder().decode(VerifyLine.self, from: Data(buffer[..<end]))
                    buffer.removeFirst(end + 1)
                    guard body(line) else { return }
                }
            }
        } catch let error as SystemError where error.errno == .wouldBlock {
            throw Failure(
                .tryAgain, "verify: the daemon has told nothing for \(Self.silenceMax)",
                hint: "\"mailsync status\" on both ends shows whether they get on")
        } catch {
            throw Failure(.tryAgain, "verify: \(error)")
        }
        throw Failure(.tryAgain, "verify: the daemon went away before it was finished")
    }

    private static func exchange(
        _ request: ControlRequest, _ socket: borrowing Descriptor
    ) throws(SystemError) -> ControlAnswer {
        do {
            try socket.send(all: try ControlLine.encode(request))
            return try JSONDecoder().decode(
                ControlAnswer.self, from: Data(try ControlLine.receive(from: socket, max: 16 << 20)))
        } catch let error as SystemError {
            throw error
        } catch {
            return .failed("control: \(error)")
        }
    }
}

enum ControlLine {
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        Array(try JSONEncoder().encode(value)) + [UInt8(ascii: "\n")]
    }

    static func receive(
        from socket: borrowing Descriptor, max: Int, before end: MonotonicTime? = nil
    ) throws(SystemError) -> [UInt8] {
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n") {
            let more = try socket.receive(max: 65536)
            guard !more.isEmpty else { break }
            line += more
            if let end, MonotonicTime.now() > end {
                throw SystemError(call: "recv", path: "control", errno: .timedOut)
            }
            guard line.count <= max else { throw SystemError(call: "recv", path: "control", errno: .fileTooBig) }
        }
        return line
    }
}

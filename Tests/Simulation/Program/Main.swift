import Glibc

/// `mailsync-sim`: seeds, one after the other. Exit status 1 if one fails, or if a mutation is not found.
///
///     --seeds N        how many, from --first on (200, 1)
///     --first N
///     --seconds N      no new seed after so long
///     --hours N        each seed is so many simulated hours of load with audits back to back, and daemons that die
///     --mutation NAME  a fault is made on purpose: ends at the first seed that finds it; `all` is each of them
///     --transcript     all that happened in each seed
///     --twice          each seed is run twice, and must come out the same
@main
struct Main {
    static func main() {
        // Sets and dictionaries have their own order in each process, unless told.
        if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
            setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
            let words = CommandLine.arguments.map { strdup($0) } + [nil]
            execv("/proc/self/exe", words)
            perror("execv")
            exit(70)
        }
        guard let options = Options(CommandLine.arguments.dropFirst()) else {
            say("mailsync-sim [--seeds N] [--first N] [--seconds N] [--hours N] [--mutation NAME|all]")
            say("             [--transcript] [--twice]")
            say("mutations: \(Mutation.allCases.map(\.rawValue).joined(separator: " "))")
            exit(64)
        }
        Tasks.takeOver()
        exit(options.run() ? 0 : 1)
    }
}

struct Options {
    private var seeds: UInt64 = 200
    private var first: UInt64 = 1
    private var seconds: Int?
    private var hours: Int?
    private var mutations: [Mutation] = []
    private var showsTranscript = false
    private var runsTwice = false
    /// Of one length for every process.
    private let scratch = "/dev/shm/mailsync-sim-\(10_000_000 + getpid())"

    init?(_ words: some Sequence<String>) {
        var rest = Array(words)[...]
        while let word = rest.popFirst() {
            switch word {
            case "--transcript": showsTranscript = true
            case "--twice": runsTwice = true
            case "--seeds", "--first", "--seconds", "--hours":
                guard let number = rest.popFirst().flatMap({ UInt64($0) }) else { return nil }
                switch word {
                case "--seeds": seeds = number
                case "--first": first = number
                case "--hours": hours = Int(number)
                default: seconds = Int(number)
                }
            case "--mutation":
                guard let name = rest.popFirst() else { return nil }
                if name == "all" {
                    mutations = Mutation.allCases
                } else {
                    guard let mutation = Mutation(rawValue: name) else { return nil }
                    mutations = [mutation]
                }
            default: return nil
            }
        }
    }

    func run() -> Bool {
        mkdir(scratch, 0o700)
        defer { Disk.removeAll(scratch) }
        guard !mutations.isEmpty else { return runSeeds(nil) == 0 }
        var isFine = true
        for mutation in mutations {
            if runSeeds(mutation) == 0 {
                say("mutation \(mutation.rawValue): NOT FOUND in \(seeds) seeds")
                isFine = false
            }
        }
        return isFine
    }

    /// How many failed; with a mutation it ends at the first.
    private func runSeeds(_ mutation: Mutation?) -> Int {
        let start = time(nil)
        var (failed, done) = (0, 0)
        for seed in first..<first + seeds {
            if let seconds, time(nil) - start >= seconds { break }
            // A run that never ends, or traps, is a finding, too.
            alarm(UInt32(120 + 600 * (hours ?? 0)))
            LastWords.set("\nseed \(seed) ended the process\nagain: \(again(seed))\n")
            let run = Run(seed: seed, hours: hours, mutation: mutation, scratch: scratch)
            var why = run.run()
            done += 1
            if why == nil, runsTwice {
                let again = Run(seed: seed, hours: hours, mutation: mutation, scratch: scratch)
                why = again.run() ?? Self.difference(run.transcript, again.transcript)
            }
            alarm(0)
            if hours != nil { say("seed \(seed): \(run.statistics)") }
            if showsTranscript { say(run.transcript.joined(separator: "\n")) }
            guard let why else { continue }
            failed += 1
            if let mutation {
                say("mutation \(mutation.rawValue): found by seed \(seed): \(why)")
                return failed
            }
            if !showsTranscript { say(run.transcript.suffix(60).joined(separator: "\n")) }
            say("seed \(seed) failed: \(why)")
            say("again: \(again(seed))")
        }
        let took = max(1, time(nil) - start)
        say("\(done) seeds, \(failed) failed, \(done / took) a second")
        return failed
    }

    /// The command that runs this seed alone, as it is run here.
    private func again(_ seed: UInt64) -> String {
        "\(CommandLine.arguments[0]) --first \(seed) --seeds 1\(hours.map { " --hours \($0)" } ?? "") --transcript"
    }

    private static func difference(_ one: [String], _ other: [String]) -> String? {
        guard one != other else { return nil }
        let line = zip(one, other).enumerated().first { $1.0 != $1.1 }
        return "the same seed gave two runs: line \(line.map { "\($0.offset): \($0.element)" } ?? "at the end")"
    }
}

/// At once, also into a pipe.
func say(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    var done = 0
    while done < bytes.count {
        let count = bytes.withUnsafeBytes { write(1, $0.baseAddress! + done, $0.count - done) }
        guard count > 0 else { return }
        done += count
    }
}

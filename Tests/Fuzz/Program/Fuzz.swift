import CFuzzer
import Glibc

/// `mailsync-fuzz TARGET …`: libFuzzer on one decoder; what follows is libFuzzer's own (a corpus, `-max_total_time=60`).
///
/// A target is given any bytes and must come back: an error thrown is fine, a trap is a finding, and so is to need more
/// than the time and memory that libFuzzer was told to allow.
@main
struct Fuzz {
    static func main() {
        guard CommandLine.arguments.count > 1, targets[CommandLine.arguments[1]] != nil else {
            print(targets.keys.sorted().joined(separator: "\n"))
            exit(64)
        }
        let words = [CommandLine.arguments[0]] + CommandLine.arguments.dropFirst(2)
        // The driver keeps them until the process ends.
        let pointers = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: words.count + 1)
        for (index, word) in words.enumerated() { pointers[index] = strdup(word) }
        pointers[words.count] = nil
        var count = CInt(words.count)
        var list: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = pointers
        exit(LLVMFuzzerRunDriver(&count, &list) { bytes, count in Fuzz.one(bytes, count) })
    }

    private static let target: FuzzTarget = targets[CommandLine.arguments[1]] ?? { @Sendable _ in }

    private static func one(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        do {
            try target(Array(UnsafeBufferPointer(start: bytes, count: count)))
        } catch {
            // Refused, and said so: its words must be makeable, too.
            _ = "\(error)"
        }
        return 0
    }
}

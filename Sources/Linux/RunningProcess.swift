/// A process of this machine, as /proc shows it.
package struct RunningProcess: Equatable, Sendable {
    package let identifier: CInt
    /// Its command line; no words of a kernel thread.
    package let arguments: [String]

    package init(identifier: CInt, arguments: [String]) {
        self.identifier = identifier
        self.arguments = arguments
    }

    private static let argumentBytesMax = 1 << 16

    /// Those that this user may see. One that ends meanwhile is left out.
    package static func all() throws(SystemError) -> [RunningProcess] {
        var found: [RunningProcess] = []
        for entry in try Directory("/proc").entries() {
            guard let identifier = CInt(String(decoding: entry.name, as: UTF8.self)) else { continue }
            do throws(SystemError) {
                let line = try Descriptor.open("/proc/\(identifier)/cmdline", for: .reading)
                    .readAll(max: argumentBytesMax)
                found.append(RunningProcess(identifier: identifier, arguments: words(line)))
            } catch {
                // It has ended, or is none of our business.
            }
        }
        return found
    }

    /// Words that each end with a NUL.
    static func words(_ line: [UInt8]) -> [String] {
        line.isEmpty
            ? []
            : line.split(separator: 0, omittingEmptySubsequences: false).dropLast(line.last == 0 ? 1 : 0)
                .map { String(decoding: $0, as: UTF8.self) }
    }
}

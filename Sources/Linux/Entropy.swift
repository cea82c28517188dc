internal import CKernel

package enum Entropy {
    /// Random bytes that nobody can guess (getrandom). Waits only on a machine that has just started.
    package static func bytes(_ count: Int) -> [UInt8] {
        if let simulated = Simulation.kernel {
            return (0..<count).map { _ in UInt8(truncatingIfNeeded: simulated.random()) }
        }
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        bytes.withUnsafeMutableBytes { buffer in
            while done < count {
                do {
                    done += try kernel("getrandom", "entropy") {
                        ms_getrandom(buffer.baseAddress! + done, count - done)
                    }
                } catch {
                    preconditionFailure("\(error)")  // no kernel we run on is without it
                }
            }
        }
        return bytes
    }
}

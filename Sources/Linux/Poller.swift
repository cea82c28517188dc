internal import CKernel
internal import Glibc

// Waiting for a few descriptors at once (poll(2)), and how another thread ends the wait.

/// What has come true of a descriptor.
package struct Readiness: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// A read would not wait: bytes, a connection to accept, or the end.
    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The other side is gone, there may be bytes left; or an error is pending. Comes unasked.
    package static let hungUp = Readiness(rawValue: 4)
}

package enum Poller {
    /// A descriptor by its number, which must stay open, and what to wait for.
    package struct Interest: Hashable, Sendable {
        package let raw: CInt
        package let readiness: Readiness

        package init(_ raw: CInt, _ readiness: Readiness = .readable) {
            self.raw = raw
            self.readiness = readiness
        }
    }

    /// Waits until something is true of one of them, or `timeout` is over: nothing waits until then (poll).
    ///
    /// Returns for each, in order, what is true of it; all empty after the timeout. A number that isn't open is a
    /// programmer's error and traps: it may be somebody else's a moment later.
    package static func wait(_ interests: [Interest], timeout: Duration? = nil) throws(SystemError) -> [Readiness] {
        var polled = interests.map { pollfd(fd: $0.raw, events: $0.readiness.events, revents: 0) }
        let deadline = timeout.map { MonotonicTime.now() + $0 }
        if let simulated = Simulation.kernel {
            simulated.waitForEvents(until: deadline) { poll(&polled, nfds_t(polled.count), 0) > 0 }
            return polled.map { Readiness(events: $0.revents) }
        }
        // A signal starts poll anew with the time that is left.
        try kernel("poll", "\(interests.count) descriptors") {
            poll(&polled, nfds_t(polled.count), milliseconds(until: deadline))
        }
        return polled.map { found in
            precondition(found.revents & Int16(POLLNVAL) == 0, "polled descriptor \(found.fd), which is not open")
            return Readiness(events: found.revents)
        }
    }

    /// Rounded up, so that after a timeout the deadline has passed; -1, which is for ever, without one.
    private static func milliseconds(until deadline: MonotonicTime?) -> CInt {
        guard let deadline else { return -1 }
        let left = max(0, (deadline - .now()).nanosecondsClamped)
        return CInt(clamping: left / 1_000_000 + (left % 1_000_000 == 0 ? 0 : 1))
    }
}

extension Readiness {
    fileprivate var events: Int16 {
        (contains(.readable) ? Int16(POLLIN) : 0) | (contains(.writable) ? Int16(POLLOUT) : 0)
    }

    fileprivate init(events: Int16) {
        self = []
        if events & Int16(POLLIN) != 0 { insert(.readable) }
        if events & Int16(POLLOUT) != 0 { insert(.writable) }
        if events & Int16(POLLHUP | POLLERR) != 0 { insert(.hungUp) }
    }
}

/// Ends another thread's `Poller.wait`: readable from `signal` until `clear` (eventfd(2)). Any thread may call either.
package final class WakeEvent: Sendable {
    private let descriptor: Descriptor

    package init() throws(SystemError) {
        descriptor = Descriptor(owning: try kernel("eventfd", "wake event") { ms_eventfd() }, path: "wake event")
    }

    /// For `Poller`.
    package var raw: CInt { descriptor.raw }

    /// Several are as good as one.
    package func signal() {
        var one: UInt64 = 1
        do {
            try kernel("write", "wake event") { write(raw, &one, 8) }
        } catch {
            // EAGAIN is 2^64 signals that nobody cleared: it is signalled.
            precondition(error.errno == .wouldBlock, "\(error)")
        }
    }

    /// Call it before looking at what the signal was about, so that a later signal isn't lost.
    package func clear() {
        var count: UInt64 = 0
        do {
            try kernel("read", "wake event") { read(raw, &count, 8) }
        } catch {
            // EAGAIN: it was not signalled.
            precondition(error.errno == .wouldBlock, "\(error)")
        }
    }
}

import Formats
import Store

/// Which names are one file here, for each audit that is under way; pure.
struct AuditLedgers {
    private var ledgers: [UInt64: LinkLedger] = [:]

    /// An operator's, the two of the scrub, and one to spare; the oldest goes for a new one.
    private static let countMax = 4

    mutating func note(_ listing: DirectoryListing, _ audit: UInt64) {
        if ledgers[audit] == nil, ledgers.count >= Self.countMax, let oldest = ledgers.keys.min() {
            ledgers[oldest] = nil
        }
        ledgers[audit, default: LinkLedger()].note(listing.directory, listing.manyNamed)
    }

    /// What was gathered, which is forgotten: it is asked for at an audit's end.
    mutating func take(_ audit: UInt64) -> LinkLedger? { ledgers.removeValue(forKey: audit) }
}

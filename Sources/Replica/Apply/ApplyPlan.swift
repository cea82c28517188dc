import Formats
import Linux
import Store

/// The order in which a batch is put into a store: what is referred to before what refers to it, removals last.
///
/// A primary sends its records in this order; here it is made sure of.
enum ApplyPlan {
    static func ordered(_ records: [Record], _ layout: StoreLayout) -> [Record] {
        let ranked = records.enumerated().map { (rank: rank($1, layout), place: $0, record: $1) }
        if Simulation.isMutated(.indexFirst) { return ranked.sorted { $0.rank > $1.rank }.map(\.record) }
        return ranked.sorted { ($0.rank, $0.place) < ($1.rank, $1.place) }.map(\.record)
    }

    private static func rank(_ record: Record, _ layout: StoreLayout) -> Int {
        switch record.change {
        case .keep: -1
        case .check: .max
        case .remove: removal
        case .directory: ApplyRank.directory.rawValue
        case .whole, .extents, .delta, .part, .assembled, .link, .symlink, .metadata:
            layout.applyRank(of: record.path).rawValue
        }
    }

    private static let removal = Int.max - 1
}

import Formats
import Store

/// Refuses to write over what is no copy of ours.
package struct SeedRefusal: Error, CustomStringConvertible {
    let layout: StoreLayout

    package var description: String {
        "seed: \(layout.root(.configuration)?.path ?? "the store"): there is a store here that is no earlier copy; "
            + "to seed over it, say --overwrite (what the primary does not have is moved to the quarantine)"
    }
}

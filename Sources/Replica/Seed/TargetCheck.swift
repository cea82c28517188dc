import Formats
import Linux
import Store

/// Refuses to write over what is no copy of ours.
package struct SeedRefusal: Error, CustomStringConvertible {
    let layout: StoreLayout

    package var description: String {
        "seed: \(layout.root(.configuration)?.path ?? "the store"): there is a store here that is no earlier copy; "
            + "to seed over it, say --overwrite (what the primary does not have is moved to the quarantine)"
    }
}

/// Whether there is anything in a target that a seed would overwrite.
struct TargetCheck {
    let layout: StoreLayout
    let writer: StoreWriter

    func isEmpty() throws -> Bool {
        for root in layout.roots where try !isEmpty(StorePath(root: root.name)) { return false }
        return true
    }

    private func isEmpty(_ directory: StorePath) throws -> Bool {
        for entry in try writer.entries(of: directory) ?? [] where StorePath.isName(entry.name) {
            let path = directory.appending(entry.name)
            guard layout.role(of: path).shipping == .always else { continue }
            guard try entry.kind ?? writer.status(of: path)?.kind == .directory, try isEmpty(path) else { return false }
        }
        return true
    }
}

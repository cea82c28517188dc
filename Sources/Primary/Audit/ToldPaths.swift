import Formats

/// What events told of: paths, and directories with all that is in them.
struct ToldPaths {
    private var names: Set<StorePath> = []
    private var directories: Set<StorePath> = []
    private var isAll = false

    /// But for `except`, which were marked by others than events.
    mutating func insert(_ dirt: DirtySet.Dirt, except: Set<StorePath> = []) {
        switch dirt.names {
        case .all: directories.insert(dirt.directory)
        case .some(let some):
            for name in some {
                let path = dirt.directory.appending(name)
                if !except.contains(path) { names.insert(path) }
            }
        }
    }

    mutating func insert(_ hint: Hint) {
        switch hint {
        case .name(let path): names.insert(path)
        case .directory(let directory): directories.insert(directory)
        case .overflow: isAll = true
        case .cookie, .released: break
        }
    }

    func contains(_ path: StorePath) -> Bool {
        isAll || names.contains(path) || directories.contains(path) || directories.contains(path.parent)
    }
}

package import Formats

/// What the names of one directory are to Cyrus, for who asks of all of them: of messages the answer is found once.
///
/// What a name is follows from its path alone (`FileRole`), and but for their UIDs all messages of a directory are alike;
/// where the configuration names something in that very directory, each name is asked about.
package struct DirectoryRoles {
    private let roots: StoreRoots
    package let directory: StorePath
    private let holdsMessages: Bool

    package init(_ directory: StorePath, _ roots: StoreRoots) {
        self.directory = directory
        self.roots = roots
        let oneOfThem = directory.appending("1.")
        holdsMessages =
            RootKind(directory.root).holdsMessages && roots.layout.isMessage(oneOfThem)
            && !roots.namesAny(in: directory)
    }

    /// Nothing for what does not travel.
    package func role(of name: [UInt8]) -> FileRole? {
        if holdsMessages, let uid = FileRole.messageUID(name[...]) { return .message(uid: uid) }
        let path = directory.appending(name)
        let role = roots.layout.role(of: path)
        return roots.isShipped(path, as: role) ? role : nil
    }
}

extension StoreRoots {
    /// Whether something in `directory` has a meaning of its own by the configuration.
    fileprivate func namesAny(in directory: StorePath) -> Bool {
        let rules = layout.rules
        return nested.contains { $0.parent == directory } || rules.runtime.contains { $0.parent == directory }
            || rules.relocated.keys.contains { $0.parent == directory }
    }
}

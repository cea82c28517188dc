import Formats
import Linux
import Store
import Testing

@Suite struct DirectoryRolesTests {
    private let copy: StoreCopy

    init() throws { copy = try StoreCopy() }

    private func roots(_ more: String = "") throws -> StoreRoots {
        let text = """
            configdirectory: \(copy.path)/conf
            partition-default: \(copy.path)/mail
            mboxname_lockpath: \(copy.path)/lock
            hashimapspool: yes
            \(more)

            """
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        return try StoreRoots(try StoreLayout(conf))
    }

    private static let names = [
        "1.", "2.", "9.", "4294967295.", "4294967296.", "99999999999.", "0.", "01.", "1", "1.x", "a.", "cyrus.index",
        "cyrus.header",
        "cyrus.index.NEW", "cyrus.squat", "cyrus.dav", "stage.", "sync.", "uuid", "xapian.1", ".mailsync",
        ".mailsync-1", "user",
    ].map { Array($0.utf8) }

    private static let directories = [
        StoreCopy.inbox, StorePath(RootName("partition-default"), "stage."),
        StorePath(root: RootName("partition-default")),
        StorePath(RootName("partition-default"), "uuid"), StorePath(root: .configuration),
        StorePath(.configuration, "quota"), StorePath(.configuration, "user/uuid/l/j/ljgd9k8h3vff2hiubbtt9vds"),
    ]

    private func expectAlike(_ roots: StoreRoots, sourceLocation: SourceLocation = #_sourceLocation) {
        for directory in Self.directories {
            let roles = DirectoryRoles(directory, roots)
            for name in Self.names {
                let path = directory.appending(name)
                let role = roots.isShipped(path) ? roots.layout.role(of: path) : nil
                #expect(roles.role(of: name) == role, "\(path)", sourceLocation: sourceLocation)
            }
        }
    }

    @Test func `a name in a directory is what its path is`() throws { expectAlike(try roots()) }

    @Test func `so it is where the configuration names what looks like a message`() throws {
        let there = "\(copy.path)/mail/uuid/l/j/ljgd9k8h3vff2hiubbtt9vds"
        let runtime = try roots("temp_path: \(there)/2.")
        #expect(DirectoryRoles(StoreCopy.inbox, runtime).role(of: Array("2.".utf8)) == nil)
        expectAlike(runtime)
        let relocated = try roots("annotation_db_path: \(there)/2.")
        #expect(DirectoryRoles(StoreCopy.inbox, relocated).role(of: Array("2.".utf8)) == .database(.twoskip))
        expectAlike(relocated)
        _ = try Directory.make(there + "/9.")
        expectAlike(try roots("partition-other: \(there)/9."))
    }
}

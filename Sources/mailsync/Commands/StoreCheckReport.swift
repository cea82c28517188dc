import Formats
import Linux
import Store

/// `mailsync check --store`: this end's store by itself, as Cyrus would understand it.
struct StoreCheckReport {
    let roots: StoreRoots
    let check: CyrusCheck
    private(set) var mailboxCount = 0
    private(set) var findingCount = 0
    private(set) var busyCount = 0

    init(_ configuration: Configuration) throws {
        let layout = try configuration.layout()
        roots = try StoreRoots(layout)
        let locks = CyrusLocks(directory: configuration.lockRoot(of: layout), rules: layout.rules.paths)
        check = CyrusCheck(roots: roots, standing: .live(locks))
    }

    /// Prints findings as they are made.
    mutating func run() throws(SystemError) {
        for root in roots.names where RootKind(root).holdsMailboxes {
            var places: [StorePath] = []
            // The check of the store tells what may not be read.
            _ = try StoreWalk(roots: roots).files(below: StorePath(root: root)) { (path) throws(SystemError) in
                if path.name.elementsEqual("cyrus.index".utf8) { places.append(path.parent) }
            }
            for directory in places.sorted() {
                mailboxCount += 1
                tell(try check.mailbox(directory))
            }
        }
        tell(try check.store())
        Output.print("\(mailboxCount) mailboxes, \(findingCount) findings, \(busyCount) not looked at")
    }

    private mutating func tell(_ verdict: CyrusVerdict) {
        for finding in verdict.findings {
            Output.print("\(finding.kind.isAlarm ? "" : "note: ")\(finding.kind.rawValue): \(finding)")
        }
        for path in verdict.busy { Output.print("busy: \(path): written whenever it was looked at, or not to be read") }
        findingCount += verdict.findings.count { $0.kind.isAlarm }
        busyCount += verdict.busy.count
    }
}

import Linux
import Testing

@testable import Store

@Suite struct CyrusMasterTests {
    @Test(arguments: [
        (["/usr/sbin/cyrmaster", "-l", "32", "-C", "/etc/imapd.conf"], "/etc/imapd.conf"),
        (["/usr/lib/cyrus/bin/master", "-C/a/imapd.conf", "-d"], "/a/imapd.conf"),
        (["/usr/cyrus/bin/master", "-d"], "/etc/imapd.conf"),
    ]) func `a master has the configuration that it was told`(line: [String], configuration: String) {
        #expect(CyrusMaster.configuration(of: line) == configuration)
    }

    @Test(arguments: [
        [], ["/usr/lib/postfix/sbin/master", "-w"], ["mastermind", "-C", "/etc/imapd.conf"],
        ["imapd", "-C", "/etc/imapd.conf"],
        ["vi", "/usr/sbin/cyrmaster"], ["cyrmaster", "-C"],
    ]) func `other processes are none`(line: [String]) {
        #expect(CyrusMaster.configuration(of: line) == nil)
    }

    @Test func `the master of this store is found among others`() {
        let processes = [
            RunningProcess(identifier: 7, arguments: ["master", "-C", "/nowhere/other.conf"]),
            RunningProcess(identifier: 8, arguments: ["sh", "-c", "/nowhere/imapd.conf"]),
            RunningProcess(identifier: 9, arguments: ["cyrmaster", "-C", "/nowhere/imapd.conf"]),
        ]
        let found = CyrusMaster.running(with: "/nowhere/imapd.conf", among: processes)
        #expect(found?.identifier == 9)
        #expect(CyrusMaster.running(with: "/nowhere/none.conf", among: processes) == nil)
    }
}

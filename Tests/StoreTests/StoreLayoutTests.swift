import Formats
import Foundation
import Store
import Testing

@Suite struct StoreLayoutTests {
    private func layout(_ text: String) throws -> StoreLayout {
        let conf = try ImapdConf.parse(text, named: "imapd.conf") { (_: String) throws(IncludeFailure) in
            throw IncludeFailure("none")
        }
        return try StoreLayout(conf)
    }

    private func refusals(_ text: String) -> [LayoutFinding] {
        do { _ = try layout(text) } catch let refusal as LayoutRefusal { return refusal.findings } catch {
            Issue.record(error)
        }
        return []
    }

    /// What the package cyrus-imapd of Debian 12 puts into /etc/imapd.conf.
    private let debian = """
        configdirectory: /var/lib/cyrus
        proc_path: /run/cyrus/proc
        mboxname_lockpath: /run/cyrus/lock
        defaultpartition: default
        partition-default: /var/spool/cyrus/mail
        partition-news: /var/spool/cyrus/news
        newsspool: /var/spool/news
        altnamespace: no
        unixhierarchysep: no
        sieveusehomedir: false
        sievedir: /var/spool/sieve
        hashimapspool: true
        lmtpsocket: /run/cyrus/socket/lmtp

        """

    private func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test func `Debian's own configuration`() throws {
        let layout = try layout(debian)
        #expect(
            layout.roots.map(\.path) == [
                "/var/lib/cyrus", "/var/spool/cyrus/mail", "/var/spool/cyrus/news", "/var/spool/sieve",
            ])
        #expect(
            layout.roots.map(\.name.name) == ["configdirectory", "partition-default", "partition-news", "sievedir"])
        #expect(layout.lockRoot == "/run/cyrus/lock")
        #expect(layout.hierarchySeparator == .dot)
        #expect(layout.warnings.isEmpty)
        #expect(layout.partitions == ["default", "news"])
        #expect(layout.rules.engines == DatabaseEngines())
        #expect(layout.rules.runtime.isEmpty)
        #expect(layout.userLock(utf8("alice")) == utf8("/run/cyrus/lock/q/*U*alice.lock"))
        #expect(layout.mailboxLock(uniqueID: utf8("wwcn")) == utf8("/run/cyrus/lock/w/wwcn.lock"))
    }

    @Test(arguments: [
        ("hashimapspool: no", "hashimapspool"), ("fulldirhash: yes", "fulldirhash"),
        ("virtdomains: userid", "virtdomains"), ("deletedprefix: GONE", "deletedprefix"),
        ("mboxlist_db_path: /var/lib/cyrus/m.db", "mboxlist_db_path"),
        ("metadir-index-default: /meta", "metapartition_files: annotations of partition-default"),
        (
            "metapartition_files: header\nmetapartition-default: /meta",
            "metapartition_files: header of partition-default"
        ),
        ("partition-more: /var/spool/cyrus/mail", "metapartition_files: annotations of partition-more"),
        ("quota_db: twoskip", "quota_db"),
        ("unixhierarchysep: yes", "unixhierarchysep"),
    ])
    func `ends that would look for files in different places`(_ option: String, _ expected: String) throws {
        let name = option.prefix { $0 != ":" }
        let lines = debian.split(separator: "\n").filter { !$0.hasPrefix(name) }
        let more = option.hasPrefix("partition-more") ? "" : "partition-more: /more\n"
        let other = try layout(lines.joined(separator: "\n") + "\n" + more + option + "\n")
        let apart = try layout(debian + "partition-more: /more\n").naming
        let difference = apart.difference(from: other.naming)
        #expect(difference?.option == expected)
        #expect(difference?.here != difference?.there)
    }

    @Test(arguments: [
        "", "partition-more: /more\nmetadir-index-more: /meta\n", "archivepartition-news: /slow\n",
        "metapartition_files: squat expunge\nmetapartition-default: /meta\n",
        "fulldirhash: no\nvirtdomains: off\ndeletedprefix: DELETED\nmboxlist_db: twoskip\nquota_db: quotalegacy\n",
        "defaultdomain: x.org\n",
        "mboxlist_db_path: /srv/lib/cyrus/mailboxes.db\n", "sync_host: mail9\n",
    ])
    func `ends that keep the same files in other directories`(_ more: String) throws {
        let other = try layout(debian.replacingOccurrences(of: "/var/", with: "/srv/") + more)
        #expect(try layout(debian).naming.difference(from: other.naming) == nil)
    }

    @Test(arguments: ["partition-more: /more", "archivepartition-default: /slow"])
    func `a replica has every partition of the primary's`(_ more: String) throws {
        let primary = try layout(debian + more + "\n").naming
        let difference = try #require(primary.difference(from: try layout(debian).naming))
        #expect(more.hasPrefix(difference.option + ":"))
        #expect(difference.there == "none")
    }

    @Test func `a path belongs to the innermost root and a walk passes inner roots by`() throws {
        let layout = try layout(
            "configdirectory: /var/lib/imap/\npartition-a: /var/lib/imap/spool\nsievedir: {configdirectory}sieve\n")
        #expect(layout.root(.sieve)?.path == "/var/lib/imap/sieve")
        #expect(layout.storePath(of: utf8("/var/lib/imap/sieve/a/x.bc")) == StorePath(.sieve, "a/x.bc"))
        #expect(layout.storePath(of: utf8("/var/lib/imap/spool")) == StorePath(root: RootName("partition-a")))
        #expect(layout.storePath(of: utf8("/var/lib/imap/spooler")) == StorePath(.configuration, "spooler"))
        #expect(layout.storePath(of: utf8("/var/lib/imapx")) == nil)
        #expect(
            Set(layout.nestedRoots(in: .configuration)) == [
                StorePath(.configuration, "sieve"), StorePath(.configuration, "spool"),
            ])
        #expect(layout.nestedRoots(in: .sieve).isEmpty)
        #expect(layout.absolutePath(of: StorePath(.sieve, "a/x.bc")) == utf8("/var/lib/imap/sieve/a/x.bc"))
        #expect(layout.absolutePath(of: StorePath(root: .configuration)) == utf8("/var/lib/imap"))
        #expect(layout.absolutePath(of: StorePath(RootName("partition-z"), "x")) == nil)
        #expect(layout.lockRoot == "/var/lib/imap/lock")
    }

    @Test func `what is missing or wrong is refused, all of it, with its place`() {
        #expect(refusals("admins: x\n").map(\.what) == ["configdirectory", "partition-default"])
        let found = refusals(
            "configdirectory: /c\npartition-a: relative\nsievedir: /s/../t\nmboxlist_db: twom\nquota_db: sql\n")
        #expect(found.map(\.what) == ["partition-a", "partition-default", "sievedir", "mboxlist_db", "quota_db"])
        #expect(
            found[3].description
                == "mboxlist_db: imapd.conf: line 4: twom writes through memory maps, which the kernel's change notices don't show"
        )
        #expect(refusals("configdirectory: /\npartition-a: /p\n").map(\.what).contains("configdirectory"))
        #expect(
            refusals("configdirectory: /c\npartition-a: /p\nhashimapspool: maybe\n").map(\.what) == ["hashimapspool"])
    }

    @Test func `a database outside the store is refused, a cache is not`() throws {
        let base = "configdirectory: /c\npartition-a: /p\nsievedir: /s\n"
        for option in ["mboxlist_db_path", "annotation_db_path", "duplicate_db_path", "quota_db_path"] {
            #expect(refusals(base + "\(option): /elsewhere/x.db\n").map(\.what) == [option])
        }
        let layout = try layout(
            base
                + "statuscache_db_path: /run/status.db\ntls_sessions_db_path: /c/tls/s.db\nmboxlist_db_path: /c/big/boxes.db\nstatuscache_db: twom\n"
        )
        #expect(layout.role(of: StorePath(.configuration, "big/boxes.db")) == .database(.twoskip))
        #expect(layout.applyRank(of: StorePath(.configuration, "big/boxes.db")) == .mailboxes)
        #expect(layout.role(of: StorePath(.configuration, "tls/s.db")) == .runtime)
    }

    @Test func `engines are those configured`() throws {
        let layout = try layout(
            "configdirectory: /c\npartition-a: /p\nmboxlist_db: skiplist\nconversations_db: twoskip\nsubscription_db: twoskip\nquota_db: twoskip\nquota_db_path: /c/quotas.db\n"
        )
        #expect(layout.role(of: StorePath(.configuration, "mailboxes.db")) == .database(.skiplist))
        #expect(layout.role(of: StorePath(.configuration, "user/a/alice.sub")) == .database(.twoskip))
        #expect(layout.role(of: StorePath(.configuration, "quotas.db")) == .database(.twoskip))
        #expect(layout.role(of: StorePath(.configuration, "quota/a/user.alice")) == .database(.quota))
    }

    @Test func `what runs and what is searched is no state wherever it is`() throws {
        let layout = try layout(
            "configdirectory: /c\npartition-a: /p\nproc_path: /c/run/proc\nmboxname_lockpath: /c/run/lock\nidlesocket: {configdirectory}/s/idle\nt1searchpartition-a: /p/search\nbackuppartition-x: /p/bak\ntemp_path: /tmp\n"
        )
        for path in ["run/proc/1", "run/lock/q/x.lock", "s/idle"] {
            #expect(layout.role(of: StorePath(.configuration, path)) == .runtime)
        }
        #expect(layout.role(of: StorePath(RootName("partition-a"), "search/x")) == .runtime)
        #expect(layout.role(of: StorePath(RootName("partition-a"), "bak")) == .runtime)
        #expect(layout.lockRoot == "/c/run/lock")
    }

    @Test func `two options for one directory are one root`() throws {
        let layout = try layout("configdirectory: /c\npartition-a: /p\narchivepartition-a: /p/\nsievedir: /s\n")
        #expect(layout.aliases == [RootName("archivepartition-a"): RootName("partition-a")])
        #expect(layout.roots.map(\.path) == ["/c", "/p", "/s"])
        #expect(layout.warnings.map(\.what) == ["archivepartition-a"])
        #expect(layout.root(ofMessages: .archive, partition: "a") == RootName("partition-a"))
    }

    @Test func `metadata go where Cyrus puts them`() throws {
        let layout = try layout(
            "configdirectory: /c\npartition-a: /p\npartition-b: /q\nmetapartition-a: /m\nmetapartition_files: header index\nmetadir-cache-a: /k\narchivepartition-a: /z\n"
        )
        let roots = StoreLayout.MetaFile.allCases.map { layout.root(of: $0, partition: "a")?.name }
        #expect(
            roots == [
                "metapartition-a", "metapartition-a", "metadir-cache-a", "partition-a", "partition-a", "partition-a",
                "partition-a", "archivepartition-a",
            ])
        #expect(layout.root(of: .archiveCache, partition: "b") == RootName("partition-b"))
        #expect(layout.root(of: .index, partition: "b") == RootName("partition-b"))
        #expect(layout.root(of: .index, partition: "c") == nil)
        #expect(layout.root(ofMessages: .archive, partition: "a") == RootName("archivepartition-a"))
        #expect(layout.root(ofMessages: .archive, partition: "b") == RootName("partition-b"))
        #expect(
            layout.mailboxRoots(partition: "a").map(\.name) == [
                "archivepartition-a", "metadir-cache-a", "metapartition-a", "partition-a",
            ])
        #expect(StoreLayout.partition(of: RootName("metadir-cache-a")) == "a")
        #expect(StoreLayout.partition(of: .sieve) == nil)
    }

    @Test func `annotations go where the index's directory points`() throws {
        let layout = try layout("configdirectory: /c\npartition-a: /p\nmetadir-index-a: /i\n")
        #expect(layout.root(of: .annotations, partition: "a") == RootName("metadir-index-a"))
    }

    @Test func `sieve scripts at home are told, a directory nobody gave may be missing`() throws {
        let home = try layout("configdirectory: /c\npartition-a: /p\nsieveusehomedir: yes\n")
        #expect(home.root(.sieve) == nil && home.warnings.map(\.what) == ["sieveusehomedir"])
        let unset = try layout("configdirectory: /c\npartition-a: /p\n")
        #expect(unset.root(.sieve) == StoreLayout.Root(name: .sieve, path: "/usr/sieve", origin: .builtIn))
    }

    @Test func `options given twice are told`() throws {
        let layout = try layout("configdirectory: /c\npartition-a: /p\nsievedir: /s\npartition-a: /q\n")
        #expect(layout.root(RootName("partition-a"))?.path == "/q")
        #expect(layout.warnings.map(\.place) == ["imapd.conf: line 2"])
    }

    @Test func `rules follow from the options`() throws {
        let layout = try layout(
            "configdirectory: /c\npartition-a: /p\nsievedir: /s\nhashimapspool: yes\nfulldirhash: on\nvirtdomains: userid\ndefaultdomain: lab\ndeletedprefix: GONE\n"
        )
        #expect(
            layout.rules.paths
                == PathRules(
                    spoolHash: .hashed, letter: .ofWholeName, domains: .virtual, deletedPrefix: utf8("GONE"),
                    defaultDomain: utf8("lab")))
        #expect(layout.hierarchySeparator == .slash)
        #expect(layout.unit(of: StorePath(.configuration, "quota/L/user.alice")) == .quota(root: utf8("user.alice")))
    }
}

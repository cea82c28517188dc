package import Formats

extension StoreLayout {
    /// What both ends' imapd.conf must agree in, so that a Cyrus at one finds what a Cyrus at the other wrote, under the name it
    /// had there. Where the roots are, each end says for itself.
    package var naming: NamingRules {
        let paths = rules.paths
        var values = [
            "hashimapspool": paths.spoolHash == .hashed ? "yes" : "no",
            "fulldirhash": paths.letter == .ofWholeName ? "yes" : "no",
            "virtdomains": paths.domains == .virtual ? "on" : "off",
            "unixhierarchysep": hierarchySeparator == .slash ? "yes" : "no",
            "deletedprefix": String(decoding: paths.deletedPrefix, as: UTF8.self),
            "quota_db": rules.engines[.quota] == .quota ? "quotalegacy" : "a database",
        ]
        if paths.domains == .virtual, let domain = paths.defaultDomain {
            values["defaultdomain"] = String(decoding: domain, as: UTF8.self)
        }
        for database in CyrusDatabase.allCases where !database.isRuntime && database.fileName != nil {
            values["\(database.option)_path"] = path(of: database).description
        }
        for partition in partitions + aliasedPartitions { place(partition, in: &values) }
        return NamingRules(values)
    }

    private func place(_ partition: String, in values: inout [String: String]) {
        values["partition-\(partition)"] = root(ofMessages: .spool, partition: partition)?.name
        // Of the others nothing travels, or there is nothing in 3.6.
        for file in [MetaFile.header, .index, .cache, .annotations] {
            values["metapartition_files: \(file.rawValue) of partition-\(partition)"] =
                root(of: file, partition: partition)?.name
        }
        guard root(RootName("archivepartition-\(partition)")) != nil else { return }
        values["archivepartition-\(partition)"] = root(ofMessages: .archive, partition: partition)?.name
        values["metapartition_files: archivecache of partition-\(partition)"] =
            root(of: .archiveCache, partition: partition)?.name
    }

    private var aliasedPartitions: [String] {
        aliases.keys.filter { RootKind($0) == .partition }.compactMap(Self.partition(of:))
    }
}

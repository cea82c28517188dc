package import Formats

extension StoreLayout {
    /// What both ends' imapd.conf must agree in, so that a Cyrus at one finds what a Cyrus at the other wrote. Where the
    /// roots are, each end says for itself.
    package var naming: NamingRules {
        let paths = rules.paths
        var values = [
            "hashimapspool": paths.spoolHash == .hashed ? "yes" : "no",
            "fulldirhash": paths.letter == .ofWholeName ? "yes" : "no",
            "virtdomains": paths.domains == .virtual ? "on" : "off",
            "deletedprefix": String(decoding: paths.deletedPrefix, as: UTF8.self),
        ]
        if paths.domains == .virtual, let domain = paths.defaultDomain {
            values["defaultdomain"] = String(decoding: domain, as: UTF8.self)
        }
        for database in CyrusDatabase.allCases where !database.isRuntime && database.fileName != nil {
            values["\(database.option)_path"] = path(of: database).description
        }
        for partition in partitions {
            for file in MetaFile.allCases {
                values["the place of \(file.rawValue) of partition-\(partition)"] =
                    root(of: file, partition: partition)?.name
            }
            values["the place of archived messages of partition-\(partition)"] =
                root(ofMessages: .archive, partition: partition)?.name
        }
        return NamingRules(values)
    }
}

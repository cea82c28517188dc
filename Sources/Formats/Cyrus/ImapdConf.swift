/// imapd.conf: what Cyrus was told.
///
/// Reads the text; where a store is follows from it in `StoreLayout`.
package struct ImapdConf: Sendable {
    package let file: KeyValueFile

    package init(_ file: KeyValueFile) { self.file = file }

    /// `include` gives the text of a file named by `@include`; `name` is used in messages.
    package static func parse(
        _ text: String, named name: String, include: (String) throws(IncludeFailure) -> String
    ) throws(ConfigurationError) -> ImapdConf {
        ImapdConf(try KeyValueFile.parse(text, named: name, include: include))
    }

    package subscript(key: String) -> String? { file[key] }

    package func flag(_ key: String) throws(ConfigurationError) -> Bool? { try file.flag(key) }

    /// An option that Cyrus knows by name: `{configdirectory}` at its beginning is replaced (config_read), which
    /// it isn't in names of one's own such as `partition-x`.
    package func path(_ key: String) -> String? {
        guard let value = file[key] else { return nil }
        let placeholder = "{configdirectory}"
        guard key != "configdirectory", value.lowercased().hasPrefix(placeholder) else { return value }
        return (file["configdirectory"] ?? "") + value.dropFirst(placeholder.count)
    }
}

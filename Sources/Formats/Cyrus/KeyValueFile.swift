/// A file of `key: value` lines: imapd.conf, and mailsync.conf in the same form.
///
///     # a comment; leading blanks are allowed on any line
///     key: value                letters of the key in either case, value up to the end of the line, trimmed
///     key: one \                a backslash at the end of a line joins the next one, with no blank between
///       two
///     @include: /path           the lines of that file, here
///
/// As lib/libconfig.c (config_read_file) reads it: a key is letters, digits, `-` and `_`; an empty value, a line
/// without a colon, an unknown `@` directive, and a file included twice are errors.
package struct KeyValueFile: Sendable {
    /// In the order of the files.
    package private(set) var entries: [Entry]
    private var latest: [String: Int]

    package struct Entry: Equatable, Sendable {
        /// Lower case.
        package let key: String
        package let value: String
        package let source: Source

        package init(key: String, value: String, source: Source) {
            self.key = key
            self.value = value
            self.source = source
        }
    }

    /// A line of a file, the first one of a continued line; lines count from 1.
    package struct Source: Equatable, Sendable, CustomStringConvertible {
        package let file: String
        package let line: Int

        package init(file: String, line: Int) {
            self.file = file
            self.line = line
        }

        package var description: String { "\(file): line \(line)" }
    }

    package init(_ entries: [Entry] = []) {
        self.entries = []
        latest = [:]
        for entry in entries { append(entry) }
    }

    package mutating func append(_ entry: Entry) {
        latest[entry.key] = entries.count
        entries.append(entry)
    }

    /// The last entry of that key, which must be in lower case.
    package func entry(_ key: String) -> Entry? { latest[key].map { entries[$0] } }

    package subscript(key: String) -> String? { entry(key)?.value }

    /// Entries that a later one of the same key replaced. Cyrus refuses to start with these.
    package var overridden: [Entry] {
        entries.enumerated().compactMap { latest[$0.element.key] == $0.offset ? nil : $0.element }
    }

    /// Entries in force whose key begins with `prefix`, sorted by key.
    package func entries(prefix: String) -> [Entry] {
        latest.keys.filter { $0.hasPrefix(prefix) && $0.count > prefix.count }.sorted().compactMap { entry($0) }
    }
}

/// Why a configuration could not be read. The text says where.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    package let source: KeyValueFile.Source
    package let why: String

    package init(_ source: KeyValueFile.Source, _ why: String) {
        self.source = source
        self.why = why
    }

    package var description: String { "\(source): \(why)" }
}

/// Why a file named by `@include` could not be had; the caller's words.
package struct IncludeFailure: Error, Equatable {
    package let why: String
    package init(_ why: String) { self.why = why }
}

extension KeyValueFile {
    /// Reads `text`, which came from the file `name`; `include` gives the text of a file that it names.
    package static func parse(
        _ text: String, named name: String, include: (String) throws(IncludeFailure) -> String
    ) throws(ConfigurationError) -> KeyValueFile {
        var file = KeyValueFile()
        var seen: Set<String> = []
        try file.read(text, named: name, seen: &seen, include: include)
        return file
    }

    /// The same for a file that may include no other.
    package static func parse(_ text: String, named name: String) throws(ConfigurationError) -> KeyValueFile {
        try parse(text, named: name) { (_) throws(IncludeFailure) in throw IncludeFailure("not allowed here") }
    }

    private mutating func read(
        _ text: String, named name: String, seen: inout Set<String>,
        include: (String) throws(IncludeFailure) -> String
    ) throws(ConfigurationError) {
        seen.insert(name)
        for (line, content) in Self.logicalLines(text) {
            let source = Source(file: name, line: line)
            guard let entry = try Self.entry(content, at: source) else { continue }
            guard entry.key.hasPrefix("@") else {
                append(entry)
                continue
            }
            guard entry.key == "@include" else { throw ConfigurationError(source, "no directive: \(entry.key)") }
            guard !seen.contains(entry.value) else {
                throw ConfigurationError(source, "included twice: \(entry.value)")
            }
            let included: String
            do { included = try include(entry.value) } catch {
                throw ConfigurationError(source, "cannot include \(entry.value): \(error.why)")
            }
            try read(included, named: entry.value, seen: &seen, include: include)
        }
    }

    /// Lines with their continuations joined to them, numbered by the first.
    private static func logicalLines(_ text: String) -> [(Int, [UInt8])] {
        var lines: [(Int, [UInt8])] = []
        var pending: [UInt8] = []
        var first = 1
        for (index, line) in text.utf8.split(separator: newline, omittingEmptySubsequences: false).enumerated() {
            if pending.isEmpty { first = index + 1 }
            pending += line
            if pending.last == UInt8(ascii: "\\") {
                pending.removeLast()
                continue
            }
            lines.append((first, pending))
            pending = []
        }
        if !pending.isEmpty { lines.append((first, pending)) }
        return lines
    }

    /// Nothing for a comment or an empty line.
    private static func entry(_ line: [UInt8], at source: Source) throws(ConfigurationError) -> Entry? {
        let rest = line.drop(while: isBlank)
        guard let first = rest.first, first != UInt8(ascii: "#") else { return nil }
        let isDirective = first == UInt8(ascii: "@")
        let name = (isDirective ? rest.dropFirst() : rest).prefix(while: isKeyByte)
        guard !name.isEmpty, name.endIndex < rest.endIndex, rest[name.endIndex] == UInt8(ascii: ":") else {
            throw ConfigurationError(source, "no option name: \(excerpt(rest))")
        }
        let key = (isDirective ? "@" : "") + String(decoding: name, as: UTF8.self).lowercased()
        var value = rest[(name.endIndex + 1)...].drop(while: isBlank)
        while let last = value.last, isBlank(last) { value.removeLast() }
        guard !value.isEmpty else { throw ConfigurationError(source, "\(key): empty value") }
        return Entry(key: key, value: String(decoding: value, as: UTF8.self), source: source)
    }

    private static let newline = UInt8(ascii: "\n")

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

    /// Cyrus has no dots in its names; mailsync.conf has, for several peers.
    private static func isKeyByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
        default: false
        }
    }

    private static func excerpt(_ line: ArraySlice<UInt8>) -> String {
        String(decoding: line.prefix(40), as: UTF8.self)
    }
}

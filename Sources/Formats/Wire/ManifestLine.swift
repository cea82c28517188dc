package import Digests

/// One name of a store, as a line of a manifest:
///
///     f MODE BYTES MTIME OWNER GROUP SHA-256 ROOT/PATH      a file
///     d MODE - - OWNER GROUP - ROOT/PATH                     a directory
///     l - - - OWNER GROUP SHA-256 ROOT/PATH                  a symbolic link, and its target's hash
///
/// Fields stand apart by one blank. MODE is octal, MTIME nanoseconds since 1970, OWNER and GROUP numbers or `-` for those
/// that own the store, SHA-256 64 hexadecimal digits. In the path all bytes but 21 to 7E, and `\`, are `\xHH`.
package struct ManifestLine: Equatable, Sendable {
    package let path: StorePath
    /// Its name is the path's last one; without digest.
    package let entry: AuditEntry
    /// Of a file's content or a link's target.
    package let hash: ChainHash?

    package init(path: StorePath, entry: AuditEntry, hash: ChainHash?) {
        self.path = path
        self.entry = entry
        self.hash = hash
    }

    /// Before `other` in a manifest: by root, then name by name, so that a directory stands before what is in it.
    package static func isOrdered(_ one: StorePath, _ other: StorePath) -> Bool {
        guard one.root == other.root else { return one.root < other.root }
        return one.components.lexicographicallyPrecedes(other.components) { $0.lexicographicallyPrecedes($1) }
    }

    /// Without the end of the line.
    package var text: String {
        let kind: String =
            switch entry.kind {
            case .file: "f"
            case .directory: "d"
            case .symlink: "l"
            }
        let isFile = entry.kind == .file
        let fields = [
            kind, entry.kind == .symlink ? "-" : String(entry.mode, radix: 8), isFile ? "\(entry.byteCount)" : "-",
            isFile ? "\(entry.mtimeNanoseconds)" : "-", entry.owner.map { "\($0)" } ?? "-",
            entry.group.map { "\($0)" } ?? "-", hash.map { "\($0)" } ?? "-", Self.escaped(path),
        ]
        return fields.joined(separator: " ")
    }

    package init(_ text: some StringProtocol) throws(MalformedBytes) {
        func wrong(_ what: String) -> MalformedBytes { MalformedBytes("manifest", at: 0, "\(what): \(text)") }
        let fields = String(text).split(separator: Character(" "), omittingEmptySubsequences: false).map { String($0) }
        guard fields.count == 8 else { throw wrong("\(fields.count) fields of 8") }
        let kinds: [String: AuditEntry.Kind] = ["f": .file, "d": .directory, "l": .symlink]
        guard let kind = kinds[fields[0]] else { throw wrong("neither file, directory nor link") }
        guard let path = Self.path(fields[7]) else { throw wrong("no path") }
        func number<Value: FixedWidthInteger>(_ field: Int, radix: Int = 10) throws(MalformedBytes) -> Value? {
            if fields[field] == "-" { return nil }
            guard let value = Value(fields[field], radix: radix) else { throw wrong("field \(field + 1)") }
            return value
        }
        let mode: UInt16? = try number(1, radix: 8)
        let byteCount: UInt64? = try number(2)
        let mtime: Int64? = try number(3)
        entry = AuditEntry(
            name: Array(path.name), kind: kind, byteCount: byteCount ?? 0, mode: mode ?? 0, owner: try number(4),
            group: try number(5), mtimeNanoseconds: mtime ?? 0)
        hash = fields[6] == "-" ? nil : Self.hash(fields[6])
        guard (hash != nil) == (kind != .directory) else { throw wrong("field 7") }
        guard (mode != nil) == (kind != .symlink), (byteCount != nil) == (kind == .file),
            (mtime != nil) == (kind == .file)
        else { throw wrong("fields of another kind") }
        self.path = path
    }

    private static func hash(_ text: String) -> ChainHash? {
        let digits = Array(text.utf8)
        guard digits.count == 2 * ChainHash.byteCount else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        return ChainHash(bytes: bytes)
    }

    package static func escaped(_ path: StorePath) -> String {
        var text = path.root.name
        guard !path.isRoot else { return text }
        text += "/"
        for byte in path.path {
            if byte > 0x20, byte < 0x7f, byte != backslash {
                text.unicodeScalars.append(UnicodeScalar(byte))
            } else {
                text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return text
    }

    private static func path(_ text: String) -> StorePath? {
        let root = text.prefix { $0 != "/" }
        guard !root.isEmpty else { return nil }
        var bytes: [UInt8] = []
        var rest = Array(text.utf8).dropFirst(root.utf8.count + 1)
        while let byte = rest.popFirst() {
            guard byte == backslash else {
                bytes.append(byte)
                continue
            }
            guard rest.popFirst() == UInt8(ascii: "x"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return StorePath(root: RootName(String(root)), path: bytes)
    }

    private static let backslash = UInt8(ascii: "\\")
}

/// A flat database (lib/cyrusdb_flat.c): sub.db, user_deny.db.
///
///     key TAB value LF       one line per pair, sorted by key
///
/// Within key and value NUL, tab, CR and LF are FF and the byte with its upper bit set, and FF is FF FF. Each change
/// writes the whole file anew and renames it over the old, so what is read from one descriptor is one state.
package struct FlatDatabase: Sendable {
    package let entries: [Entry]

    package struct Entry: Equatable, Sendable {
        package let key: [UInt8]
        package let value: [UInt8]
    }

    package init(_ bytes: [UInt8]) throws(MalformedBytes) {
        guard bytes.isEmpty || bytes.last == UInt8(ascii: "\n") else {
            throw MalformedBytes("flat database", at: bytes.count, "the last line has no end")
        }
        var entries: [Entry] = []
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast() {
            guard let tab = line.firstIndex(of: UInt8(ascii: "\t")) else {
                throw MalformedBytes("flat database", at: line.startIndex, "a line without a tab")
            }
            entries.append(Entry(key: Self.decoded(line[..<tab]), value: Self.decoded(line[(tab + 1)...])))
        }
        self.entries = entries
    }

    package func value(of key: some Sequence<UInt8>) -> [UInt8]? {
        entries.first { $0.key.elementsEqual(key) }?.value
    }

    /// A lone FF at the end is dropped, as Cyrus does.
    static func decoded(_ text: ArraySlice<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var isEscaped = false
        for byte in text {
            if isEscaped {
                bytes.append(byte == escape ? escape : byte & 0x7f)
                isEscaped = false
            } else if byte == escape {
                isEscaped = true
            } else {
                bytes.append(byte)
            }
        }
        return bytes
    }

    private static let escape: UInt8 = 0xff
}

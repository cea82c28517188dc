/// Cyrus's text form of nested values (imap/dlist.c), as in cyrus.header, mailboxes.db and quota files.
///
///     %(KEY value KEY value …)      keys and values
///     (value value …)               a list
///     atom  "quoted \" text"  {3}CRLFabc  {3+}CRLFabc  NIL
///
/// Quoted text and literals may stand wherever an atom may, keys included. Between values there is one blank.
package indirect enum DList: Equatable, Sendable {
    case none
    case text([UInt8])
    case list([DList])
    case pairs([Pair])

    package struct Pair: Equatable, Sendable {
        package let key: [UInt8]
        package let value: DList
    }

    /// Deeper nesting than any that Cyrus writes.
    package static let depthMax = 16
    /// A mailbox's entry with a long ACL has some ten thousand bytes.
    package static let byteCountMax = 16 << 20

    /// One value that takes all of `bytes`; a line feed may follow.
    package init(decoding bytes: ArraySlice<UInt8>) throws(MalformedBytes) {
        guard bytes.count <= Self.byteCountMax else {
            throw MalformedBytes("dlist", at: 0, "\(bytes.count) bytes, more than \(Self.byteCountMax)")
        }
        var parser = DListParser(bytes: bytes, position: bytes.startIndex)
        self = try parser.value(depth: 0)
        try parser.expectEnd()
    }

    package init(decoding bytes: [UInt8]) throws(MalformedBytes) { try self.init(decoding: bytes[...]) }

    /// The first value of that key.
    package subscript(key: String) -> DList? {
        guard case .pairs(let pairs) = self else { return nil }
        return pairs.first { $0.key.elementsEqual(key.utf8) }?.value
    }

    package var text: [UInt8]? {
        guard case .text(let bytes) = self else { return nil }
        return bytes
    }

    package var string: String? { text.map { String(decoding: $0, as: UTF8.self) } }
    package var number: UInt64? { string.flatMap { UInt64($0) } }

    package var items: [DList]? {
        guard case .list(let items) = self else { return nil }
        return items
    }

    package var pairs: [Pair]? {
        guard case .pairs(let pairs) = self else { return nil }
        return pairs
    }
}

private struct DListParser {
    let bytes: ArraySlice<UInt8>
    var position: Int

    var next: UInt8? { position < bytes.endIndex ? bytes[position] : nil }

    mutating func value(depth: Int) throws(MalformedBytes) -> DList {
        guard depth < DList.depthMax else { throw failure("nested more than \(DList.depthMax) deep") }
        switch next {
        case UInt8(ascii: "("):
            position += 1
            return .list(try sequence { parser throws(MalformedBytes) in try parser.value(depth: depth + 1) })
        case UInt8(ascii: "%"):
            position += 1
            guard next == UInt8(ascii: "(") else { throw failure("% without a bracket") }
            position += 1
            return .pairs(try sequence { parser throws(MalformedBytes) in try parser.pair(depth: depth + 1) })
        default:
            return try item()
        }
    }

    private mutating func pair(depth: Int) throws(MalformedBytes) -> DList.Pair {
        guard case .text(let key) = try item() else { throw failure("NIL for a key") }
        guard next == blank else { throw failure("no blank after a key") }
        position += 1
        return DList.Pair(key: key, value: try value(depth: depth))
    }

    /// Up to the closing bracket.
    private mutating func sequence<Element>(
        _ element: (inout DListParser) throws(MalformedBytes) -> Element
    ) throws(MalformedBytes) -> [Element] {
        var elements: [Element] = []
        while next != UInt8(ascii: ")") {
            elements.append(try element(&self))
            if next == UInt8(ascii: ")") { break }
            guard next == blank else { throw failure("neither a blank nor a bracket") }
            position += 1
        }
        position += 1
        return elements
    }

    private mutating func item() throws(MalformedBytes) -> DList {
        switch next {
        case UInt8(ascii: "\""): return .text(try quoted())
        case UInt8(ascii: "{"): return .text(try literal())
        default: return try atom()
        }
    }

    private mutating func atom() throws(MalformedBytes) -> DList {
        let text = bytes[position...].prefix { byte in
            byte != blank && byte != UInt8(ascii: "(") && byte != UInt8(ascii: ")") && byte != 0x0d && byte != 0x0a
        }
        guard !text.isEmpty else { throw failure("a value is missing") }
        position = text.endIndex
        return text.count == 3 && text.elementsEqual("NIL".utf8) ? .none : .text(Array(text))
    }

    private mutating func quoted() throws(MalformedBytes) -> [UInt8] {
        var text: [UInt8] = []
        position += 1
        while let byte = next, byte != UInt8(ascii: "\"") {
            if byte == UInt8(ascii: "\\") { position += 1 }
            guard let taken = next else { break }
            text.append(taken)
            position += 1
        }
        guard next != nil else { throw failure("a quotation does not end") }
        position += 1
        return text
    }

    private mutating func literal() throws(MalformedBytes) -> [UInt8] {
        position += 1
        var count = 0
        while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
            count = count * 10 + Int(byte - UInt8(ascii: "0"))
            guard count <= DList.byteCountMax else {
                throw failure("a literal of more than \(DList.byteCountMax) bytes")
            }
            position += 1
        }
        if next == UInt8(ascii: "+") { position += 1 }
        guard bytes[position...].starts(with: [UInt8(ascii: "}"), 0x0d, 0x0a]) else { throw failure("no literal") }
        position += 3
        guard count <= bytes.endIndex - position else { throw failure("a literal of \(count) bytes is cut short") }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    func expectEnd() throws(MalformedBytes) {
        guard bytes[position...].allSatisfy({ $0 == 0x0a || $0 == 0x0d }) else { throw failure("bytes too many") }
    }

    private var blank: UInt8 { UInt8(ascii: " ") }

    private func failure(_ why: String) -> MalformedBytes {
        MalformedBytes("dlist", at: position - bytes.startIndex, why)
    }
}

/// Where an end keeps its store, in words for an operator.
///
///     host     count, bytes: the machine's own name
///     roots    count, of each: name (count, bytes), absolute path (count, bytes)
package struct Place: Equatable, Sendable {
    package var host: String
    package var roots: [RootName: [UInt8]]

    package init(host: String, roots: [RootName: [UInt8]]) {
        self.host = host
        self.roots = roots
    }

    private static let rootCountMax: UInt64 = 4096
    private static let hostBytesMax = 255

    /// Nothing if there is no such root.
    package func absolutePath(of path: StorePath) -> [UInt8]? {
        roots[path.root].map { path.isRoot ? $0 : $0 + [UInt8(ascii: "/")] + path.path }
    }

    /// Whether it is no more than what it says it is: a peer may be broken into, and this is shown to people.
    package var isPlain: Bool {
        let isName = !host.isEmpty && !host.hasPrefix("-") && host.utf8.allSatisfy(Self.isOfHost)
        return isName && roots.values.allSatisfy { $0.first == UInt8(ascii: "/") }
    }

    private static func isOfHost(_ byte: UInt8) -> Bool {
        let scalar = Unicode.Scalar(byte)
        return scalar.isASCII && scalar.properties.isAlphabetic
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || [UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_")].contains(byte)
    }

    package func encode(into writer: inout ByteWriter) {
        writer.write(text: host, max: Self.hostBytesMax)
        writer.write(count: UInt64(roots.count))
        for (name, path) in roots.sorted(by: { $0.key < $1.key }) {
            writer.write(string: name.name.utf8)
            writer.write(string: path)
        }
    }

    package init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        host = try reader.readText(max: Self.hostBytesMax, "place: host")
        roots = [:]
        for _ in 0..<(try reader.readCount(max: Self.rootCountMax, "place: roots")) {
            let name = RootName(try reader.readText(max: 255, "place: root"))
            roots[name] = Array(try reader.readString(max: StorePath.pathBytesMax, "place: path"))
        }
    }
}

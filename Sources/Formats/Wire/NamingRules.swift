/// What an end's imapd.conf says of where files are: where its Cyrus looks for what the other end has.
///
///     count, of each: option, or what follows from several (count, bytes), value (count, bytes)
package struct NamingRules: Equatable, Sendable {
    package var values: [String: String]

    package init(_ values: [String: String] = [:]) { self.values = values }

    package struct Difference: Equatable, Sendable {
        package let option: String
        package let here: String
        package let there: String
    }

    /// The first by name, of a primary, in which `replica` is not the same; that may have partitions of its own.
    package func difference(from replica: NamingRules) -> Difference? {
        for (option, here) in values.sorted(by: { $0.key < $1.key }) {
            let isPartition = option.hasPrefix("partition-") || option.hasPrefix("archivepartition-")
            let there = replica.values[option] ?? (isPartition ? "none" : here)
            if there != here { return Difference(option: option, here: here, there: there) }
        }
        return nil
    }

    private static let countMax: UInt64 = 1 << 16

    func encode(into writer: inout ByteWriter) {
        writer.write(count: UInt64(values.count))
        for (option, value) in values.sorted(by: { $0.key < $1.key }) {
            writer.write(string: option.utf8)
            writer.write(string: value.utf8)
        }
    }

    init(decoding reader: inout ByteReader) throws(MalformedBytes) {
        values = [:]
        for _ in 0..<(try reader.readCount(max: Self.countMax, "naming: count")) {
            let option = try reader.readText(max: StorePath.pathBytesMax, "naming: option")
            values[option] = try reader.readText(max: StorePath.pathBytesMax, "naming: value")
        }
    }
}

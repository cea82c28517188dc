internal import CKernel

/// A name and value that hang on a file (xattr(7)); both are bytes.
package struct ExtendedAttribute: Hashable, Sendable {
    /// With its namespace: `user.comment`.
    package let name: [UInt8]
    package let value: [UInt8]

    package init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }

    /// The namespaces we carry. `system.` (ACLs) and `trusted.` belong to the machine, not to the mail.
    static let namespaces = ["user.", "security."].map { Array($0.utf8) }

    static func isCarried(_ name: some Collection<UInt8>) -> Bool { namespaces.contains { name.starts(with: $0) } }
}

extension Descriptor {
    /// The attributes in `user.` and `security.`, by name (flistxattr, fgetxattr).
    ///
    /// None where the file system has none or we may not ask; without those that we may not read, or that go meanwhile.
    package func extendedAttributes() throws(SystemError) -> [ExtendedAttribute] {
        var found: [ExtendedAttribute] = []
        for name in try extendedAttributeNames() {
            let terminatedName = try terminated(name, for: "fgetxattr")
            // XATTR_SIZE_MAX is 64 KiB.
            var value = [UInt8](repeating: 0, count: 65_536)
            do {
                let count = try kernel("fgetxattr", path) { ms_fgetxattr(raw, terminatedName, &value, value.count) }
                found.append(ExtendedAttribute(name: name, value: Array(value[..<count])))
            } catch let error where [.noData, .notPermitted, .accessDenied, .notSupported].contains(error.errno) {
                continue
            }
        }
        return found
    }

    /// Makes the `user.` attributes exactly those of `wanted`, and adds the `security.` ones (fsetxattr, fremovexattr).
    ///
    /// Returns the names that the kernel or file system refused, which is no error: an ordinary user may not set
    /// `security.`, some file systems have no attributes, some little room for them.
    package func setExtendedAttributes(_ wanted: [ExtendedAttribute]) throws(SystemError) -> [[UInt8]] {
        var refused: [[UInt8]] = []
        let refusals: [Errno] = [.notPermitted, .accessDenied, .notSupported, .noSpace, .fileTooBig]
        for attribute in wanted {
            let name = try terminated(attribute.name, for: "fsetxattr")
            do {
                try kernel("fsetxattr", path) { ms_fsetxattr(raw, name, attribute.value, attribute.value.count) }
            } catch let error where refusals.contains(error.errno) {
                refused.append(attribute.name)
            }
        }
        let names = Set(wanted.map(\.name))
        for old in try extendedAttributeNames() where old.starts(with: ExtendedAttribute.namespaces[0]) {
            if names.contains(old) { continue }
            let name = try terminated(old, for: "fremovexattr")
            do {
                try kernel("fremovexattr", path) { ms_fremovexattr(raw, name) }
            } catch let error where error.errno == .noData {
                continue
            }
        }
        return refused
    }

    private func extendedAttributeNames() throws(SystemError) -> [[UInt8]] {
        do {
            // Most files have none: asking for the size first saves the buffer.
            if try kernel("flistxattr", path, { ms_flistxattr(raw, nil, 0) }) == 0 { return [] }
            // XATTR_LIST_MAX is 64 KiB.
            var names = [CChar](repeating: 0, count: 65_536)
            let count = try kernel("flistxattr", path) { ms_flistxattr(raw, &names, names.count) }
            let all = names[..<count].split(separator: 0).map { name in name.map { UInt8(bitPattern: $0) } }
            return all.filter { ExtendedAttribute.isCarried($0) }.sorted { $0.lexicographicallyPrecedes($1) }
        } catch let error where error.errno == .notSupported || error.errno == .notPermitted {
            return []
        }
    }
}

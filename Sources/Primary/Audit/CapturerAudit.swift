import Digests
import Formats
import Linux
import Store

extension Capturer {
    /// Puts the checks that are ready into the log, behind all that they claim.
    func closeChecks() throws {
        guard !audit.isIdle else { return }
        let ready = try audit.close(mark: { dirty.mark($0) }, fetchEvents: { _ = try fetchEvents() })
        let records = ready.compactMap(\.record)
        let position = records.isEmpty ? nil : try shipper.append(records)
        for closed in ready {
            var delivery = closed.delivery
            if closed.record != nil { delivery.position = position }
            let missedCount = delivery.findings.count { if case .missed = $0.what { true } else { false } }
            if missedCount > 0 { parts.status.update { $0.missedCount += UInt64(missedCount) } }
            closed.request.deliver(delivery)
        }
    }

    /// What a replica has otherwise is told again, and what stands in its place there is kept aside.
    func absorb(_ repairs: [Repair]) throws {
        var records: [Record] = []
        for repair in repairs { records += try self.records(for: repair) }
        guard !records.isEmpty else { return }
        _ = try shipper.append(records)
    }

    private func records(for repair: Repair) throws -> [Record] {
        let path = repair.path
        // Another end may ship what this one does not.
        guard parts.roots.isShipped(path) else { return [] }
        let (status, row) = (try parts.roots.status(of: path), try parts.catalogue.entry(path))
        guard let status else {
            // Gone here as well by now, or never here.
            if row != nil { dirty.mark(path) }
            return row == nil ? [Record(path, .remove)] : []
        }
        // Held back since it is broken here: what the replica has is not made worse.
        guard parts.status.current.alarms[path] == nil else { return [] }
        let isMessage = isMessage(path)
        guard let row, row.stillDescribes(status, asMessage: isMessage) else {
            // Changed since: what is told of the change anyhow must not lean on what the replica has.
            return try sendWhole(path, status)
        }
        switch (repair.cure, status.kind) {
        case (_, .other):
            return []
        case (_, .directory):
            return [Record(path, .directory(parts.roots.metadata(status)))]
        case (_, .symlink):
            let target = try parts.roots.readLink(path)
            return [Record(path, .keep), Record(path, .symlink(parts.roots.metadata(status), target: target))]
        case (.metadata, .file):
            guard let result = row.digest else { return try sendWhole(path, status) }
            let attributes = try parts.roots.open(path).extendedAttributes()
            let metadata = parts.roots.metadata(status, attributes: attributes)
            return [Record(path, .metadata(metadata, result: result))]
        case (.link(let target), .file):
            guard let result = row.digest, try parts.roots.status(of: target)?.inode == status.inode else {
                return try sendWhole(path, status)
            }
            return [Record(path, .keep), Record(path, .link(target: target, result: result))]
        case (.whole, .file), (.remove, .file):
            return try sendWhole(path, status)
        }
    }

    private func sendWhole(_ path: StorePath, _ status: FileStatus) throws -> [Record] {
        guard status.kind == .file else {
            dirty.mark(path)
            return []
        }
        return try forgetShipped(path, status).map { Record($0, .keep) }
    }

    /// Asked for by a replica, which may ask for anything.
    func forgetShippedOrAlarm(_ path: StorePath) throws {
        guard parts.roots.names.contains(path.root), parts.roots.isShipped(path) else { return }
        do {
            _ = try forgetShipped(path, try parts.roots.status(of: path))
        } catch let error as SystemError {
            alarm(path, .system(error))
        }
    }

    /// What is there is sent whole. With it go all other names of the file, as links to what is sent: what the replica has
    /// under them is the same file there, or should be, and no better. Returns all the names.
    func forgetShipped(_ path: StorePath, _ status: FileStatus?) throws -> [StorePath] {
        var names = [path]
        if let status, status.kind == .file, status.linkCount > 1 {
            for name in try parts.catalogue.paths(ofInode: status.inode, countMax: Self.namesMax) where name != path {
                guard let its = try parts.roots.status(of: name), its.inode == status.inode,
                    its.device == status.device
                else { continue }
                names.append(name)
            }
        }
        for name in names {
            // A row that no file is like, and no basis: all of it is sent.
            try parts.catalogue.set(name, CatalogueEntry(shipped: nil, kind: .file))
            dirty.mark(name)
        }
        return names
    }

    private static let namesMax = 4096
}

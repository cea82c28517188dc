import Formats
import Store
import Testing

@Suite struct RangeWalkTests {
    private let root = RootName("partition-default")
    private func path(_ name: String) -> StorePath { name.isEmpty ? StorePath(root: root) : StorePath(root, name) }

    private func walk(_ tree: [String], from first: String, through last: String) -> [String] {
        func subdirectories(_ directory: StorePath) -> [[UInt8]] {
            tree.map(path).filter { !$0.isRoot && $0.parent == directory }.map { Array($0.name) }
        }
        var walk = RangeWalk(from: path(first), through: path(last), subdirectories: subdirectories)
        var found: [String] = []
        while let directory = walk.next() {
            guard directory.isRoot || tree.contains(where: { path($0) == directory }) else { continue }
            found.append(directory.isRoot ? "" : String(decoding: directory.path, as: UTF8.self))
            walk.descend(into: directory, subdirectories(directory))
        }
        return found
    }

    /// Parents first, then children by name; `a-b` after all that is in `a`.
    private let tree = ["a", "a/b", "a/b/c", "a/z", "a-b", "a-b/x", "b", "c", "c/1"]

    @Test func `all are given from the root through the last, parents first`() {
        #expect(walk(tree.shuffled(), from: "", through: "c/1") == [""] + tree)
    }

    @Test func `any part of the order is given, with nothing before and nothing behind`() {
        let all = [""] + tree
        for first in all.indices {
            for last in first..<all.count {
                #expect(walk(tree, from: all[first], through: all[last]) == Array(all[first...last]))
            }
        }
    }

    @Test func `where the first is not there, what comes after it is given`() {
        #expect(walk(tree, from: "a/b/b", through: "a-b") == ["a/b/c", "a/z", "a-b"])
        #expect(walk(tree, from: "a/y/q/r", through: "a-b") == ["a/z", "a-b"])
        #expect(walk(tree, from: "bb", through: "bz") == [])
    }

    @Test func `the order is that of components, not of the bytes of the path`() {
        let sorted = tree.shuffled().map(path).sorted { $0.comesBefore($1) }
        #expect(sorted == tree.map(path))
        #expect(!path("a").comesBefore(path("a")))
    }
}

import Linux
import Scratch
import Testing

@Suite struct ExtendedAttributesTests {
    let directory = TemporaryDirectory()

    @Test func `attributes of users come back by name, with any bytes`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        let wanted = [
            ExtendedAttribute(name: bytes("user.a"), value: [0, 255, 10]),
            ExtendedAttribute(name: bytes("user.b"), value: []),
        ]
        #expect(try file.extendedAttributes() == [])
        #expect(try file.setExtendedAttributes(wanted.reversed()) == [])
        #expect(try file.extendedAttributes() == wanted)
    }

    @Test func `those not wanted go, those wanted change`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        _ = try file.setExtendedAttributes([
            ExtendedAttribute(name: bytes("user.a"), value: [1]), ExtendedAttribute(name: bytes("user.b"), value: [2]),
        ])
        let changed = [ExtendedAttribute(name: bytes("user.b"), value: [3])]
        #expect(try file.setExtendedAttributes(changed) == [])
        #expect(try file.extendedAttributes() == changed)
    }

    @Test func `one that the kernel refuses is a finding`() throws {
        let file = try Descriptor.open(directory("f"), for: .creatingNew)
        let odd = ExtendedAttribute(name: bytes("nowhere.x"), value: [1])
        #expect(try file.setExtendedAttributes([odd]) == [bytes("nowhere.x")])
    }

    @Test func `a file system without attributes has none`() throws {
        #expect(try Descriptor.open("/proc/self/status", for: .reading).extendedAttributes() == [])
    }
}

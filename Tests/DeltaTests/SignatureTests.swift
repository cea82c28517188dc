import Seeded
import Testing

@testable import Delta

@Suite struct SignatureTests {
    @Test func `a signature has a head and a sum for each block`() throws {
        var random = SeededGenerator(seed: 1)
        let signature = try Signature.make(of: random.bytes(5000), blockBytes: 2048)
        #expect(signature.count == 12 + 3 * (4 + 16))
        #expect(Array(signature[..<12]) == [0x72, 0x73, 0x01, 0x47, 0, 0, 8, 0, 0, 0, 0, 16])
    }

    @Test func `a signature of nothing is a head`() throws {
        #expect(try Signature.make(of: [UInt8]()).count == 12)
    }

    @Test func `blocks grow with the square root of the file`() {
        #expect(Signature.blockBytes(forFileBytes: 0) == 2048)
        #expect(Signature.blockBytes(forFileBytes: 4 << 20) == 2048)
        #expect(Signature.blockBytes(forFileBytes: 100_000_000) == 10_112)
        #expect(Signature.blockBytes(forFileBytes: .max) == 65_536)
    }

    @Test func `a block length out of range is brought into it`() throws {
        #expect(try LoadedSignature.load(Signature.make(of: [1], blockBytes: -1)).blockBytes == 128)
        #expect(try LoadedSignature.load(Signature.make(of: [1], blockBytes: .max)).blockBytes == 65_536)
    }

    @Test func `a signature cut within a sum is an error`() throws {
        var random = SeededGenerator(seed: 2)
        let signature = try Signature.make(of: random.bytes(1000), blockBytes: 256)
        for length in 0..<signature.count where length < 12 || (length - 12) % 20 != 0 {
            #expect(throws: DeltaError.self) { _ = try LoadedSignature.load(Array(signature[..<length])) }
        }
    }

    @Test func `a flipped bit of a signature never traps and its delta gives another result or an error`() throws {
        var random = SeededGenerator(seed: 3)
        let old = random.bytes(1000)
        let signature = try Signature.make(of: old, blockBytes: 256)
        for bit in 0..<signature.count * 8 {
            var bad = signature
            bad[bit / 8] ^= 1 << (bit % 8)
            do throws(DeltaError) {
                let delta = try RsyncDelta.encode(signature: bad, new: old)
                #expect(delta.count < old.count + 100)
            } catch {
                #expect(bit < 12 * 8, "\(error)")
            }
        }
    }
}

/// What can go wrong between two versions of a file. Deltas, signatures and compressed pieces come from disk or wire:
/// whatever they hold ends here, never in a trap. Nothing is half done on return except what a sink was already given.
package enum DeltaError: Error {
    /// The input ends before it is complete.
    case truncated(DeltaInput)
    /// The input is no such thing, or says what can't be.
    case corrupt(DeltaInput)
    /// A delta copies bytes that its basis hasn't: another basis is meant.
    case outsideBasis(offset: Int, byteCount: Int, basisBytes: Int)
    /// The result would be longer than the caller allows.
    case resultTooLong(bytesMax: Int)
    /// A compressed piece that doesn't unpack to the length the caller knows it must have.
    case wrongLength(expectedBytes: Int, foundBytes: Int)
    /// More than LZ4 takes in one piece.
    case tooLarge(byteCount: Int, bytesMax: Int)
    /// A reader gave another number of bytes than it was asked for: the file changed meanwhile.
    case shortRead(offset: Int, expectedBytes: Int, foundBytes: Int)
    /// What a closure of the caller threw.
    case caller(any Error)
    /// librsync gave up for a reason that bytes can't cause (out of memory, a bug): its `rs_result`.
    case librsync(code: UInt32)
}

/// What was being read.
package enum DeltaInput: String, Sendable {
    case signature, delta, compressed, file
}

extension DeltaError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .truncated(let input): "\(input.rawValue): ends early"
        case .corrupt(let input): "\(input.rawValue): not valid"
        case .outsideBasis(let offset, let byteCount, let basisBytes):
            "delta: copies \(byteCount) bytes at offset \(offset) from a basis of \(basisBytes) bytes"
        case .resultTooLong(let bytesMax): "delta: result: longer than \(bytesMax) bytes"
        case .wrongLength(let expected, let found): "compressed: \(found) bytes where \(expected) were announced"
        case .tooLarge(let byteCount, let bytesMax): "compress: \(byteCount) bytes, more than \(bytesMax) in one piece"
        case .shortRead(let offset, let expected, let found):
            "file: changed while read: \(found) of \(expected) bytes at offset \(offset)"
        case .caller(let error): "\(error)"
        case .librsync(let code): "librsync: result \(code)"
        }
    }
}

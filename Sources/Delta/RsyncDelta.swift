internal import CLibrsync

/// librsync's deltas: what a basis must be changed by, where bytes shift.
///
/// Making one costs 3 ns a byte that the basis has, and 25 ns a byte that it hasn't. A delta names neither its basis
/// nor its result: whoever applies it checks the digest of what comes out.
package enum RsyncDelta {
    /// The delta that makes `new` from the basis that `signature` describes.
    package static func encode(signature: [UInt8], new: UnsafeRawBufferPointer) throws(DeltaError) -> [UInt8] {
        let delta = try encode(.load(signature), byteCount: new.count) { Array(new[$0]) }
        return delta ?? []  // never nil without a bound
    }

    package static func encode(signature: [UInt8], new: [UInt8]) throws(DeltaError) -> [UInt8] {
        let delta = try encode(.load(signature), byteCount: new.count) { Array(new[$0]) }
        return delta ?? []  // never nil without a bound
    }

    /// The same of a file that is read piece by piece; nil as soon as the delta is longer than `deltaBytesMax`.
    package static func encode(
        _ signature: borrowing LoadedSignature, byteCount: Int, deltaBytesMax: Int = .max, new: RangeReader
    ) throws(DeltaError) -> [UInt8]? {
        let basis = signature.signature
        var delta: [UInt8] = []
        var job = try RsyncJob({ rs_delta_begin(basis) }, reads: .file)
        for range in pieces(of: byteCount) {
            let piece = try fetch(range, from: new)
            try job.feed(piece) { made in delta.append(contentsOf: made) }
            guard delta.count <= deltaBytesMax else { return nil }
        }
        try job.finish { made in delta.append(contentsOf: made) }
        return delta.count <= deltaBytesMax ? delta : nil
    }

    /// What `delta` makes of `basis`, at most `resultBytesMax` bytes.
    package static func apply(
        _ delta: UnsafeRawBufferPointer, basis: UnsafeRawBufferPointer, resultBytesMax: Int
    ) throws(DeltaError) -> [UInt8] {
        var result: [UInt8] = []
        // The usual length: a basis with literals put in. A hostile delta gets no more room than it is worth.
        result.reserveCapacity(min(resultBytesMax, basis.count + delta.count))
        try apply(delta, basisBytes: basis.count, resultBytesMax: resultBytesMax) { offset, target in
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: basis[offset..<offset + target.count]))
        } push: { made in
            result.append(contentsOf: made)
        }
        return result
    }

    package static func apply(
        _ delta: [UInt8], basis: [UInt8], resultBytesMax: Int
    ) throws(DeltaError) -> [UInt8] {
        try delta.span.bytes.withUnsafeBytes { delta throws(DeltaError) in
            try basis.span.bytes.withUnsafeBytes { basis throws(DeltaError) in
                try apply(delta, basis: basis, resultBytesMax: resultBytesMax)
            }
        }
    }

    /// The same with neither basis nor result in memory: the basis is read in ranges of at most 64 KiB, the result goes
    /// to `sink` in order, at most 64 KiB at once. Returns the bytes of the result.
    ///
    /// After an error `sink` has been given a beginning that is worth nothing. `delta` must be in memory; read it from
    /// where it lies.
    @discardableResult
    package static func apply(
        _ delta: UnsafeRawBufferPointer, basisBytes: Int, basis: RangeReader, resultBytesMax: Int,
        sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws(DeltaError) -> Int {
        try apply(delta, basisBytes: basisBytes, resultBytesMax: resultBytesMax) { offset, target in
            target.copyBytes(from: try fetch(offset..<offset + target.count, from: basis))
        } push: { made throws(DeltaError) in
            do { try sink(made) } catch { throw .caller(error) }
        }
    }

    @discardableResult
    package static func apply(
        _ delta: [UInt8], basisBytes: Int, basis: RangeReader, resultBytesMax: Int,
        sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws(DeltaError) -> Int {
        try delta.span.bytes.withUnsafeBytes { delta throws(DeltaError) in
            try apply(delta, basisBytes: basisBytes, basis: basis, resultBytesMax: resultBytesMax, sink: sink)
        }
    }

    @discardableResult
    private static func apply(
        _ delta: UnsafeRawBufferPointer, basisBytes: Int, resultBytesMax: Int, fill: Basis.Fill,
        push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void
    ) throws(DeltaError) -> Int {
        var resultBytes = 0
        let outcome = withoutActuallyEscaping(fill) { fill -> Result<Void, DeltaError> in
            var basis = Basis(byteCount: basisBytes, fill: fill)
            // The job lives, and calls back, only inside this closure.
            return withUnsafeMutablePointer(to: &basis) { basis in
                do throws(DeltaError) {
                    try run(delta, basis) { made throws(DeltaError) in
                        guard made.count <= resultBytesMax - resultBytes else {
                            throw .resultTooLong(bytesMax: resultBytesMax)
                        }
                        resultBytes += made.count
                        try push(made)
                    }
                    return .success(())
                } catch {
                    return .failure(basis.pointee.failure ?? error)
                }
            }
        }
        try outcome.get()
        return resultBytes
    }

    private static func run(
        _ delta: UnsafeRawBufferPointer, _ basis: UnsafeMutablePointer<Basis>,
        push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void
    ) throws(DeltaError) {
        var job = try RsyncJob({ rs_patch_begin(copyFromBasis, basis) }, reads: .delta)
        try job.feed(delta, push: push)
        try job.finish(push: push)
    }
}

/// What a patch job copies from.
private struct Basis {
    /// Fills the target with the bytes from that offset; called with ranges inside the basis only.
    typealias Fill = (Int, UnsafeMutableRawBufferPointer) throws -> Void

    let byteCount: Int
    let fill: Fill
    /// Why the last copy failed: librsync passes on just a number.
    var failure: DeltaError?

    init(byteCount: Int, fill: @escaping Fill) {
        self.byteCount = byteCount
        self.fill = fill
    }

    /// The offset is the delta's own and may be anything; the target's length is bounded by our output buffer.
    mutating func copy(at offset: Int, to target: UnsafeMutableRawBufferPointer) -> rs_result {
        guard offset >= 0, offset <= byteCount - target.count else {
            failure = .outsideBasis(offset: offset, byteCount: target.count, basisBytes: byteCount)
            return RS_CORRUPT
        }
        do {
            try fill(offset, target)
            return RS_DONE
        } catch let error as DeltaError {
            failure = error
        } catch {
            failure = .caller(error)
        }
        return RS_IO_ERROR
    }
}

/// librsync's `rs_copy_cb`: `length` bytes at `offset` of the basis, to where `target` points (the output itself).
private func copyFromBasis(
    context: UnsafeMutableRawPointer?, offset: rs_long_t, length: UnsafeMutablePointer<Int>?,
    target: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> rs_result {
    guard let context, let length, let target else { return RS_INTERNAL_ERROR }
    let buffer = UnsafeMutableRawBufferPointer(start: target.pointee, count: length.pointee)
    return context.assumingMemoryBound(to: Basis.self).pointee.copy(at: offset, to: buffer)
}

internal import CLibrsync

// One librsync job from begin to end:
//
//     feed(piece) … feed(piece), finish        what comes out is pushed meanwhile, at most 64 KiB at once
//
// The job is started by Signature, LoadedSignature or RsyncDelta, ends when librsync says so, and is freed with its
// owner on every road. librsync is a state machine over the caller's buffers: it takes what is there, makes what has
// room, and says BLOCKED; going on when nothing moved would turn for ever, so that is the end of a piece, or an error
// at the end of the input.

/// The owner of an `rs_job_t`.
struct RsyncJob: ~Copyable {
    private let job: OpaquePointer
    private let output: UnsafeMutableRawBufferPointer
    private let input: DeltaInput
    private var isDone = false

    private static let outputBytes = 64 * 1024

    /// `input` is what this job reads, for the error.
    init(_ begin: () -> OpaquePointer?, reads input: DeltaInput) throws(DeltaError) {
        Self.silence
        guard let job = begin() else { throw .librsync(code: RS_MEM_ERROR.rawValue) }
        self.job = job
        self.input = input
        output = .allocate(byteCount: Self.outputBytes, alignment: 16)
    }

    deinit {
        _ = rs_job_free(job)
        output.deallocate()
    }

    /// The next piece of input; all of it is taken.
    mutating func feed(
        _ piece: UnsafeRawBufferPointer, push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void
    ) throws(DeltaError) {
        try turn(piece, .more, push)
    }

    /// No more input; throws unless the job is complete.
    mutating func finish(push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void) throws(DeltaError) {
        try turn(UnsafeRawBufferPointer(start: nil, count: 0), .end, push)
    }

    private enum Following { case more, end }

    private mutating func turn(
        _ piece: UnsafeRawBufferPointer, _ following: Following,
        _ push: (UnsafeRawBufferPointer) throws(DeltaError) -> Void
    ) throws(DeltaError) {
        var buffers = rs_buffers_t()
        // librsync only reads from `next_in`; its field isn't const.
        buffers.next_in = UnsafeMutablePointer(mutating: piece.bindMemory(to: CChar.self).baseAddress)
        buffers.avail_in = piece.count
        buffers.eof_in = following == .end ? 1 : 0
        while !isDone {
            buffers.next_out = output.bindMemory(to: CChar.self).baseAddress
            buffers.avail_out = output.count
            let availableBefore = buffers.avail_in
            let result = rs_job_iter(job, &buffers)
            let madeBytes = output.count - buffers.avail_out
            if madeBytes > 0 { try push(UnsafeRawBufferPointer(rebasing: output[..<madeBytes])) }
            switch result {
            case RS_DONE: isDone = true
            case RS_BLOCKED where madeBytes > 0 || buffers.avail_in < availableBefore: continue
            case RS_BLOCKED where following == .more && buffers.avail_in == 0: return
            case RS_BLOCKED, RS_INPUT_ENDED: throw .truncated(input)
            case RS_CORRUPT, RS_BAD_MAGIC, RS_PARAM_ERROR, RS_UNIMPLEMENTED: throw .corrupt(input)
            default: throw .librsync(code: result.rawValue)
            }
        }
        // Complete, yet there is more of it: not something that we wrote.
        guard buffers.avail_in == 0 else { throw .corrupt(input) }
    }

    /// librsync would print each error to stderr, so that a hostile peer could fill the log. Once, for the process.
    private static let silence: Void = {
        rs_trace_set_level(RS_LOG_EMERG)
        rs_trace_to(nil)
    }()
}

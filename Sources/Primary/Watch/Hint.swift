import Formats

/// Where to look: never what happened. A hint may be late, doubled or about nothing.
enum Hint: Hashable, Sendable {
    /// This name in a directory.
    case name(StorePath)
    /// All names in this directory, and how they compare with what was shipped.
    case directory(StorePath)
    /// Events were lost: anything may have changed.
    case overflow
    /// Everything hinted at before this was hinted at before the cookie of this number was made.
    case cookie(UInt64)
}

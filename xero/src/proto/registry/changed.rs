//! What has changed for the calls that wait for a method.

/// Which waiting calls may have other workers than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Changed {
    /// Kinds of workers have come or gone, or the service has.
    Kinds,
    /// Signatures or limits have come or gone, so that calls are to be distinguished anew.
    Distinctions,
}

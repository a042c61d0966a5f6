//! What has changed for the calls that wait for a method.

/// Which waiting calls may have other workers than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Changed {
    /// Kinds of workers have come or gone, or the service has.
    Kinds,
    /// Signatures or limits have come or gone, so that calls are to be distinguished anew.
    Distinctions,
}

/// What changes when a kind of workers, a signature or a limit comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) is_known: bool,
    pub(super) limits: usize,
    /// The largest limit of each of its groups, if there is one.
    pub(super) largest: [Option<u64>; 2],
}

impl Outline {
    /// What a change means to waiting calls, if anything.
    pub(super) fn change_since(self, before: Self) -> Option<Changed> {
        match (self.is_known, self.limits) == (before.is_known, before.limits) {
            false => Some(Changed::Distinctions),
            true => (self.largest != before.largest).then_some(Changed::Kinds),
        }
    }
}

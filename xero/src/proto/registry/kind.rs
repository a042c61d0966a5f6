//! What workers declare of a method, as far as it decides which requests suit them.

use super::{
    ids::{MethodId, PoolId},
    offer::Codecs,
};
use crate::proto::{few::Few, message::MethodOffer};

/// The properties that decide whether a worker suits a request for a method.
///
/// A pool counts under its own signature and under [`Signature::Any`]. So workers that differ in signatures, however
/// many, cost a call no more than workers of a few kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// First in order: kinds of one signature are neighbours.
    pub(super) signature: Signature,
    pub(super) idempotent: bool,
    pub(super) codecs: Codecs,
    /// What the limit on a payload's bytes counts as: itself, or a lower one if there are many.
    pub(super) limit: u64,
}

/// The signatures of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signature {
    /// All of them.
    Any,
    /// Those with this fingerprint.
    Exact(u64),
}

/// A kind of workers for one method: calls that suit it wait there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Station {
    pub(super) method: MethodId,
    pub(super) kind: Kind,
}

/// The pools that offer a method in the same way.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Each with its bound in `ready`, if it is in there.
    pub(super) pools: Few<PoolId, Option<u64>>,
    /// The pools that may have a free worker, by a lower bound of its turn.
    pub(super) ready: Few<(u64, PoolId), ()>,
    /// The number of pools with each limit: there is one, unless many are in use.
    pub(super) limits: Few<u64, usize>,
}

#[cfg(test)]
impl Station {
    /// A station for workers with this fingerprint.
    pub(crate) fn numbered(method: MethodId, fingerprint: u64) -> Self {
        let kind = Kind { signature: Signature::Exact(fingerprint), ..Kind::first(Signature::Any) };
        Self { method, kind }
    }
}

impl Kind {
    /// The kind of workers that offer the method in this way.
    pub(super) fn of(method: &MethodOffer, codecs: Codecs, limit: u64) -> Self {
        Self { signature: Signature::Exact(method.fingerprint), idempotent: method.idempotent, codecs, limit }
    }

    /// The kinds that its pools count under.
    pub(super) fn with_any(self) -> [Self; 2] {
        [self, Self { signature: Signature::Any, ..self }]
    }

    /// The first of a signature in order.
    pub(super) fn first(signature: Signature) -> Self {
        Self { signature, idempotent: false, codecs: Codecs::default(), limit: 0 }
    }
}

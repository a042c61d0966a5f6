//! What workers declare of a method, as far as it decides which requests suit them.

use super::{ids::PoolId, offer::Codecs};
use crate::proto::{few::Few, message::MethodOffer};

/// The properties that decide whether a worker suits a request for a method.
///
/// A pool counts under its own signature and under [`Signature::Any`]. So workers that differ in signatures or limits,
/// however many, cost a call no more than workers of a few kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// First in order: kinds of one signature are neighbours.
    pub(super) signature: Signature,
    pub(super) idempotent: bool,
    pub(super) codecs: Codecs,
    pub(super) limit: LimitClass,
}

/// The signatures of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signature {
    /// All of them.
    Any,
    /// Those with this fingerprint.
    Exact(u64),
}

/// The pools that offer a method in the same way.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Each with its bound in `ready`, if it is in there.
    pub(super) pools: Few<PoolId, Option<u64>>,
    /// The pools that may have a free worker, by a lower bound of its turn.
    pub(super) ready: Few<(u64, PoolId), ()>,
    /// The number of pools with each limit of a payload's bytes.
    pub(super) limits: Few<u64, usize>,
}

/// The power of two that a limit on a payload's bytes reaches.
///
/// It only keeps workers with similar limits together. The limits themselves decide who suits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LimitClass(u8);

impl Kind {
    /// The kind of workers that offer the method in this way.
    pub(super) fn of(method: &MethodOffer, codecs: Codecs, payload_bytes_max: u64) -> Self {
        let limit = LimitClass::of(payload_bytes_max);
        Self { signature: Signature::Exact(method.fingerprint), idempotent: method.idempotent, codecs, limit }
    }

    /// The kinds that its pools count under.
    pub(super) fn with_any(self) -> [Self; 2] {
        [self, Self { signature: Signature::Any, ..self }]
    }

    /// The first of a signature in order.
    pub(super) fn first(signature: Signature) -> Self {
        Self { signature, idempotent: false, codecs: Codecs::default(), limit: LimitClass(0) }
    }
}

impl LimitClass {
    fn of(bytes_max: u64) -> Self {
        let power = bytes_max.max(1).ilog2() as u8;
        Self(power.clamp(POWERS.0, POWERS.1))
    }
}

/// The lowest and the highest class: a kibibyte and a gibibyte. So there are few kinds, whatever limits workers announce.
const POWERS: (u8, u8) = (10, 30);

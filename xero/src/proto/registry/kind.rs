//! What workers declare of a method, as far as it decides which requests suit them.

use std::collections::BTreeSet;

use super::{ids::PoolId, offer::Codecs};
use crate::proto::{few::Few, message::MethodOffer, window::SMALL_PAYLOAD_BYTES};

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
    /// The largest class whose payloads they all accept, if there is one.
    pub(super) size: Option<SizeClass>,
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
    pub(super) ready: BTreeSet<(u64, PoolId)>,
    /// The number of pools with each limit of a payload's bytes.
    pub(super) limits: Few<u64, usize>,
}

/// The size class of a payload: its bytes, rounded up to eight steps between two powers of two. Payloads of one class
/// suit the same workers, so they can wait in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SizeClass(u16);

impl Kind {
    /// The kind of workers that offer the method in this way.
    pub(super) fn of(method: &MethodOffer, codecs: Codecs, payload_bytes_max: u64) -> Self {
        let size = SizeClass::within(payload_bytes_max);
        Self { signature: Signature::Exact(method.fingerprint), idempotent: method.idempotent, codecs, size }
    }

    /// The kinds that its pools count under.
    pub(super) fn with_any(self) -> [Self; 2] {
        [self, Self { signature: Signature::Any, ..self }]
    }

    /// The first of a signature in order.
    pub(super) fn first(signature: Signature) -> Self {
        Self { signature, idempotent: false, codecs: Codecs::default(), size: None }
    }
}

impl SizeClass {
    /// Up to 1,024 bytes.
    pub(crate) const SMALLEST: Self = Self(10 * STEPS);

    pub(crate) fn of(bytes: usize) -> Self {
        let bytes = bytes.max(1_024) as u64;
        Self::at(bytes, u64::div_ceil)
    }

    /// The largest class whose payloads do not exceed a limit.
    fn within(bytes_max: u64) -> Option<Self> {
        (bytes_max >= 1_024).then(|| Self::at(bytes_max, |bytes, step| bytes / step))
    }

    /// Whether its payloads wait for room in a worker's window.
    pub(crate) fn waits_for_room(self) -> bool {
        self > Self::of(SMALL_PAYLOAD_BYTES)
    }

    fn at(bytes: u64, divide: fn(u64, u64) -> u64) -> Self {
        let power = bytes.ilog2();
        let steps = divide(bytes, (1 << power) / u64::from(STEPS)) as u16;
        // From 8 to 16, which is the next power of two.
        Self(power as u16 * STEPS + steps - STEPS)
    }
}

/// The classes between two powers of two: a payload is rounded up by an eighth at most, and there are only hundreds of
/// classes.
const STEPS: u16 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_covers_every_class_up_to_it() {
        let limits = [0, 1_023, 1_024, 1_025, 1_151, 1_152, 2_047, 2_048, 3_000, (1 << 26) - 1, 1 << 26, u64::MAX];
        for limit in limits {
            for bytes in [0, 1, 1_024, 1_025, 1_152, 1_153, 1_921, 2_048, 2_049, 1 << 26, (1 << 26) + 1] {
                let is_covered = Some(SizeClass::of(bytes)) <= SizeClass::within(limit);
                assert_eq!(is_covered, rounded_up(bytes) <= limit, "{bytes} bytes within {limit}");
            }
        }
    }

    fn rounded_up(bytes: usize) -> u64 {
        let bytes = bytes.max(1_024);
        bytes.next_multiple_of((1 << bytes.ilog2()) / 8) as u64
    }
}

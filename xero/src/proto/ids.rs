//! Maps by numbers that this process chooses itself: calls, connections, types.

use std::hash::{BuildHasherDefault, Hasher};

use super::map::Map;

/// A map for look-ups at constant cost. Its order has no meaning: sort before iterating.
pub(crate) type IdMap<K, V> = Map<K, V, BuildHasherDefault<IdHasher>>;

/// Puts consecutive numbers side by side, so that calls which end in the order of their start, and workers that take
/// turns, share cache lines. The highest byte is mixed: the map compares some of its bits before it looks at a key.
///
/// The numbers are counted here and no peer chooses them, so nobody can make them collide. The requests of a worker are
/// the exception, and say what that costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        let number = self.0 ^ number;
        self.0 = number ^ (number.wrapping_mul(SPREAD) & HIGHEST_BYTE);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const HIGHEST_BYTE: u64 = 0xFF << 56;

/// 2⁶⁴ divided by the golden ratio: consecutive numbers get different highest bytes.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

//! Maps by numbers that this process chooses itself: calls and connections.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map for look-ups at constant cost. Its order has no meaning: sort before iterating.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads counted numbers. No peer chooses them, so nobody can make them collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(SPREAD);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 2⁶⁴ divided by the golden ratio: consecutive numbers end up far apart.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

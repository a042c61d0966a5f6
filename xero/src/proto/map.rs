//! A hash map that returns the memory of a burst.

use std::{
    borrow::Borrow,
    collections::{
        HashMap,
        hash_map::{self, RandomState},
    },
    hash::{BuildHasher, Hash},
    ops::{Deref, DerefMut},
};

/// A map for look-ups, whose removals shrink it once it is nearly empty. Its order has no meaning: sort before iterating.
#[derive(Clone, Debug)]
pub(crate) struct Map<K, V, S = RandomState> {
    entries: HashMap<K, V, S>,
    /// The most entries at a removal since it last shrank.
    peak: usize,
}

impl<K: Eq + Hash, V, S: BuildHasher> Map<K, V, S> {
    #[inline]
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let before = self.entries.len();
        let removed = self.entries.remove(key);
        self.peak = self.peak.max(before);
        if self.peak > ENTRIES_KEPT && before < self.peak / 8 {
            self.shrink();
        }
        removed
    }

    /// Returns memory. Before the next time, most of what is left must go, so removals do not get dearer.
    #[cold]
    fn shrink(&mut self) {
        self.entries.shrink_to((2 * self.entries.len()).max(ENTRIES_KEPT / 2));
        self.peak = self.entries.len();
    }
}

impl<K, V, S: Default> Default for Map<K, V, S> {
    fn default() -> Self {
        Self { entries: HashMap::default(), peak: 0 }
    }
}

impl<K, V, S> IntoIterator for Map<K, V, S> {
    type Item = (K, V);
    type IntoIter = hash_map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K, V, S> Deref for Map<K, V, S> {
    type Target = HashMap<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<K, V, S> DerefMut for Map<K, V, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

/// Entries that a map may keep memory for.
const ENTRIES_KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_not_kept_by_entries_that_stay() {
        let mut map: Map<u32, u32> = Map::default();
        // So many that the map has no room left.
        map.extend((0..114_688).map(|n| (n, n)));
        let (mut shrunk, mut capacity) = (0, map.capacity());
        for n in 10..114_688 {
            assert_eq!(map.remove(&n), Some(n));
            shrunk += usize::from(map.capacity() < capacity / 2);
            capacity = map.capacity();
        }
        assert_eq!((map.len(), map.get(&9)), (10, Some(&9)));
        assert!(capacity <= ENTRIES_KEPT && shrunk < 10, "{capacity} after {shrunk} times");
    }

    #[test]
    fn small_map_keeps_its_memory() {
        let mut map: Map<u32, u32> = Map::default();
        map.extend((0..500).map(|n| (n, n)));
        let before = map.capacity();
        (0..500).for_each(|n| assert_eq!(map.remove(&n), Some(n)));
        assert!(map.capacity() > before / 2);
    }
}

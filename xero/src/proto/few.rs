//! A map that mostly holds one entry, and then allocates nothing.

use std::{collections::BTreeMap, mem};

/// A sorted map. A B-tree allocates eleven places for its first entry, which adds up where there are many maps.
#[derive(Debug, Default)]
pub(crate) enum Few<K, V> {
    #[default]
    None,
    One(K, V),
    Several(BTreeMap<K, V>),
}

impl<K: Ord, V> Few<K, V> {
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::One(only, value) if only == key => Some(value),
            Self::None | Self::One(..) => None,
            Self::Several(map) => map.get_mut(key),
        }
    }

    /// The value of a key, which is added with a default value if it is not there.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        K: Copy,
        V: Default,
    {
        match self {
            Self::None => *self = Self::One(key, V::default()),
            Self::One(only, _) if *only == key => {}
            Self::One(..) => {
                if let Self::One(only, value) = mem::take(self) {
                    *self = Self::Several(BTreeMap::from([(only, value), (key, V::default())]));
                }
            }
            Self::Several(map) => {
                map.entry(key).or_default();
            }
        }
        self.get_mut(&key).expect("the key has just been added")
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::One(only, _) if only == key => match mem::take(self) {
                Self::One(_, value) => Some(value),
                _ => None,
            },
            Self::None | Self::One(..) => None,
            Self::Several(map) => {
                let value = map.remove(key);
                if map.len() == 1
                    && let Some((only, value)) = map.pop_first()
                {
                    *self = Self::One(only, value);
                }
                value
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (one, several) = match self {
            Self::None => (None, None),
            Self::One(key, value) => (Some((key, value)), None),
            Self::Several(map) => (None, Some(map)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// The entries from this key on.
    pub(crate) fn from(&self, first: K) -> impl Iterator<Item = (&K, &V)> {
        let (one, several) = match self {
            Self::None => (None, None),
            Self::One(key, value) => (Some((key, value)).filter(|(key, _)| **key >= first), None),
            Self::Several(map) => (None, Some(map.range(first..))),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// The largest key below this one.
    pub(crate) fn below(&self, key: &K) -> Option<&K> {
        match self {
            Self::None => None,
            Self::One(only, _) => Some(only).filter(|only| *only < key),
            Self::Several(map) => map.range(..key).next_back().map(|(below, _)| below),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn first(&self) -> Option<&K> {
        match self {
            Self::None => None,
            Self::One(key, _) => Some(key),
            Self::Several(map) => map.keys().next(),
        }
    }

    pub(crate) fn last(&self) -> Option<&K> {
        match self {
            Self::None => None,
            Self::One(key, _) => Some(key),
            Self::Several(map) => map.keys().next_back(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Several(map) => map.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl<K: Ord + Copy> Few<K, usize> {
    /// Counts one more, or one less, of this key.
    pub(crate) fn count(&mut self, key: K, is_more: bool) {
        if is_more {
            *self.entry(key) += 1;
        } else if let Some(count) = self.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_a_sorted_map_agree() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut few, mut map) = (Few::<u8, usize>::default(), BTreeMap::<u8, usize>::new());
        for step in 0..10_000 {
            let key = random.u8(0..4);
            match random.u8(0..4) {
                0 => assert_eq!(few.remove(&key), map.remove(&key), "step {step}"),
                1 => assert_eq!(few.get_mut(&key), map.get_mut(&key), "step {step}"),
                2 => (*few.entry(key), *map.entry(key).or_default()) = (step, step),
                _ if map.get(&key).is_none_or(|count| *count > 0) => {
                    few.count(key, true);
                    *map.entry(key).or_default() += 1;
                    few.count(key, true);
                    few.count(key, false);
                }
                _ => {}
            }
            assert!(few.iter().eq(map.iter()), "step {step}: {few:?} {map:?}");
            assert!(few.from(key).eq(map.range(key..)), "step {step}: {few:?} {map:?}");
            assert_eq!((few.first(), few.last()), (map.keys().next(), map.keys().next_back()), "step {step}");
            assert_eq!(few.is_empty(), map.is_empty(), "step {step}");
            assert_eq!(matches!(few, Few::Several(_)), map.len() > 1, "step {step}");
        }
    }
}

//! Names of earlier messages, so that reading them again allocates nothing.

use std::{mem, sync::Arc};

/// The services and methods in recent requests.
///
/// It grows while names share a slot, up to a limit; from then on, it keeps the last one of these.
#[derive(Debug)]
pub struct KnownNames {
    slots: Vec<Option<Arc<str>>>,
}

impl Default for KnownNames {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS_MIN] }
    }
}

impl KnownNames {
    /// The name, shared with its earlier readers.
    pub(super) fn share(&mut self, name: &str) -> Arc<str> {
        let hash = hash_of(name);
        loop {
            let count = self.slots.len();
            let slot = &mut self.slots[place(hash, count)];
            match slot {
                Some(known) if **known == *name => return Arc::clone(known),
                Some(_) if count < SLOTS_MAX => self.grow(),
                _ => return Arc::clone(slot.insert(name.into())),
            }
        }
    }

    fn grow(&mut self) {
        let names = mem::take(&mut self.slots);
        self.slots.resize(2 * names.len(), None);
        for name in names.into_iter().flatten() {
            let slot = place(hash_of(&name), self.slots.len());
            self.slots[slot] = Some(name);
        }
    }
}

/// FNV-1a. A peer that chooses colliding names pays with an allocation for each of its own requests.
fn hash_of(name: &str) -> usize {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Names that differ in their last byte alone differ in few of the upper bits.
    (hash ^ hash >> 32) as usize
}

/// The slot of a hash; the number of slots is a power of two.
fn place(hash: usize, slots: usize) -> usize {
    hash & (slots - 1)
}

/// Enough for a process with a few methods; 16 bytes each.
const SLOTS_MIN: usize = 16;

/// Twice the methods that a large process is asked for in turn.
const SLOTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_comes_again_is_shared_and_others_are_kept_apart() {
        let mut names = KnownNames::default();
        let first = names.share("ping");
        assert!(Arc::ptr_eq(&first, &names.share("ping")));
        for number in 0..10 * SLOTS_MAX {
            let name = format!("method-{number}");
            assert_eq!(&*names.share(&name), name);
        }
        assert_eq!(&*names.share("ping"), "ping");
        assert_eq!(names.slots.len(), SLOTS_MAX);
    }

    #[test]
    fn names_of_a_few_methods_take_little_memory_and_are_all_kept() {
        let mut names = KnownNames::default();
        let few: Vec<_> = (0..8).map(|number| names.share(&format!("method-{number}"))).collect();
        let many: Vec<_> = (0..8).map(|number| names.share(&format!("method-{number}"))).collect();
        assert!(few.iter().zip(&many).all(|(first, again)| Arc::ptr_eq(first, again)));
        assert!(names.slots.len() <= 256, "{}", names.slots.len());
    }
}

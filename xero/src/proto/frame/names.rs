//! Names of earlier messages, so that reading them again allocates nothing.

use std::sync::Arc;

/// The services and methods in recent requests.
///
/// Its size is fixed: of names that share a slot, it keeps the last one.
#[derive(Debug)]
pub struct KnownNames {
    slots: Box<[Option<Arc<str>>]>,
}

impl Default for KnownNames {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS].into() }
    }
}

impl KnownNames {
    /// The name, shared with its earlier readers.
    pub(super) fn share(&mut self, name: &str) -> Arc<str> {
        let slot = &mut self.slots[slot_of(name)];
        match slot {
            Some(known) if **known == *name => Arc::clone(known),
            _ => Arc::clone(slot.insert(name.into())),
        }
    }
}

/// FNV-1a. A peer that chooses colliding names pays with an allocation for each of its own requests.
fn slot_of(name: &str) -> usize {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as usize % SLOTS
}

/// Twice the methods that a large process is asked for in turn; 16 bytes each.
const SLOTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_comes_again_is_shared_and_others_are_kept_apart() {
        let mut names = KnownNames::default();
        let first = names.share("ping");
        assert!(Arc::ptr_eq(&first, &names.share("ping")));
        for number in 0..10 * SLOTS {
            let name = format!("method-{number}");
            assert_eq!(&*names.share(&name), name);
        }
        assert_eq!(&*names.share("ping"), "ping");
    }
}

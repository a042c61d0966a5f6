//! The names that errors list: the offered services, and the offered methods of a service.

use std::{collections::BTreeSet, sync::Arc};

use crate::proto::message::Names;

/// The names in the merged offer, sorted.
#[derive(Debug, Default)]
pub(super) struct Offered {
    names: BTreeSet<Arc<str>>,
    /// The first of them, once asked for.
    first: Option<Names>,
}

impl Offered {
    pub(super) fn change(&mut self, name: Arc<str>, is_offered: bool) {
        self.first = None;
        match is_offered {
            true => self.names.insert(name),
            false => self.names.remove(&name),
        };
    }

    /// The first of them, shared until they change.
    pub(super) fn first(&mut self) -> Names {
        let first = || self.names.iter().take(NAMES_MAX).cloned().collect();
        Arc::clone(self.first.get_or_insert_with(first))
    }

    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }
}

/// The most names in an error: more than anyone reads.
const NAMES_MAX: usize = 1_024;

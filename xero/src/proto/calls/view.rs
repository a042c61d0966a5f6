//! Where the workers of one pool find waiting calls.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::{Precedence, QueueId};

/// The queues in which a pool may find calls, by lower bounds of their first place. Stale ones are repaired by whoever
/// looks.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The last stamp of a queue that the pool has seen.
    pub(super) seen: u64,
    bounds: BTreeMap<QueueId, Precedence>,
    small: BTreeSet<(Precedence, QueueId)>,
    large: BTreeSet<(Precedence, QueueId)>,
}

impl View {
    /// The queue with the lowest bound; one of large calls only if there is room for these.
    pub(super) fn first(&self, is_roomy: bool) -> Option<(Precedence, QueueId)> {
        let large = self.large.first().filter(|_| is_roomy);
        self.small.first().into_iter().chain(large).min().copied()
    }

    /// Sets the bound of a queue.
    pub(super) fn set(&mut self, id: QueueId, bound: Precedence) {
        self.forget(id);
        self.bounds.insert(id, bound);
        self.order(id).insert((bound, id));
    }

    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(bound) = self.bounds.remove(&id) {
            self.order(id).remove(&(bound, id));
        }
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.bounds.keys().copied()
    }

    fn order(&mut self, id: QueueId) -> &mut BTreeSet<(Precedence, QueueId)> {
        if id.is_large { &mut self.large } else { &mut self.small }
    }
}

//! Where the workers of one pool find waiting calls.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::{Precedence, QueueId};

/// The queues in which a pool may find calls, by lower bounds of their first place. Stale ones are repaired by whoever
/// looks.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Which pool it is of all that there have been.
    pub(super) born: u64,
    /// The last stamp of a queue that the pool has seen.
    pub(super) seen: u64,
    bounds: BTreeMap<QueueId, Precedence>,
    small: BTreeSet<(Precedence, QueueId)>,
    large: BTreeSet<(Precedence, QueueId)>,
    /// The most queues that it notes.
    queues_max: usize,
    /// Whether there are more: then it notes none, and the pool looks at all of them each time.
    is_full: bool,
}

impl View {
    /// A view for a pool with that many stations.
    pub(super) fn of(born: u64, stations: usize) -> Self {
        Self { born, queues_max: QUEUES_MIN + QUEUES_EACH * stations, ..Self::default() }
    }

    /// The queue with the lowest bound; one of large calls only if there is room for these.
    pub(super) fn first(&self, is_roomy: bool) -> Option<(Precedence, QueueId)> {
        let large = self.large.first().filter(|_| is_roomy);
        self.small.first().into_iter().chain(large).min().copied()
    }

    /// Sets the bound of a queue.
    pub(super) fn set(&mut self, id: QueueId, bound: Precedence) {
        self.forget(id);
        if self.is_full || self.bounds.len() >= self.queues_max {
            self.clear();
            self.is_full = true;
            return;
        }
        self.bounds.insert(id, bound);
        self.order(id).insert((bound, id));
    }

    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(bound) = self.bounds.remove(&id) {
            self.order(id).remove(&(bound, id));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { born: self.born, seen: self.seen, queues_max: self.queues_max, ..Self::default() };
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    fn order(&mut self, id: QueueId) -> &mut BTreeSet<(Precedence, QueueId)> {
        if id.is_large { &mut self.large } else { &mut self.small }
    }
}

/// Queues to note, and more for each station: there are several at a station only if limits or large calls differ.
const QUEUES_MIN: usize = 32;
const QUEUES_EACH: usize = 4;

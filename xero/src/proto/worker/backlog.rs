//! Requests that have not started: each dispatcher's in order of arrival, the dispatchers in turns.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use crate::proto::{message::Peer, timer::Execution};

/// The requests of each dispatcher that wait to be started.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: BTreeMap<Peer, BTreeSet<Execution>>,
    /// The dispatcher of the last turn.
    last: Option<Peer>,
}

impl Backlog {
    pub(super) fn push(&mut self, peer: Peer, execution: Execution) {
        self.waiting.entry(peer).or_default().insert(execution);
    }

    /// Notes that a request of that dispatcher has started without waiting: the others' turns come first.
    pub(super) fn note_turn(&mut self, peer: Peer) {
        self.last = Some(peer);
    }

    pub(super) fn remove(&mut self, peer: Peer, execution: Execution) {
        if let Some(executions) = self.waiting.get_mut(&peer) {
            executions.remove(&execution);
            if executions.is_empty() {
                self.waiting.remove(&peer);
            }
        }
    }

    /// Takes the oldest request of the next dispatcher that may start one.
    pub(super) fn pop(&mut self, may_start: impl Fn(Peer) -> bool) -> Option<Execution> {
        let behind = self.last.map_or(Unbounded, Excluded);
        let mut turns = self.waiting.range((behind, Unbounded)).chain(&self.waiting);
        let (peer, execution) = turns.find_map(|(peer, executions)| {
            may_start(*peer).then(|| executions.first()).flatten().map(|execution| (*peer, *execution))
        })?;
        self.last = Some(peer);
        self.remove(peer, execution);
        Some(execution)
    }

    /// Drops the requests of a lost dispatcher.
    pub(super) fn forget(&mut self, peer: Peer) {
        self.waiting.remove(&peer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Backlog {
        let mut backlog = Backlog::default();
        [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5)]
            .into_iter()
            .for_each(|(peer, it)| backlog.push(Peer(peer), Execution(it)));
        backlog
    }

    #[test]
    fn dispatchers_take_turns_and_each_ones_oldest_request_comes_first() {
        let mut backlog = filled();
        let order: Vec<_> = std::iter::from_fn(|| backlog.pop(|_| true)).map(|execution| execution.0).collect();
        assert_eq!((order, backlog.is_empty()), (vec![1, 4, 5, 2, 3], true));
    }

    #[test]
    fn dispatcher_that_may_start_nothing_is_passed_over() {
        let mut backlog = filled();
        backlog.remove(Peer(1), Execution(4));
        assert_eq!(backlog.pop(|peer| peer != Peer(0)), Some(Execution(5)));
        assert_eq!(backlog.pop(|peer| peer != Peer(0)), None);
        backlog.forget(Peer(0));
        assert!(backlog.is_empty());
    }
}

//! Which of the workers that could take a request gets it: a replaceable policy.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, btree_set},
    fmt,
    iter::Peekable,
    ops::Bound,
};

use super::index::{Index, PoolId};
use crate::proto::message::Peer;

/// A worker that could take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The worker's connection.
    pub peer: Peer,
    /// Requests it has in flight.
    pub in_flight: usize,
    /// Requests it takes at once.
    pub credits: u32,
}

/// Which of the workers that could take a request gets it.
///
/// It is asked on the I/O thread and must not block: heartbeats, deadlines and waits of the whole client or broker wait
/// until it returns. A panic ends the client or broker.
pub trait WorkerChoice: fmt::Debug + Send {
    /// Picks one; the candidates come least recently used first. `None` lets the call wait, and so does a worker that
    /// is not among the candidates.
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer>;
}

/// The default choice: whoever has gone longest without being sent a request, or without room for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRecentlyUsed;

impl WorkerChoice for LeastRecentlyUsed {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}

/// A free worker, by the turn in which it was used last.
pub(super) type Free = (u64, Peer);

/// The free workers of several pools, least recently used first. Pools are opened as their bounds come up, so that who
/// takes the first candidate pays for no other.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    index: &'a Index,
    unopened: Vec<Peekable<btree_set::Iter<'a, (u64, PoolId)>>>,
    open: BinaryHeap<Reverse<(u64, Peer, PoolId)>>,
}

impl<'a> Merge<'a> {
    /// The free workers of the pools in these sets, whose numbers are lower bounds of each pool's first turn.
    pub(super) fn new(index: &'a Index, sets: impl Iterator<Item = &'a BTreeSet<(u64, PoolId)>>) -> Self {
        Self { index, unopened: sets.map(|set| set.iter().peekable()).collect(), open: BinaryHeap::new() }
    }

    fn open_due(&mut self) {
        for pools in &mut self.unopened {
            while let Some((bound, pool)) = pools.peek().copied().copied()
                && self.open.peek().is_none_or(|Reverse((turn, ..))| bound <= *turn)
            {
                pools.next();
                if let Some((turn, peer)) = self.index.free_of(pool).and_then(BTreeSet::first).copied() {
                    self.open.push(Reverse((turn, peer, pool)));
                }
            }
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = Free;

    fn next(&mut self) -> Option<Free> {
        self.open_due();
        let Reverse((turn, peer, pool)) = self.open.pop()?;
        let behind = (Bound::Excluded((turn, peer)), Bound::Unbounded);
        if let Some((turn, peer)) = self.index.free_of(pool).and_then(|free| free.range(behind).next()).copied() {
            self.open.push(Reverse((turn, peer, pool)));
        }
        Some((turn, peer))
    }
}

//! A replaceable policy that chooses among the workers that can take a request.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, btree_set},
    fmt,
    iter::Peekable,
    ops::Bound,
};

use super::index::{Index, PoolId};
use crate::proto::message::Peer;

/// A worker that can take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The worker's connection.
    pub peer: Peer,
    /// The requests that it has in flight.
    pub in_flight: usize,
    /// The requests that it takes at once.
    pub credits: u32,
}

/// Chooses which of the candidate workers gets a request.
///
/// It runs on the I/O thread and must not block: heartbeats, deadlines and waits of the whole client or broker wait
/// until it returns. A panic ends the client or broker.
pub trait WorkerChoice: fmt::Debug + Send {
    /// Chooses one; the least recently used candidate is first.
    ///
    /// `None` lets the call wait, and so does a worker that is not a candidate.
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer>;
}

/// The default choice: the worker that has gone longest without a request, or without room for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRecentlyUsed;

impl WorkerChoice for LeastRecentlyUsed {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}

/// A free worker, with the turn in which it was last used.
pub(super) type Free = (u64, Peer);

/// The free workers of several pools, least recently used first.
///
/// It opens a pool only when its bound is first in order, so that taking the first candidate costs no other.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    index: &'a Index,
    unopened: Vec<Peekable<btree_set::Iter<'a, (u64, PoolId)>>>,
    open: BinaryHeap<Reverse<(u64, Peer, PoolId)>>,
}

impl<'a> Merge<'a> {
    /// The free workers of the pools in these sets; each number is a lower bound of its pool's first turn.
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

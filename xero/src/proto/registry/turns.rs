//! The turns of free workers across pools.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, btree_set},
    iter::Peekable,
    ops::Bound,
};

use super::{
    ids::{Free, PoolId},
    index::Index,
};
use crate::proto::message::Peer;

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

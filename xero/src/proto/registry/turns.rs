//! The turns of free workers across pools.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
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
pub(super) struct Merge<'a> {
    index: &'a Index,
    unopened: Vec<Peekable<Bounds<'a>>>,
    open: BinaryHeap<Reverse<(u64, Peer, PoolId)>>,
}

/// Pools in the order of their bounds.
type Bounds<'a> = Box<dyn Iterator<Item = (u64, PoolId)> + 'a>;

impl<'a> Merge<'a> {
    /// The free workers of the pools in these sets; each number is a lower bound of its pool's first turn.
    pub(super) fn new<S: Iterator<Item = (u64, PoolId)> + 'a>(index: &'a Index, sets: impl Iterator<Item = S>) -> Self {
        let unopened = sets.map(|set| (Box::new(set) as Bounds<'a>).peekable()).collect();
        Self { index, unopened, open: BinaryHeap::new() }
    }

    fn open_due(&mut self) {
        for pools in &mut self.unopened {
            while let Some((bound, pool)) = pools.peek().copied()
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

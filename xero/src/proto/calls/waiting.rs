//! Calls that wait for a worker, indexed by what they wait for.
//!
//! Calls that the same workers can take stand in one *line*. Owners take turns in it, and each owner's oldest call is
//! first. Each pool of workers orders its lines by their next call.
//!
//! A place in a line, and a line's place at a pool, are lower bounds. An owner's turn only grows while its calls wait,
//! so a stale bound is found and repaired when it is first in order.
//!
//! A line that has become empty stays for a while: a call that finds all workers busy again joins it without a look at
//! every pool. A pool that finds an empty line leaves it, and returns when the next call joins.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use super::WaitPolicy;
use crate::proto::{
    message::{CallId, Codec},
    registry::{Distinction, Grade, MethodId, PoolId},
    slab::Slab,
};

/// The common properties of a line's calls, which decide who can take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    pub(super) method: MethodId,
    pub(super) distinction: Distinction,
    pub(super) codec: Codec,
    /// Whether they wait for room in a worker's window.
    pub(super) is_large: bool,
    pub(super) must_declare: bool,
    pub(super) wait_policy: WaitPolicy,
}

/// A line's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LineId(u32);

/// The order of waiting calls: owners take turns, and each owner's oldest call is first.
pub(crate) type Precedence = (u64, CallId);

#[derive(Debug)]
struct Line {
    key: LineKey,
    /// The calls of each owner in it.
    owners: BTreeMap<u64, Stand>,
    /// Each owner's oldest call, by a lower bound of the owner's turn.
    heads: BTreeSet<(u64, CallId, u64)>,
    /// How well the pools that serve it suit its calls.
    grade: Option<Grade>,
    /// The pools that serve it, each with the line's place there.
    pools: BTreeMap<PoolId, Precedence>,
    /// An upper bound of the places.
    last_place: Precedence,
    /// Pools that serve it, but have left it because it was empty.
    absent: Vec<PoolId>,
}

/// An owner's calls in one line.
#[derive(Debug)]
struct Stand {
    /// The bound of its oldest call in `heads`.
    bound: u64,
    calls: BTreeSet<CallId>,
}

/// An owner with waiting calls.
#[derive(Debug)]
struct Owner {
    /// The turn in which its last call was served; for a new owner, the latest turn. So an owner that returns again and
    /// again does not pass those who have waited.
    turn: u64,
    calls: BTreeSet<CallId>,
}

/// The lines that a pool serves, by lower bounds of their first call's precedence.
#[derive(Debug, Default)]
struct Served {
    small: BTreeSet<(Precedence, LineId)>,
    /// Those of calls that wait for room in a worker's window: thousands may, while others can be served.
    large: BTreeSet<(Precedence, LineId)>,
}

impl Served {
    fn lines_like(&mut self, key: &LineKey) -> &mut BTreeSet<(Precedence, LineId)> {
        if key.is_large { &mut self.large } else { &mut self.small }
    }

    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: Slab<Line>,
    by_key: BTreeMap<LineKey, LineId>,
    /// The empty lines, by the time since they are.
    empty: VecDeque<LineId>,
    owners: BTreeMap<u64, Owner>,
    /// Owners by their number of calls.
    by_share: BTreeSet<(usize, u64)>,
    /// The lines that each pool serves.
    served: BTreeMap<PoolId, Served>,
    turns: u64,
    count: usize,
}

impl Waiting {
    /// Adds a call to its line; returns the line, and whether it is new.
    pub(super) fn insert(&mut self, key: LineKey, owner: u64, call: CallId) -> (LineId, bool) {
        let turn = self.count_in(owner, call);
        self.join(key, owner, turn, call)
    }

    /// Moves a call to the line of the same calls with this distinction, in its place there. Returns that line, and
    /// whether it is new; `None` if the call is there already.
    pub(super) fn distinguish(
        &mut self,
        id: LineId,
        owner: u64,
        call: CallId,
        distinction: Distinction,
    ) -> Option<(LineId, bool)> {
        let line = self.lines.get_mut(id.0)?;
        if line.key.distinction == distinction {
            return None;
        }
        let key = LineKey { distinction, ..line.key };
        line.take(owner, call);
        if line.owners.is_empty() {
            self.empty.push_back(id);
        }
        let turn = self.owners.get(&owner).map_or(self.turns, |owner| owner.turn);
        Some(self.join(key, owner, turn, call))
    }

    fn join(&mut self, key: LineKey, owner: u64, turn: u64, call: CallId) -> (LineId, bool) {
        let known = self.by_key.get(&key).copied();
        let id = known.unwrap_or_else(|| {
            let id = LineId(self.lines.insert(Line::new(key)));
            self.by_key.insert(key, id);
            id
        });
        let line = self.lines.get_mut(id.0).expect("a line is there while it has a key");
        let before = line.head();
        line.add(owner, turn, call);
        let first = line.head();
        if before.is_none() && known.is_some() {
            self.empty.retain(|empty| *empty != id);
        }
        if before.is_none_or(|before| first < Some(before)) {
            self.advance(id, first);
        }
        (id, known.is_none())
    }

    /// Removes a call. `Some` is the method of a line that is gone: the one that has been empty for longest, if there are
    /// too many.
    pub(super) fn remove(&mut self, id: LineId, owner: u64, call: CallId) -> Option<MethodId> {
        self.count_out(owner, call);
        let line = self.lines.get_mut(id.0)?;
        line.take(owner, call);
        if !line.owners.is_empty() {
            return None;
        }
        if line.pools.is_empty() && line.absent.is_empty() {
            return self.remove_line(id);
        }
        self.empty.push_back(id);
        let surplus = self.empty.len() > EMPTY_LINES_MAX;
        surplus.then(|| self.empty.pop_front()).flatten().and_then(|id| self.remove_line(id))
    }

    /// Removes the empty lines of a method; returns their number.
    pub(super) fn remove_empty(&mut self, method: MethodId) -> usize {
        let is_of = |line: &LineId| self.lines.get(line.0).is_some_and(|line| line.key.method == method);
        let (gone, kept): (Vec<_>, Vec<_>) = self.empty.iter().copied().partition(is_of);
        self.empty = kept.into();
        gone.into_iter().filter_map(|line| self.remove_line(line)).count()
    }

    fn remove_line(&mut self, id: LineId) -> Option<MethodId> {
        let line = self.lines.remove(id.0)?;
        self.by_key.remove(&line.key);
        for (pool, place) in line.pools {
            self.stop_serving(pool, place, id, &line.key);
        }
        Some(line.key.method)
    }

    /// Notes the owner's turn: its other calls move behind those of every waiting owner.
    pub(super) fn note_served(&mut self, owner: u64) {
        self.turns += 1;
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.turn = self.turns;
        }
    }

    /// A pool's first line after a given place, and the precedence of its first call. Lines of large calls count only if
    /// the pool has room for these.
    pub(super) fn next(
        &mut self,
        pool: PoolId,
        behind: Option<(Precedence, LineId)>,
        is_roomy: bool,
    ) -> Option<(Precedence, LineId)> {
        loop {
            let served = self.served.get(&pool)?;
            let lower = behind.map_or(Bound::Unbounded, Bound::Excluded);
            let first = |lines: &BTreeSet<_>| lines.range((lower, Bound::Unbounded)).next().copied();
            let large = is_roomy.then(|| first(&served.large)).flatten();
            let (place, id) = first(&served.small).into_iter().chain(large).min()?;
            let line = self.lines.get_mut(id.0)?;
            let Some(first) = line.first(&self.owners) else {
                line.pools.remove(&pool);
                line.absent.push(pool);
                let key = line.key;
                self.stop_serving(pool, place, id, &key);
                continue;
            };
            if first <= place {
                return Some((place, id));
            }
            line.pools.insert(pool, first);
            line.last_place = first.max(line.last_place);
            let lines = self.served.get_mut(&pool)?.lines_like(&line.key);
            lines.remove(&(place, id));
            lines.insert((first, id));
        }
    }

    /// Makes these pools, and no others, serve the line: all of this grade.
    pub(super) fn retarget(&mut self, id: LineId, grade: Option<Grade>, pools: Vec<PoolId>) {
        let Some(line) = self.lines.get_mut(id.0) else { return };
        let Some(first) = line.first(&self.owners) else { return };
        line.grade = grade;
        let pools: BTreeMap<_, _> = pools.into_iter().map(|pool| (pool, first)).collect();
        let before = std::mem::replace(&mut line.pools, pools.clone());
        (line.last_place, line.absent) = (first, Vec::new());
        let key = line.key;
        for (pool, place) in before {
            self.stop_serving(pool, place, id, &key);
        }
        for pool in pools.into_keys() {
            self.served.entry(pool).or_default().lines_like(&key).insert((first, id));
        }
    }

    /// Makes a pool serve the line, or not.
    pub(super) fn set_target(&mut self, id: LineId, pool: PoolId, is_target: bool) {
        let Some(line) = self.lines.get_mut(id.0) else { return };
        let key = line.key;
        if is_target && !line.pools.contains_key(&pool) {
            let Some(first) = line.first(&self.owners) else { return };
            line.pools.insert(pool, first);
            line.last_place = first.max(line.last_place);
            self.served.entry(pool).or_default().lines_like(&key).insert((first, id));
        } else if !is_target && let Some(place) = line.pools.remove(&pool) {
            self.stop_serving(pool, place, id, &key);
        }
    }

    /// The grade of the pools that serve the line.
    pub(super) fn grade_of(&self, id: LineId) -> Option<Grade> {
        self.lines.get(id.0)?.grade
    }

    pub(super) fn lines_of(&self, method: MethodId) -> Vec<LineId> {
        let first = LineKey {
            method,
            distinction: Distinction { fingerprint: None, exceeds: None },
            codec: Codec::ALL[0],
            is_large: false,
            must_declare: false,
            wait_policy: WaitPolicy::UntilDeadline,
        };
        self.by_key.range(first..).take_while(|(key, _)| key.method == method).map(|(_, id)| *id).collect()
    }

    pub(super) fn calls_in(&self, id: LineId) -> Vec<CallId> {
        let stands = self.lines.get(id.0).into_iter().flat_map(|line| line.owners.values());
        let mut calls: Vec<_> = stands.flat_map(|stand| &stand.calls).copied().collect();
        calls.sort_unstable();
        calls
    }

    pub(super) fn any_in(&self, id: LineId) -> Option<CallId> {
        self.lines.get(id.0)?.heads.first().map(|(_, call, _)| *call)
    }

    /// The youngest call of the owner with the most calls, if that owner has more than this one.
    pub(super) fn crowding(&self, owner: u64) -> Option<CallId> {
        let own = self.owners.get(&owner).map_or(0, |owner| owner.calls.len());
        let (_, largest) = self.by_share.last().filter(|(share, _)| *share > own)?;
        self.owners.get(largest)?.calls.last().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub(super) fn empty_count(&self) -> usize {
        self.empty.len()
    }

    /// Moves a line forward at its pools: a new call precedes the others in it.
    fn advance(&mut self, id: LineId, first: Option<Precedence>) {
        let (Some(line), Some(first)) = (self.lines.get_mut(id.0), first) else { return };
        for pool in std::mem::take(&mut line.absent) {
            line.pools.insert(pool, first);
            self.served.entry(pool).or_default().lines_like(&line.key).insert((first, id));
        }
        if std::mem::replace(&mut line.last_place, first) <= first {
            return;
        }
        for (pool, place) in line.pools.iter_mut().filter(|(_, place)| first < **place) {
            if let Some(served) = self.served.get_mut(pool) {
                let lines = served.lines_like(&line.key);
                lines.remove(&(*place, id));
                lines.insert((first, id));
            }
            *place = first;
        }
    }

    fn stop_serving(&mut self, pool: PoolId, place: Precedence, line: LineId, key: &LineKey) {
        if let Some(served) = self.served.get_mut(&pool) {
            served.lines_like(key).remove(&(place, line));
            if served.is_empty() {
                self.served.remove(&pool);
            }
        }
    }

    /// Counts a call among its owner's; returns the owner's turn.
    fn count_in(&mut self, id: u64, call: CallId) -> u64 {
        let turn = self.turns;
        let owner = self.owners.entry(id).or_insert_with(|| Owner { turn, calls: BTreeSet::new() });
        self.by_share.remove(&(owner.calls.len(), id));
        owner.calls.insert(call);
        self.by_share.insert((owner.calls.len(), id));
        self.count += 1;
        owner.turn
    }

    fn count_out(&mut self, id: u64, call: CallId) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        self.by_share.remove(&(owner.calls.len(), id));
        self.count -= usize::from(owner.calls.remove(&call));
        match owner.calls.len() {
            0 => drop(self.owners.remove(&id)),
            share => drop(self.by_share.insert((share, id))),
        }
    }
}

impl Line {
    fn new(key: LineKey) -> Self {
        Self {
            key,
            owners: BTreeMap::new(),
            heads: BTreeSet::new(),
            grade: None,
            pools: BTreeMap::new(),
            last_place: (0, CallId(0)),
            absent: Vec::new(),
        }
    }

    /// Its first call, by a lower bound of its owner's turn.
    fn head(&self) -> Option<Precedence> {
        self.heads.first().map(|(turn, call, _)| (*turn, *call))
    }

    fn add(&mut self, owner: u64, turn: u64, call: CallId) {
        let stand = self.owners.entry(owner).or_insert_with(|| Stand { bound: turn, calls: BTreeSet::new() });
        let before = stand.calls.first().copied();
        stand.calls.insert(call);
        if before.is_none_or(|first| call < first) {
            if let Some(first) = before {
                self.heads.remove(&(stand.bound, first, owner));
            }
            self.heads.insert((stand.bound, call, owner));
        }
    }

    fn take(&mut self, owner: u64, call: CallId) {
        let Some(stand) = self.owners.get_mut(&owner) else { return };
        stand.calls.remove(&call);
        if self.heads.remove(&(stand.bound, call, owner))
            && let Some(next) = stand.calls.first()
        {
            self.heads.insert((stand.bound, *next, owner));
        }
        if stand.calls.is_empty() {
            self.owners.remove(&owner);
        }
    }

    /// The precedence of its first call. Repairs the bounds on the way.
    fn first(&mut self, owners: &BTreeMap<u64, Owner>) -> Option<Precedence> {
        loop {
            let (bound, call, owner) = *self.heads.first()?;
            let turn = owners.get(&owner).map_or(bound, |owner| owner.turn);
            if turn <= bound {
                return Some((bound, call));
            }
            self.heads.pop_first();
            self.heads.insert((turn, call, owner));
            if let Some(stand) = self.owners.get_mut(&owner) {
                stand.bound = turn;
            }
        }
    }
}

/// The most empty lines: each stands at all pools that can take its calls, which takes some 80 bytes for each.
pub(super) const EMPTY_LINES_MAX: usize = 16;

//! Calls that wait for a worker, indexed by what they wait for.
//!
//! Calls that the same workers can take stand in one *line*. Owners take turns in it, and each owner's oldest call is
//! first. A line stands in the *queues* of a few stations, where workers that declare its method alike look for calls.
//! Each queue orders its lines by their next call.
//!
//! A place in a line, and a line's place in a queue, are lower bounds. An owner's turn only grows while its calls wait,
//! so a stale bound is found and repaired when it is first in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    WaitPolicy,
    queue::{LineId, Place, Precedence, QueueId},
    view::View,
};
use crate::proto::{
    fault::{Fault, count_step, planted},
    message::{CallId, Codec},
    registry::{Distinction, MethodId, PoolId, Station},
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

impl LineKey {
    pub(super) fn queue(&self, station: Station) -> QueueId {
        QueueId { station, exceeds: self.distinction.exceeds, is_large: self.is_large }
    }
}

#[derive(Debug)]
struct Line {
    key: LineKey,
    /// The calls of each owner in it.
    owners: BTreeMap<u64, Stand>,
    /// Each owner's oldest call, by a lower bound of the owner's turn.
    heads: BTreeSet<(u64, CallId, u64)>,
    /// Where it stands, in order, each with its place in the queue there.
    stations: Vec<(Station, Precedence)>,
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

/// The lines at a station, by lower bounds of their first call's precedence.
#[derive(Debug, Default)]
struct Queue {
    lines: BTreeSet<Place>,
    /// When a line last became the first one.
    stamp: u64,
}

/// The stations of a pool's workers.
pub(crate) trait Crew {
    /// Which pool it is of all that there have been.
    fn born(&self) -> u64;

    /// An upper bound of their number.
    fn station_count(&self) -> usize;

    /// Those with waiting calls, and perhaps others.
    fn stations(&self) -> Vec<Station>;

    /// Whether the workers can take the calls of a queue.
    fn takes_from(&self, queue: QueueId) -> bool;
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: Slab<Line>,
    by_key: BTreeMap<LineKey, LineId>,
    owners: BTreeMap<u64, Owner>,
    /// Owners by their number of calls.
    by_share: BTreeSet<(usize, u64)>,
    queues: BTreeMap<QueueId, Queue>,
    /// The queues, by their stamps.
    stamps: BTreeMap<u64, QueueId>,
    last_stamp: u64,
    /// What pools have seen of the queues.
    views: BTreeMap<PoolId, View>,
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
        let key = self.lines.get_mut(id.0)?.key;
        if key.distinction == distinction {
            return None;
        }
        self.leave(id, owner, call);
        let turn = self.owners.get(&owner).map_or(self.turns, |owner| owner.turn);
        Some(self.join(LineKey { distinction, ..key }, owner, turn, call))
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
        if let Some(first) = line.head().filter(|first| before.is_none_or(|before| *first < before)) {
            self.advance(id, first);
        }
        (id, known.is_none())
    }

    /// Removes a call. Returns the method that it waited for.
    pub(super) fn remove(&mut self, id: LineId, owner: u64, call: CallId) -> Option<MethodId> {
        self.count_out(owner, call);
        let method = self.lines.get_mut(id.0)?.key.method;
        self.leave(id, owner, call);
        Some(method)
    }

    /// Takes a call out of its line, which ends with the last one.
    fn leave(&mut self, id: LineId, owner: u64, call: CallId) {
        let Some(line) = self.lines.get_mut(id.0) else { return };
        line.take(owner, call);
        if line.owners.is_empty()
            && let Some(line) = self.lines.remove(id.0)
        {
            self.by_key.remove(&line.key);
            for (station, place) in line.stations {
                self.leave_queue(line.key.queue(station), (place, id));
            }
        }
    }

    /// Notes the owner's turn: its other calls move behind those of every waiting owner.
    pub(super) fn note_served(&mut self, owner: u64) {
        // Alone, it waits for nobody.
        if self.owners.len() < 2 {
            return;
        }
        self.turns += 1;
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.turn = self.turns;
        }
    }

    /// A queue's first line after a given place, and the precedence of its first call.
    pub(super) fn next(&mut self, id: QueueId, behind: Option<Place>) -> Option<Place> {
        let queue = self.queues.get_mut(&id)?;
        let lower = behind.map_or(Bound::Unbounded, Bound::Excluded);
        loop {
            let (place, line_id) = queue.lines.range((lower, Bound::Unbounded)).next().copied()?;
            let line = self.lines.get_mut(line_id.0)?;
            let first = line.first(&self.owners)?;
            if first <= place {
                return Some((place, line_id));
            }
            queue.lines.remove(&(place, line_id));
            queue.lines.insert((first, line_id));
            line.set_place(id.station, first);
        }
    }

    /// The first line for a pool, and its queue; lines of large calls count only if there is room for these.
    ///
    /// The pool looks only at queues that have a new first line since it last looked, or at all of its own stations, if
    /// these are fewer.
    pub(super) fn next_for(&mut self, pool: PoolId, is_roomy: bool, crew: &impl Crew) -> Option<(Place, QueueId)> {
        self.catch_up(pool, crew);
        if self.views.get(&pool).is_some_and(View::is_full) {
            let queues = self.queues_for(crew).into_iter().filter(|id| is_roomy || !id.is_large);
            return queues.filter_map(|id| Some((self.next(id, None)?, id))).min();
        }
        loop {
            let (bound, id) = self.views.get(&pool)?.first(is_roomy)?;
            let next = self.next(id, None);
            let view = self.views.get_mut(&pool)?;
            match next {
                None => view.forget(id),
                Some(place) if place.0 <= bound => return Some((place, id)),
                Some(place) => view.set(id, place.0),
            }
        }
    }

    /// The queues where a pool may find calls.
    pub(super) fn queues_for(&self, crew: &impl Crew) -> Vec<QueueId> {
        let queues = crew.stations().into_iter().flat_map(|station| queues_at(&self.queues, station));
        queues.filter(|id| crew.takes_from(*id)).collect()
    }

    fn catch_up(&mut self, pool: PoolId, crew: &impl Crew) {
        let view = self.views.entry(pool).or_default();
        if view.born != crew.born() {
            *view = View::of(crew.born(), crew.station_count());
        }
        if view.seen > 0 && planted(Fault::RouseMissed) {
            return;
        }
        let seen = std::mem::replace(&mut view.seen, self.last_stamp);
        let own = crew.station_count();
        let news: Vec<_> = self.stamps.range(seen + 1..).map(|(_, id)| *id).take(own + 1).collect();
        let is_behind = news.len() > own || view.is_full() && !news.is_empty();
        let news = if is_behind { self.queues_for(crew) } else { news };
        let Some(view) = self.views.get_mut(&pool) else { return };
        if is_behind {
            view.clear();
        }
        for id in news.into_iter().filter(|id| is_behind || crew.takes_from(*id)) {
            count_step();
            if let Some((first, _)) = self.queues.get(&id).and_then(|queue| queue.lines.first()) {
                view.set(id, *first);
            }
        }
    }

    /// The queues of a station.
    pub(super) fn queues_at(&self, station: Station) -> Vec<QueueId> {
        queues_at(&self.queues, station).collect()
    }

    /// Makes a line stand at these stations, and at no others. Returns whether that is new.
    pub(super) fn retarget(&mut self, id: LineId, stations: &[Station]) -> bool {
        let Some(line) = self.lines.get_mut(id.0) else { return false };
        let Some(first) = line.first(&self.owners) else { return false };
        if line.stations.iter().map(|(station, _)| station).eq(stations) {
            return false;
        }
        let key = line.key;
        let stations: Vec<_> = stations.iter().map(|station| (*station, first)).collect();
        for (station, place) in std::mem::replace(&mut line.stations, stations.clone()) {
            self.leave_queue(key.queue(station), (place, id));
        }
        stations.into_iter().for_each(|(station, first)| self.enter_queue(key.queue(station), (first, id)));
        true
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

    /// The next `max` calls in a line behind one of them, owner by owner.
    pub(super) fn calls_in(&self, id: LineId, behind: Option<(u64, CallId)>, max: usize) -> Vec<(u64, CallId)> {
        let Some(line) = self.lines.get(id.0) else { return Vec::new() };
        let first = behind.map_or(0, |(owner, _)| owner);
        let calls_behind = |(owner, stand): (&u64, &'_ Stand)| {
            let call = behind.filter(|(of, _)| of == owner).map_or(Bound::Unbounded, |(_, call)| Bound::Excluded(call));
            let calls = stand.calls.range((call, Bound::Unbounded)).take(max);
            calls.map(|call| (*owner, *call)).collect::<Vec<_>>()
        };
        line.owners.range(first..).flat_map(calls_behind).take(max).collect()
    }

    pub(super) fn method_of(&self, id: LineId) -> Option<MethodId> {
        self.lines.get(id.0).map(|line| line.key.method)
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

    /// The places of all lines at their stations.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.by_key.values().filter_map(|id| self.lines.get(id.0)).map(|line| line.stations.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn has_queues(&self) -> bool {
        !(self.queues.is_empty() && self.stamps.is_empty() && self.by_key.is_empty())
    }

    /// Moves a line forward in its queues: a new call precedes the others in it.
    fn advance(&mut self, id: LineId, first: Precedence) {
        let Some(line) = self.lines.get_mut(id.0) else { return };
        let (key, mut moved) = (line.key, Vec::new());
        for (station, place) in line.stations.iter_mut().filter(|(_, place)| first < *place) {
            moved.push((*station, std::mem::replace(place, first)));
        }
        for (station, place) in moved {
            self.leave_queue(key.queue(station), (place, id));
            self.enter_queue(key.queue(station), (first, id));
        }
    }

    fn enter_queue(&mut self, id: QueueId, place: Place) {
        let queue = self.queues.entry(id).or_default();
        queue.lines.insert(place);
        if queue.lines.first() == Some(&place) {
            self.last_stamp += 1;
            self.stamps.remove(&std::mem::replace(&mut queue.stamp, self.last_stamp));
            self.stamps.insert(self.last_stamp, id);
        }
    }

    fn leave_queue(&mut self, id: QueueId, place: Place) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.lines.remove(&place);
        if queue.lines.is_empty() {
            self.stamps.remove(&queue.stamp);
            self.queues.remove(&id);
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
        if self.owners.is_empty() {
            self.views.clear();
        }
    }
}

impl Line {
    fn new(key: LineKey) -> Self {
        Self { key, owners: BTreeMap::new(), heads: BTreeSet::new(), stations: Vec::new() }
    }

    /// Its first call, by a lower bound of its owner's turn.
    fn head(&self) -> Option<Precedence> {
        self.heads.first().map(|(turn, call, _)| (*turn, *call))
    }

    fn set_place(&mut self, station: Station, place: Precedence) {
        if let Ok(at) = self.stations.binary_search_by_key(&station, |(station, _)| *station) {
            self.stations[at].1 = place;
        }
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

fn queues_at(queues: &BTreeMap<QueueId, Queue>, station: Station) -> impl Iterator<Item = QueueId> {
    let first = QueueId { station, exceeds: None, is_large: false };
    queues.range(first..).map(|(id, _)| *id).take_while(move |id| id.station == station)
}

//! Open calls and registered workers: who can take a call, and which calls wait for whom.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::sweep::Sweep;
use crate::proto::{
    calls::{Call, Calls, Crew, LineId, Place, QueueId, WaitPolicy},
    fault::{Fault, count_step, planted},
    message::{CallId, Peer},
    registry::{Changed, IsFull, MethodId, Outlook, PoolId, Registry, Route, Station, WorkerChoice},
};

/// See the module.
///
/// The registry keeps a method's number while a call waits for it.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) registry: Registry,
    calls: Calls,
    choice: Box<dyn WorkerChoice>,
    /// The method whose calls are distinguished anew, and those that still are to be.
    distinguishing: Option<MethodId>,
    undistinguished: Sweep,
    /// Lines that are still to follow changed offers.
    unfollowed: BTreeSet<LineId>,
    /// Calls to end, if no worker can take them any more and they may not wait for one.
    hopeless: Sweep,
}

/// What changed offers mean to waiting calls.
#[derive(Debug, Default)]
pub(super) struct Prospects {
    /// Where calls wait that did not before: there may be a free worker.
    pub(super) stations: BTreeSet<Station>,
    /// The calls, lines and stations that were looked at.
    pub(super) looks: usize,
}

/// Where a walk through waiting calls starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// With the workers of a pool, which may take calls at several stations.
    Pool(PoolId),
    Stations(BTreeSet<Station>),
}

/// A walk through waiting calls, as long as there are free workers for them. Owners take turns, each one's oldest call
/// first.
#[derive(Debug)]
pub(super) struct Walk {
    pool: Option<PoolId>,
    /// Once a call waits on, or if it has started at stations: the next line of each queue.
    steps: Option<BinaryHeap<Reverse<Step>>>,
    /// The largest limit of the workers with room at each station, for small calls and for large ones, and how many calls
    /// had gone when it was asked. It may be less by now.
    reaches: BTreeMap<(Station, bool), (Option<u64>, usize)>,
    /// The calls that have gone since it started.
    gone: usize,
    /// The queues and steps that were looked at.
    pub(super) looks: usize,
}

impl Walk {
    fn new(pool: Option<PoolId>, steps: Option<BinaryHeap<Reverse<Step>>>) -> Self {
        let looks = steps.as_ref().map_or(0, BinaryHeap::len);
        Self { pool, steps, reaches: BTreeMap::new(), gone: 0, looks }
    }
}

/// A step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    place: Place,
    queue: QueueId,
    /// The last line in the queue whose call waits on.
    behind: Option<Place>,
}

impl Step {
    pub(super) fn call(&self) -> CallId {
        let ((_, call), _) = self.place;
        call
    }
}

/// The workers of one pool.
struct Members<'a>(&'a Registry, PoolId);

impl Crew for Members<'_> {
    fn born(&self) -> u64 {
        self.0.born(self.1)
    }

    fn station_count(&self) -> usize {
        self.0.station_count(self.1)
    }

    fn stations(&self) -> Vec<Station> {
        self.0.stations_of(self.1)
    }

    fn takes_from(&self, queue: QueueId) -> bool {
        self.0.stands_at(self.1, queue.station) && self.0.takes_beyond(self.1, queue.exceeds)
    }
}

impl Placement {
    pub(super) fn new(registry: Registry, choice: Box<dyn WorkerChoice>) -> Self {
        Self {
            registry,
            calls: Calls::default(),
            choice,
            distinguishing: None,
            undistinguished: Sweep::default(),
            unfollowed: BTreeSet::new(),
            hopeless: Sweep::default(),
        }
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn calls_mut(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// Removes a call, and its place in line.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.dequeue(id);
        self.calls.remove(id)
    }

    /// Finds a worker for a call; `None` if the call has ended.
    pub(super) fn route(&mut self, id: CallId, is_full: &IsFull<'_>) -> Option<Route> {
        let call = self.calls.get(id)?;
        Some(self.registry.route(&mut *self.choice, &call.need(), is_full))
    }

    /// Gives a call to a worker with that declaration of its method; takes no credit yet.
    pub(super) fn assign(&mut self, id: CallId, worker: Peer, idempotent: bool) -> Option<&mut Call> {
        self.dequeue(id);
        self.calls.send(id, worker, idempotent)
    }

    /// Puts a call in line that no worker can take now.
    pub(super) fn enqueue(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let method = self.registry.wait(&call.spec.service, &call.spec.method);
        let distinction = self.registry.distinguish(method, &call.need());
        if let Some(line) = self.calls.enqueue(id, method, distinction) {
            self.follow(line, &mut Prospects::default());
        }
    }

    /// Starts a walk.
    pub(super) fn walk_from(&mut self, start: &Start) -> Walk {
        match start {
            Start::Pool(pool) => Walk::new(Some(*pool), None),
            Start::Stations(stations) => {
                let free: Vec<_> = stations.iter().filter(|station| self.registry.is_free_at(**station)).collect();
                let queues: Vec<_> = free.into_iter().flat_map(|station| self.calls.queues_at(*station)).collect();
                Walk::new(None, Some(self.steps(queues, None)))
            }
        }
    }

    /// The next step of a walk: a call that waits, and a free worker that may take it.
    pub(super) fn next(&mut self, walk: &mut Walk, is_full: &IsFull<'_>) -> Option<Step> {
        let Self { registry, calls, .. } = self;
        let Some(steps) = &mut walk.steps else {
            let pool = walk.pool.filter(|pool| registry.is_free(*pool))?;
            let members = Members(registry, pool);
            let (place, queue) = calls.next_for(pool, true, &members)?;
            let step = Step { place, queue, behind: None };
            if !queue.is_large || self.registry.is_roomy(pool, is_full) {
                return Some(step);
            }
            let members = Members(&self.registry, pool);
            let (place, queue) = self.calls.next_for(pool, false, &members)?;
            return Some(Step { place, queue, behind: None });
        };
        while let Some(Reverse(step)) = steps.pop() {
            // Its owner may have had a turn since it was noted.
            let place = calls.next_in(step.queue, step.behind);
            if place != Some(step.place) {
                steps.extend(place.map(|place| Reverse(Step { place, ..step })));
                continue;
            }
            walk.looks += 1;
            let QueueId { station, exceeds, is_large } = step.queue;
            let has_worker = match walk.pool {
                Some(pool) => registry.is_free(pool) && (!is_large || registry.is_roomy(pool, is_full)),
                None => {
                    registry.is_free_at(station) && {
                        let ask = || (registry.largest_roomy_at(station, is_large, is_full), walk.gone);
                        let (limit, _) = walk.reaches.entry((station, is_large)).or_insert_with(ask);
                        limit.is_some_and(|limit| exceeds.is_none_or(|exceeds| limit > exceeds))
                    }
                }
            };
            if has_worker {
                return Some(step);
            }
        }
        None
    }

    /// Goes on after a step: behind it if its call waits on.
    pub(super) fn go_on(&mut self, walk: &mut Walk, step: Step, waits_on: bool) {
        walk.gone += usize::from(!waits_on);
        let at = (step.queue.station, step.queue.is_large);
        if waits_on && walk.reaches.get(&at).is_some_and(|(_, gone)| *gone < walk.gone) {
            walk.reaches.remove(&at);
        }
        let behind = if waits_on { Some(step.place) } else { step.behind };
        if let Some(steps) = &mut walk.steps {
            let place = self.calls.next_in(step.queue, behind);
            steps.extend(place.map(|place| Reverse(Step { place, behind, ..step })));
        } else if let Some(pool) = walk.pool.filter(|_| waits_on) {
            let queues = self.calls.queues_for(&Members(&self.registry, pool));
            walk.steps = Some(self.steps(queues, behind));
        }
    }

    fn steps(&mut self, queues: impl IntoIterator<Item = QueueId>, behind: Option<Place>) -> BinaryHeap<Reverse<Step>> {
        let steps = queues.into_iter().filter_map(|queue| {
            let place = self.calls.next_in(queue, behind)?;
            Some(Reverse(Step { place, queue, behind }))
        });
        steps.collect()
    }

    /// Whether calls are still to follow changed offers.
    pub(super) fn is_behind(&self) -> bool {
        let is_distinguishing = self.distinguishing.is_some();
        is_distinguishing || !self.unfollowed.is_empty() || !self.hopeless.is_empty() || self.registry.has_changed()
    }

    /// Follows changed offers of methods that calls wait for, up to a number of looks at calls, lines and stations.
    pub(super) fn follow_offers(&mut self, looks_max: usize) -> Prospects {
        let mut prospects = Prospects::default();
        while prospects.looks < looks_max {
            let calls = self.undistinguished.next(&self.calls, looks_max - prospects.looks);
            if !calls.is_empty() {
                self.distinguish(calls, &mut prospects);
            } else if let Some(method) = self.distinguishing.take() {
                self.unfollowed = self.calls.lines_of(method).into_iter().collect();
            } else if let Some(line) = self.unfollowed.pop_first() {
                self.follow(line, &mut prospects);
            } else if let Some((method, changed)) = self.registry.take_changed() {
                self.distinguishing = Some(method);
                if let Changed::Distinctions = changed {
                    self.undistinguished.add(self.calls.lines_of(method));
                }
            } else {
                break;
            }
        }
        prospects
    }

    /// Takes the next calls that have become hopeless, `max` at most; `None` for one that a worker can take again.
    pub(super) fn next_hopeless(&mut self, max: usize) -> Vec<Option<CallId>> {
        let calls = self.hopeless.next(&self.calls, max);
        calls.into_iter().map(|id| Some(id).filter(|id| self.is_hopeless(*id))).collect()
    }

    /// Puts a line where workers can take its calls.
    fn follow(&mut self, line: LineId, prospects: &mut Prospects) {
        count_step();
        let Some(need) = self.calls.need_of(line) else { return };
        let stations = self.registry.stations(&need);
        let at = stations.as_deref().unwrap_or_default();
        prospects.looks += 1 + at.len();
        if self.calls.retarget(line, at) {
            prospects.stations.extend(at);
        }
        // Its calls wait alike.
        if stations.is_err() && self.calls.any_in(line).is_some_and(|id| self.is_hopeless(id)) {
            self.hopeless.add([line]);
        }
    }

    /// Puts calls into the lines of what distinguishes them now.
    fn distinguish(&mut self, calls: Vec<CallId>, prospects: &mut Prospects) {
        prospects.looks += calls.len();
        for id in calls {
            let Some((call, method)) = self.calls.get(id).zip(self.calls.method_of(id)) else { continue };
            let distinction = self.registry.distinguish(method, &call.need());
            // Its calls must not stand nowhere until all others are distinguished.
            if let Some(line) = self.calls.distinguish(id, distinction) {
                self.follow(line, prospects);
            }
        }
    }

    /// Whether no worker can take a waiting call, which may not wait for one.
    fn is_hopeless(&self, id: CallId) -> bool {
        let Some(call) = self.calls.get(id) else { return false };
        let outlook = self.registry.stations(&call.need()).err();
        outlook.is_some_and(|outlook| is_hopeless(&outlook, call.spec.wait_policy)) && !planted(Fault::NobodyAwaited)
    }

    /// Takes a call out of its line, if it waits.
    pub(super) fn dequeue(&mut self, id: CallId) {
        if let Some(method) = self.calls.dequeue(id) {
            self.registry.stop_awaiting(method);
        }
    }
}

/// Whether a call should not wait for a better outlook. A service may still appear, which is worth a wait; a worker
/// with the service but without the method, the codec, or a sufficient limit, shows a mistake.
pub(super) fn is_hopeless(outlook: &Outlook, policy: WaitPolicy) -> bool {
    *outlook != Outlook::NoService || policy != WaitPolicy::UntilDeadline
}

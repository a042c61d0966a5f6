//! Open calls and registered workers: who can take a call, and which calls wait for whom.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

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
}

/// What changed offers mean to waiting calls.
#[derive(Debug, Default)]
pub(super) struct Prospects {
    /// The calls that no worker can take any more, and that may not wait for one.
    pub(super) hopeless: Vec<CallId>,
    /// Where calls wait that did not before: there may be a free worker.
    pub(super) stations: BTreeSet<Station>,
    /// The calls, lines and stations that were looked at.
    pub(super) looks: usize,
}

/// Where a walk through waiting calls starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// With the workers of a pool, which may take calls at several stations.
    Pool(PoolId),
    Station(Station),
}

/// A walk through waiting calls, as long as there are free workers where it has started. Owners take turns, each one's
/// oldest call first.
#[derive(Debug)]
pub(super) struct Walk {
    start: Start,
    /// Once a call waits on, or if it has started at a station: the next line of each queue.
    steps: Option<BinaryHeap<Reverse<Step>>>,
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
        Self { registry, calls: Calls::default(), choice }
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
    pub(super) fn walk_from(&mut self, start: Start) -> Walk {
        let steps = match start {
            Start::Pool(_) => None,
            Start::Station(station) => Some(self.steps(self.calls.queues_at(station), None)),
        };
        Walk { start, steps }
    }

    /// The next step of a walk. Large calls count only if there is room for them.
    pub(super) fn next(&mut self, walk: &mut Walk, is_roomy: bool) -> Option<Step> {
        let Self { registry, calls, .. } = self;
        let is_free = match walk.start {
            Start::Pool(pool) => registry.is_free(pool),
            Start::Station(station) => registry.is_free_at(station),
        };
        match (&mut walk.steps, walk.start) {
            _ if !is_free => None,
            (Some(steps), _) => {
                let steps = std::iter::from_fn(|| steps.pop()).map(|Reverse(step)| step);
                steps.into_iter().find(|step| is_roomy || !step.queue.is_large)
            }
            (None, Start::Pool(pool)) => {
                let (place, queue) = calls.next_for(pool, is_roomy, &Members(registry, pool))?;
                Some(Step { place, queue, behind: None })
            }
            (None, Start::Station(_)) => None,
        }
    }

    /// Goes on after a step: behind it if its call waits on.
    pub(super) fn go_on(&mut self, walk: &mut Walk, step: Step, waits_on: bool) {
        let behind = if waits_on { Some(step.place) } else { step.behind };
        match (&mut walk.steps, walk.start) {
            (Some(steps), _) => {
                let place = self.calls.next_in(step.queue, behind);
                steps.extend(place.map(|place| Reverse(Step { place, behind, ..step })));
            }
            (None, Start::Pool(pool)) if waits_on => {
                let queues = self.calls.queues_of(pool);
                walk.steps = Some(self.steps(queues, behind));
            }
            (None, _) => {}
        }
    }

    /// Whether a free worker there has room for a large call in its window.
    pub(super) fn is_roomy(&mut self, start: Start, is_full: &IsFull<'_>) -> bool {
        match start {
            Start::Pool(pool) => self.registry.is_roomy(pool, is_full),
            Start::Station(station) => self.registry.is_roomy_at(station, is_full),
        }
    }

    fn steps(&mut self, queues: impl IntoIterator<Item = QueueId>, behind: Option<Place>) -> BinaryHeap<Reverse<Step>> {
        let steps = queues.into_iter().filter_map(|queue| {
            let place = self.calls.next_in(queue, behind)?;
            Some(Reverse(Step { place, queue, behind }))
        });
        steps.collect()
    }

    /// Follows changed offers of methods that calls wait for, until it has looked at so many of them.
    pub(super) fn follow_offers(&mut self, looks_max: usize) -> Prospects {
        for pool in self.registry.take_gone() {
            self.calls.forget_pool(pool);
        }
        let mut prospects = Prospects::default();
        while prospects.looks < looks_max
            && let Some((method, changed)) = self.registry.take_changed()
        {
            if let Changed::Distinctions = changed {
                self.distinguish(method, &mut prospects);
            }
            for line in self.calls.lines_of(method) {
                self.follow(line, &mut prospects);
            }
        }
        prospects
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
        if let Err(outlook) = stations {
            prospects.hopeless.extend(self.hopeless_in(line, &outlook));
        }
    }

    /// Puts the calls that wait for a method into the lines of what distinguishes them now.
    fn distinguish(&mut self, method: MethodId, prospects: &mut Prospects) {
        let lines = self.calls.lines_of(method);
        let calls: Vec<_> = lines.into_iter().flat_map(|line| self.calls.in_line(line)).collect();
        prospects.looks += calls.len();
        for id in calls {
            let Some(call) = self.calls.get(id) else { continue };
            let distinction = self.registry.distinguish(method, &call.need());
            self.calls.distinguish(id, distinction);
        }
    }

    fn hopeless_in(&self, line: LineId, outlook: &Outlook) -> Vec<CallId> {
        let calls = self.calls.in_line(line);
        let policy = calls.first().and_then(|id| self.calls.get(*id)).map(|call| call.spec.wait_policy);
        let is_awaited = policy.is_none_or(|policy| !is_hopeless(outlook, policy)) || planted(Fault::NobodyAwaited);
        if is_awaited { Vec::new() } else { calls }
    }

    fn dequeue(&mut self, id: CallId) {
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

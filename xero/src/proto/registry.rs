//! Registered workers: their offers, leases and credits, and the next one in turn.

mod awaited;
mod changed;
mod choice;
mod ids;
mod index;
mod kind;
mod limits;
mod merged;
#[cfg(test)]
mod model;
mod offer;
mod offered;
mod route;
mod shares;
#[cfg(test)]
mod tests;
mod turns;

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    fault::{Fault, count_step, planted},
    frame::{Limits, OfferRoom},
    ids::IdMap,
    message::{CallId, Names, OfferChange, Peer, Ready},
};
pub(crate) use changed::Changed;
pub use choice::{Candidate, LeastRecentlyUsed, WorkerChoice};
pub(crate) use ids::{IsFull, MethodId, PoolId};
use index::Index;
pub(crate) use kind::Station;
pub(crate) use merged::Listing;
pub(crate) use offer::{Draft, Offer, draft_bytes};
pub(crate) use route::{Distinction, Need, Outlook, Route};

/// The most credits that are believed of a worker: more requests than any process runs at once.
const CREDITS_MAX: u32 = 65_536;

/// A registered worker.
#[derive(Debug)]
pub(crate) struct WorkerEntry {
    pub(crate) incarnation: Uuid,
    pub(crate) payload_bytes_max: u64,
    pub(crate) registered_at: Instant,
    pub(crate) draining: bool,
    /// Requests that the worker has not ended; `false` if the caller has already been answered.
    pub(crate) in_flight: IdMap<CallId, bool>,
    /// Whether its connection may be dead, because its process has made another one. It gets no request, but its
    /// services stay offered.
    is_doubted: bool,
    /// Whether its offer is about to change. The same holds then.
    is_suspended: bool,
    /// Whether it has to acknowledge some of its requests before it gets another. The same holds then.
    is_clogged: bool,
    credits: u32,
    /// Whether it has had credits since its introduction: a pause differs from an offer that nobody can use.
    was_callable: bool,
    offer: Arc<Offer>,
    place: Place,
}

/// A worker's place in the index.
#[derive(Clone, Copy, Debug)]
struct Place {
    pool: PoolId,
    /// The turn in which it was last used, or became free.
    turn: u64,
    standing: Standing,
    /// Whether it is free and has no request.
    is_vacant: bool,
}

/// What a worker counts as in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It takes no requests.
    Idle,
    /// It takes requests, now or later.
    Serving,
    /// It takes requests now.
    Free,
}

impl WorkerEntry {
    pub(crate) fn credits(&self) -> u32 {
        self.credits
    }

    pub(crate) fn method_count(&self) -> usize {
        self.offer.method_count()
    }

    /// Its requests, the oldest first, and whether their callers still wait.
    pub(crate) fn requests(&self) -> Vec<(CallId, bool)> {
        let mut requests: Vec<_> = self.in_flight.iter().map(|(call, wanted)| (*call, *wanted)).collect();
        requests.sort_unstable();
        requests
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.offer.services.iter().map(|service| &service.name)
    }

    fn standing(&self) -> Standing {
        let credits = self.credits as usize + usize::from(planted(Fault::CreditExceeded));
        match () {
            () if self.draining || !(self.was_callable || planted(Fault::SquatterHeard)) => Standing::Idle,
            () if self.is_doubted && !planted(Fault::GhostTrusted) => Standing::Serving,
            () if self.is_suspended || self.is_clogged => Standing::Serving,
            () if self.in_flight.len() >= credits => Standing::Serving,
            () => Standing::Free,
        }
    }
}

/// What a registered worker is to be.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) draft: Draft,
    /// Its new introduction, if there is one, without the services.
    pub(crate) ready: Option<Ready>,
    /// What it has said of its credits since.
    pub(crate) credits: Option<Credits>,
}

/// Several messages about credits, in one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credits {
    pub(crate) last: u32,
    /// Whether one of them granted any.
    pub(crate) were_any: bool,
}

/// What a change of an offer has cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfferCost {
    /// Whether the worker's part in the merged offer is another one now.
    pub(crate) is_other: bool,
    /// The methods and services that were looked at.
    pub(crate) methods: usize,
}

/// The registered workers of a dispatcher.
///
/// Workers *serve* if they have had credits and do not drain. The others' services are not offered: nobody can call
/// them.
#[derive(Debug)]
pub(crate) struct Registry {
    workers: IdMap<Peer, Box<WorkerEntry>>,
    /// The keys of `workers`, in order.
    peers: BTreeSet<Peer>,
    index: Index,
    /// The most memory of all offers, estimated.
    offers_bytes_max: u64,
    turns: u64,
    /// The worker of this turn's last requests, and how many have gone there in a row: another one travels with them.
    written: Option<(Peer, usize)>,
    /// Choices that were not candidates.
    stray_choices: u64,
}

impl Registry {
    /// A registry of offers within this memory, that lists them as far as an introduction under these limits has room.
    pub(crate) fn new(limits: &Limits, offers_bytes_max: u64) -> Self {
        Self {
            workers: IdMap::default(),
            peers: BTreeSet::new(),
            index: Index::new(OfferRoom::of(limits)),
            offers_bytes_max,
            turns: 0,
            written: None,
            stray_choices: 0,
        }
    }

    /// Checks whether there is memory for a worker's offer.
    ///
    /// # Errors
    /// What to do about it.
    pub(crate) fn check_room(&self, peer: Peer, offer: &Offer) -> Result<(), String> {
        let max = self.offers_bytes_max;
        match self.index.has_room(self.pool_of(peer), offer, max) {
            true => Ok(()),
            false => Err(format!("the offers of other workers leave no room in {max} bytes; raise `offers_bytes_max`")),
        }
    }

    /// Registers a worker with its offer.
    pub(crate) fn register(&mut self, now: Instant, peer: Peer, ready: &Ready, offer: Offer) {
        if planted(Fault::OffersWalked) {
            let offers = self.workers.values().flat_map(|worker| &worker.offer.services);
            offers.flat_map(|service| &service.methods).for_each(|_| count_step());
        }
        self.add(now, peer, ready, offer);
        self.refresh(peer);
    }

    /// Whether another introduction of a registered worker changes neither what it offers nor whether that counts.
    pub(crate) fn is_as_before(&self, peer: Peer, ready: &Ready, offer: &Offer) -> bool {
        let is_same = |worker: &WorkerEntry| *worker.offer == *offer && worker.was_callable == (ready.credits > 0);
        self.get(peer).is_some_and(is_same)
    }

    /// Whether a change of services makes no difference.
    pub(crate) fn is_as_after(&self, peer: Peer, change: &OfferChange) -> bool {
        self.get(peer).is_some_and(|worker| worker.offer.is_as_after(change))
    }

    /// A worker's offer, to be changed.
    pub(crate) fn draft(&self, peer: Peer) -> Option<Draft> {
        self.get(peer).map(|worker| Draft::of((*worker.offer).clone()))
    }

    /// Suspends a worker whose offer is about to change: it gets no request by the former one, which counts until then.
    pub(crate) fn suspend(&mut self, peer: Peer) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.is_suspended = true;
            self.refresh(peer);
        }
    }

    /// Renews a worker: its introduction, its offer and its credits, in one.
    ///
    /// # Errors
    /// The result exceeds the limits of an introduction, or the memory: what to do about it.
    pub(crate) fn renew(&mut self, peer: Peer, renewal: Renewal) -> Result<OfferCost, String> {
        let Some(worker) = self.workers.get_mut(&peer) else { return Ok(OfferCost { is_other: false, methods: 0 }) };
        let Renewal { draft, ready, credits } = renewal;
        let was_serving = worker.standing() != Standing::Idle;
        if let Some(ready) = &ready {
            worker.incarnation = ready.incarnation;
            worker.payload_bytes_max = ready.payload_bytes_max;
            worker.credits = ready.credits.min(CREDITS_MAX);
            worker.was_callable = ready.credits > 0;
        }
        if let Some(credits) = credits {
            worker.credits = credits.last.min(CREDITS_MAX);
            worker.was_callable |= credits.were_any;
        }
        worker.is_suspended = false;
        let serves_as_before = was_serving == (worker.standing() != Standing::Idle);
        let offer = draft.finish();
        let methods = worker.offer.method_count() + offer.method_count();
        let is_other = *worker.offer != offer;
        if is_other {
            if ready.is_none() {
                self.index.check_limits(&offer).map_err(|limit| limit.to_string())?;
            }
            self.check_room(peer, &offer)?;
            self.replace_offer(peer, offer);
        }
        self.refresh(peer);
        // Its window may be larger.
        self.note_room(peer);
        Ok(OfferCost { is_other: is_other || !serves_as_before, methods })
    }

    pub(crate) fn remove(&mut self, peer: Peer) -> Option<Box<WorkerEntry>> {
        self.withdraw(peer);
        let worker = self.workers.remove(&peer)?;
        self.peers.remove(&peer);
        self.index.part(worker.place.pool);
        Some(worker)
    }

    /// Notes a request to the worker: it takes a credit, and the worker moves to the end of the line.
    pub(crate) fn take_credit(&mut self, peer: Peer, call: CallId) {
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        worker.in_flight.insert(call, true);
        let place = &mut worker.place;
        if place.standing == Standing::Free {
            place.standing = Standing::Serving;
            self.index.fill(place.pool, (place.turn, peer));
        }
        self.refresh(peer);
    }

    /// Notes that a request leaves for a worker in this turn.
    pub(crate) fn note_written(&mut self, peer: Peer) {
        let before = self.written.filter(|(last, _)| *last == peer).map_or(0, |(_, run)| run);
        self.written = Some((peer, before + 1));
    }

    /// Notes that what the turn has written is on its way.
    pub(crate) fn end_turn(&mut self) {
        self.written = None;
    }

    /// Notes the end of a request. `Some(true)` if its caller still waits; `None` if it was not in flight.
    pub(crate) fn return_credit(&mut self, peer: Peer, call: CallId) -> Option<bool> {
        let worker = self.workers.get_mut(&peer)?;
        let wanted = worker.in_flight.remove(&call)?;
        if planted(Fault::CreditLost) && !wanted {
            worker.in_flight.insert(call, wanted);
            return Some(false);
        }
        self.refresh(peer);
        Some(wanted)
    }

    /// Notes that the caller has an answer while the worker keeps the request, whose credit stays taken.
    pub(crate) fn abandon(&mut self, peer: Peer, call: CallId) {
        if let Some(wanted) = self.workers.get_mut(&peer).and_then(|worker| worker.in_flight.get_mut(&call)) {
            *wanted = false;
        }
    }

    pub(crate) fn set_credits(&mut self, peer: Peer, credits: u32) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.credits = credits.min(CREDITS_MAX);
            worker.was_callable |= credits > 0;
            self.refresh(peer);
        }
    }

    /// Sets whether the worker's connection may be dead.
    pub(crate) fn set_doubted(&mut self, peer: Peer, is_doubted: bool) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.is_doubted = is_doubted;
            self.refresh(peer);
        }
    }

    /// Sets whether the worker has to acknowledge some of its requests before it gets another.
    pub(crate) fn set_clogged(&mut self, peer: Peer, is_clogged: bool) {
        if let Some(worker) = self.workers.get_mut(&peer)
            && worker.is_clogged != is_clogged
        {
            worker.is_clogged = is_clogged;
            self.refresh(peer);
        }
    }

    pub(crate) fn set_draining(&mut self, peer: Peer) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.draining = !planted(Fault::DrainIgnored);
            self.refresh(peer);
        }
    }

    /// Keeps a method's number for a waiting call, until it is released.
    pub(crate) fn wait(&mut self, service: &Arc<str>, method: &Arc<str>) -> MethodId {
        self.index.wait(service, method)
    }

    /// Notes that a call does not wait for the method any more.
    pub(crate) fn stop_awaiting(&mut self, method: MethodId) {
        self.index.stop_awaiting(method);
    }

    /// The next of the methods that calls wait for and whose workers have changed: they take turns.
    pub(crate) fn take_changed(&mut self) -> Option<(MethodId, Changed)> {
        self.index.take_changed()
    }

    /// Whether there is one.
    pub(crate) fn has_changed(&self) -> bool {
        self.index.has_changed()
    }

    /// Which pool it is of all that there have been.
    pub(crate) fn born(&self, pool: PoolId) -> u64 {
        self.index.born(pool)
    }

    /// The most stations that a pool's workers have.
    pub(crate) fn station_count(&self, pool: PoolId) -> usize {
        self.index.station_count(pool)
    }

    /// The stations of a pool's workers where calls may wait.
    pub(crate) fn stations_of(&self, pool: PoolId) -> Vec<Station> {
        self.index.stations_of(pool)
    }

    /// Whether a pool's workers stand at that station.
    pub(crate) fn stands_at(&self, pool: PoolId, station: Station) -> bool {
        self.index.stands_at(pool, station)
    }

    /// Whether a pool's workers take payloads that exceed a limit.
    pub(crate) fn takes_beyond(&self, pool: PoolId, limit: Option<u64>) -> bool {
        self.index.takes_beyond(pool, limit)
    }

    /// The services of serving workers, sorted, as far as an error lists them.
    pub(crate) fn service_names(&mut self) -> Names {
        self.index.service_names()
    }

    /// The methods of serving workers under a service, sorted, as far as an error lists them.
    pub(crate) fn method_names(&mut self, service: &str) -> Names {
        self.index.method_names(service)
    }

    /// The services of serving workers, sorted.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.index.services_offered()
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&WorkerEntry> {
        self.workers.get(&peer).map(|worker| &**worker)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Peer, &WorkerEntry)> {
        self.peers.iter().filter_map(|peer| Some((*peer, self.get(*peer)?)))
    }

    /// Whether no worker is registered.
    pub(crate) fn has_no_worker(&self) -> bool {
        self.workers.is_empty()
    }

    /// The pool of this worker and all workers interchangeable with it.
    pub(crate) fn pool_of(&self, peer: Peer) -> Option<PoolId> {
        self.workers.get(&peer).map(|worker| worker.place.pool)
    }

    /// Whether a serving worker of the pool has free credit.
    pub(crate) fn is_free(&self, pool: PoolId) -> bool {
        self.index.free_of(pool).is_some_and(|free| !free.is_empty())
    }

    /// Whether a worker of that station has free credit.
    pub(crate) fn is_free_at(&mut self, station: Station) -> bool {
        self.index.first_free(station.method, station.kind).is_some()
    }

    /// The largest limit of a station's free workers; if that is for a large payload, of those with room in their windows.
    pub(crate) fn largest_roomy_at(&mut self, station: Station, is_large: bool, is_full: &IsFull<'_>) -> Option<u64> {
        let is_large = is_large && !planted(Fault::RequestWindowExceeded);
        self.index.largest_roomy(station.method, station.kind, is_large, is_full)
    }

    /// Whether the window of one of the pool's free workers has room for a large payload.
    pub(crate) fn is_roomy(&mut self, pool: PoolId, is_full: &IsFull<'_>) -> bool {
        self.index.first_roomy_of(pool, is_full).is_some() || planted(Fault::RequestWindowExceeded)
    }

    /// Notes that a worker's window may have room again.
    pub(crate) fn note_room(&mut self, peer: Peer) {
        if let Some(Place { pool, turn, standing: Standing::Free, .. }) = self.workers.get(&peer).map(|it| it.place) {
            self.index.note_room(pool, (turn, peer));
        }
    }

    /// Whether a serving worker offers the service.
    pub(crate) fn is_offered(&self, service: &str) -> bool {
        self.index.find_service(service).is_some_and(|(_, service)| service.version().is_some())
    }

    /// Changes whenever [`Self::listing`] may have changed.
    pub(crate) fn revision(&self) -> u64 {
        self.index.revision
    }

    /// The merged offer of serving workers, as far as an introduction has room for it.
    pub(crate) fn listing(&self) -> Listing {
        self.index.listing()
    }

    /// The policy's choices that were not candidates.
    pub(crate) fn stray_choices(&self) -> u64 {
        self.stray_choices
    }

    /// Whether the index keeps nothing: no worker, and no line of a call.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.workers.is_empty() && self.index.is_empty()
    }

    fn add(&mut self, now: Instant, peer: Peer, ready: &Ready, offer: Offer) {
        let pool = self.index.join(offer);
        let worker = Box::new(WorkerEntry {
            incarnation: ready.incarnation,
            payload_bytes_max: ready.payload_bytes_max,
            registered_at: now,
            draining: false,
            in_flight: IdMap::default(),
            is_doubted: false,
            is_suspended: false,
            is_clogged: false,
            credits: ready.credits.min(CREDITS_MAX),
            was_callable: ready.credits > 0,
            offer: Arc::clone(self.index.offer_of(pool)),
            place: Place { pool, turn: 0, standing: Standing::Idle, is_vacant: false },
        });
        self.workers.insert(peer, worker);
        self.peers.insert(peer);
    }

    fn replace_offer(&mut self, peer: Peer, offer: Offer) {
        let pool = self.index.join(offer);
        // Before the former offer is removed, so that a service in both stays offered throughout.
        let is_serving = self.workers.get(&peer).is_some_and(|worker| worker.standing() != Standing::Idle);
        if is_serving {
            self.index.enter(pool);
        }
        self.withdraw(peer);
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        let standing = if is_serving { Standing::Serving } else { Standing::Idle };
        let before = std::mem::replace(&mut worker.place, Place { pool, turn: 0, standing, is_vacant: false });
        worker.offer = Arc::clone(self.index.offer_of(pool));
        self.index.part(before.pool);
    }

    /// Removes a worker from the free and the serving ones of its pool.
    fn withdraw(&mut self, peer: Peer) {
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        let Place { pool, turn, standing, is_vacant } = worker.place;
        worker.place.standing = Standing::Idle;
        worker.place.is_vacant = false;
        if is_vacant {
            self.count_vacant(pool, false);
        }
        if standing == Standing::Free {
            self.index.fill(pool, (turn, peer));
        }
        if standing >= Standing::Serving {
            self.index.leave(pool);
        }
    }

    /// Updates the index: whether the worker serves and is free. A worker that becomes free goes to the end of the
    /// line.
    fn refresh(&mut self, peer: Peer) {
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        let (before, standing) = (worker.place, worker.standing());
        let is_vacant = standing == Standing::Free && worker.in_flight.is_empty();
        let place = &mut worker.place;
        (place.standing, place.is_vacant) = (standing, is_vacant);
        if standing >= Standing::Serving && before.standing == Standing::Idle {
            self.index.enter(place.pool);
        }
        if standing == Standing::Free && before.standing != Standing::Free {
            self.turns += 1;
            place.turn = self.turns;
            self.index.free(place.pool, (place.turn, peer));
        }
        if standing != Standing::Free && before.standing == Standing::Free {
            self.index.fill(before.pool, (before.turn, peer));
        }
        if standing == Standing::Idle && before.standing != Standing::Idle {
            self.index.leave(before.pool);
        }
        if is_vacant != before.is_vacant {
            self.count_vacant(before.pool, is_vacant);
        }
    }

    /// Counts one more, or one less, of the workers that have no request.
    fn count_vacant(&mut self, pool: PoolId, is_more: bool) {
        let vacant = &mut self.index.pool_mut(pool).vacant;
        *vacant = if is_more { *vacant + 1 } else { *vacant - 1 };
    }
}

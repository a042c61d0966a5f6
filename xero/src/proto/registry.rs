//! Registered workers: what they offer, their leases and credits, and who is asked next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Instant,
};

use uuid::Uuid;

use super::{
    fault::{Fault, planted},
    message::{CallId, MethodOffer, Peer, Ready, ServiceOffer},
    window::SMALL_PAYLOAD_BYTES,
};

/// The most credits that are believed of a worker: more requests than any process runs at once.
const CREDITS_MAX: u32 = 65_536;

/// A registered worker.
#[derive(Debug)]
pub(crate) struct WorkerEntry {
    pub(crate) incarnation: Uuid,
    pub(crate) payload_bytes_max: u64,
    pub(crate) registered_at: Instant,
    pub(crate) draining: bool,
    /// Requests sent and not yet ended by the worker; `false` where the caller has already been answered.
    pub(crate) in_flight: BTreeMap<CallId, bool>,
    credits: u32,
    turn: u64,
    services: BTreeMap<Arc<str>, Service>,
}

/// What a worker offers under a name.
#[derive(Debug)]
struct Service {
    version: u32,
    methods: BTreeMap<Arc<str>, MethodOffer>,
}

impl WorkerEntry {
    fn is_available(&self) -> bool {
        let credits = self.credits as usize + usize::from(planted(Fault::CreditExceeded));
        !self.draining && self.in_flight.len() < credits
    }

    pub(crate) fn credits(&self) -> u32 {
        self.credits
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.services.keys()
    }

    fn method(&self, service: &str, method: &str) -> Option<&MethodOffer> {
        self.services.get(service)?.methods.get(method)
    }
}

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
    /// Picks one; the candidates come least recently used first. `None` lets the call wait.
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer>;
}

/// The default choice: whoever has gone longest without a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRecentlyUsed;

impl WorkerChoice for LeastRecentlyUsed {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}

/// What a request needs of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) fingerprint: u64,
    /// The size of its payload.
    pub(crate) bytes: usize,
    /// A worker that has just refused this call; asked again only if there is no other.
    pub(crate) avoid: Option<Peer>,
}

/// Who can take a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// This worker, now; and whether it declares the method idempotent.
    Worker { peer: Peer, idempotent: bool },
    /// Workers offer the method, and all of them are full.
    AllBusy,
    /// Workers offer the service, and none of them has the method.
    UnknownMethod,
    /// No live worker offers the service.
    NoWorker,
}

/// The registered workers of a dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workers: BTreeMap<Peer, WorkerEntry>,
    /// Workers with free credit by the turn they were last used in.
    available: BTreeSet<(u64, Peer)>,
    turns: u64,
    /// Grows whenever something else may be offered.
    revision: u64,
}

impl Registry {
    /// Registers a worker, or takes its new offer when it is registered already.
    pub(crate) fn register(&mut self, now: Instant, peer: Peer, ready: Ready) {
        let services = ready.services.into_iter().map(|service| {
            let methods = service.methods.into_iter().map(|method| (Arc::clone(&method.name), method));
            (service.name, Service { version: service.version, methods: methods.collect() })
        });
        let services = services.collect();
        let before = self.workers.remove(&peer);
        self.revision += 1;
        self.turns += 1;
        let turn = before.as_ref().map_or(self.turns, |worker| worker.turn);
        let registered_at = before.as_ref().map_or(now, |worker| worker.registered_at);
        // A drain is for good.
        let draining = before.as_ref().is_some_and(|worker| worker.draining);
        let in_flight = before.map(|worker| worker.in_flight).unwrap_or_default();
        let worker = WorkerEntry {
            incarnation: ready.incarnation,
            payload_bytes_max: ready.payload_bytes_max,
            registered_at,
            draining,
            credits: ready.credits.min(CREDITS_MAX),
            turn,
            services,
            in_flight,
        };
        self.workers.insert(peer, worker);
        self.refresh(peer);
    }

    pub(crate) fn remove(&mut self, peer: Peer) -> Option<WorkerEntry> {
        let worker = self.workers.remove(&peer)?;
        self.revision += 1;
        self.available.remove(&(worker.turn, peer));
        Some(worker)
    }

    /// A request goes to the worker: its credit is taken and it moves to the end of the line.
    pub(crate) fn take_credit(&mut self, peer: Peer, call: CallId) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            self.available.remove(&(worker.turn, peer));
            self.turns += 1;
            worker.turn = self.turns;
            worker.in_flight.insert(call, true);
            self.refresh(peer);
        }
    }

    /// The worker has ended a request. `Some(true)` when its caller still waits; `None` when it was not in flight.
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

    /// The caller has been answered while the worker still has the request, whose credit stays taken.
    pub(crate) fn abandon(&mut self, peer: Peer, call: CallId) {
        if let Some(wanted) = self.workers.get_mut(&peer).and_then(|worker| worker.in_flight.get_mut(&call)) {
            *wanted = false;
        }
    }

    pub(crate) fn set_credits(&mut self, peer: Peer, credits: u32) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.credits = credits.min(CREDITS_MAX);
            self.refresh(peer);
        }
    }

    pub(crate) fn set_draining(&mut self, peer: Peer) {
        if let Some(worker) = self.workers.get_mut(&peer) {
            worker.draining = !planted(Fault::DrainIgnored);
            self.revision += 1;
            self.refresh(peer);
        }
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&WorkerEntry> {
        self.workers.get(&peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Peer, &WorkerEntry)> {
        self.workers.iter().map(|(peer, worker)| (*peer, worker))
    }

    /// The services that a worker offers.
    pub(crate) fn services_of(&self, peer: Peer) -> impl Iterator<Item = &Arc<str>> {
        self.workers.get(&peer).into_iter().flat_map(WorkerEntry::services)
    }

    /// Whether a worker has free credit and takes requests.
    pub(crate) fn is_available(&self, peer: Peer) -> bool {
        self.workers.get(&peer).is_some_and(WorkerEntry::is_available)
    }

    /// The methods that live workers offer under a service, sorted.
    pub(crate) fn methods_of(&self, service: &str) -> BTreeSet<&str> {
        let offers = self.workers.values().filter_map(|worker| worker.services.get(service));
        offers.flat_map(|service| service.methods.keys().map(|name| &**name)).collect()
    }

    /// The services that live workers offer and do not drain, sorted.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        let serving = self.workers.values().filter(|worker| !worker.draining);
        serving.flat_map(|worker| worker.services.keys().map(|name| &**name)).collect()
    }

    /// Another number than before when something else may be offered.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// What live workers that do not drain offer together, and what one more would add.
    pub(crate) fn offers(&self, more: Option<&[ServiceOffer]>) -> Vec<ServiceOffer> {
        let mut offers = BTreeMap::<Arc<str>, Service>::new();
        let serving = self.workers.values().filter(|worker| !worker.draining).flat_map(|worker| &worker.services);
        let known =
            serving.map(|(name, service)| (name, service.version, service.methods.values().collect::<Vec<_>>()));
        let more = more.into_iter().flatten();
        let added = more.map(|service| (&service.name, service.version, service.methods.iter().collect()));
        for (name, version, methods) in known.chain(added) {
            let service = offers.entry(Arc::clone(name));
            let service = service.or_insert_with(|| Service { version, methods: BTreeMap::new() });
            service.version = service.version.max(version);
            for method in methods {
                let offer = service.methods.entry(Arc::clone(&method.name)).or_insert_with(|| method.clone());
                offer.idempotent &= method.idempotent;
                // 0 stands for a signature that is not checked: the worker itself will.
                offer.fingerprint = if offer.fingerprint == method.fingerprint { offer.fingerprint } else { 0 };
            }
        }
        let offer = |(name, service): (_, Service)| {
            let methods = service.methods.into_values().collect();
            ServiceOffer { name, version: service.version, methods }
        };
        offers.into_iter().map(offer).collect()
    }

    /// Whether a live worker that does not drain offers the service.
    pub(crate) fn is_offered(&self, service: &str) -> bool {
        self.workers.values().any(|worker| !worker.draining && worker.services.contains_key(service))
    }

    /// Finds a worker for a request: one whose signature of the method fits before one whose does not (which will say
    /// so), one that takes the payload before one that does not, and one that has not refused the call before one that
    /// has. Large payloads go to those whose window has room.
    pub(crate) fn route(
        &self,
        choice: &mut dyn WorkerChoice,
        need: Need<'_>,
        window_has_room: &dyn Fn(Peer) -> bool,
    ) -> Route {
        // 0 stands for a signature that is not checked (`PROTOCOL.md` §7).
        let fits = |offer: &MethodOffer| [0, offer.fingerprint].contains(&need.fingerprint) || offer.fingerprint == 0;
        let offers = |worker: &&WorkerEntry, fitting: bool| {
            worker.method(need.service, need.method).is_some_and(|offer| !fitting || fits(offer))
        };
        let takes = |worker: &WorkerEntry| need.bytes as u64 <= worker.payload_bytes_max;
        let serving = || self.workers.values().filter(|worker| !worker.draining);
        let fitting = serving().any(|worker| offers(&worker, true));
        let taking = serving().any(|worker| offers(&worker, fitting) && takes(worker));
        let suits = |worker: &&WorkerEntry| offers(worker, fitting) && (!taking || takes(worker));
        let has_room = |peer: Peer| {
            let must_have = need.bytes > SMALL_PAYLOAD_BYTES && !planted(Fault::RequestWindowExceeded);
            !must_have || window_has_room(peer)
        };
        let mut candidates =
            |avoid: Option<Peer>| {
                let available = self.available.iter().filter(|(_, peer)| Some(*peer) != avoid);
                let workers = available.filter_map(|(_, peer)| Some((*peer, self.workers.get(peer)?)));
                choice.choose(&mut workers.filter(|(peer, worker)| suits(worker) && has_room(*peer)).map(
                    |(peer, worker)| Candidate { peer, in_flight: worker.in_flight.len(), credits: worker.credits },
                ))
            };
        let chosen = candidates(need.avoid).or_else(|| need.avoid.and_then(|_| candidates(None)));
        match chosen.and_then(|peer| Some((peer, self.workers.get(&peer)?.method(need.service, need.method)?))) {
            Some((peer, offer)) => Route::Worker { peer, idempotent: offer.idempotent },
            None if serving().any(|worker| offers(&worker, false)) => Route::AllBusy,
            None if serving().any(|worker| worker.services.contains_key(need.service)) => Route::UnknownMethod,
            None => Route::NoWorker,
        }
    }

    fn refresh(&mut self, peer: Peer) {
        let Some(worker) = self.workers.get(&peer) else { return };
        match worker.is_available() {
            true => self.available.insert((worker.turn, peer)),
            false => self.available.remove(&(worker.turn, peer)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::message::{Capabilities, Role};

    #[test]
    fn least_recently_used_worker_with_free_credit_is_chosen() {
        let mut registry = registry_of(&[(1, 2, 7), (2, 1, 7)]);
        assert_eq!(route(&registry, "Demo", "ping", 7), chosen(1));
        registry.take_credit(Peer(1), CallId(1));
        assert_eq!(route(&registry, "Demo", "ping", 7), chosen(2));
        registry.take_credit(Peer(2), CallId(2));
        assert_eq!(route(&registry, "Demo", "ping", 7), chosen(1));
        registry.take_credit(Peer(1), CallId(3));
        assert_eq!(route(&registry, "Demo", "ping", 7), Route::AllBusy);
        assert_eq!(registry.return_credit(Peer(2), CallId(2)), Some(true));
        assert_eq!(route(&registry, "Demo", "ping", 7), chosen(2));
    }

    #[test]
    fn abandoned_request_keeps_its_credit_until_the_worker_ends_it() {
        let mut registry = registry_of(&[(1, 1, 7)]);
        registry.take_credit(Peer(1), CallId(1));
        registry.abandon(Peer(1), CallId(1));
        assert_eq!(route(&registry, "Demo", "ping", 7), Route::AllBusy);
        assert_eq!(registry.return_credit(Peer(1), CallId(1)), Some(false));
        assert_eq!(registry.return_credit(Peer(1), CallId(1)), None);
        assert_eq!(route(&registry, "Demo", "ping", 7), chosen(1));
    }

    #[test]
    fn worker_with_the_fitting_signature_comes_first_and_another_only_without_one() {
        let mut registry = registry_of(&[(1, 1, 7), (2, 1, 8)]);
        assert_eq!(route(&registry, "Demo", "ping", 8), chosen(2));
        registry.take_credit(Peer(2), CallId(1));
        assert_eq!(route(&registry, "Demo", "ping", 8), Route::AllBusy);
        registry.remove(Peer(2));
        assert_eq!(route(&registry, "Demo", "ping", 8), chosen(1));
    }

    #[test]
    fn worker_that_takes_the_payload_comes_first_and_another_only_without_one() {
        let mut registry = registry_of(&[(1, 1, 7)]);
        let ready = Ready { payload_bytes_max: 1 << 20, ..introduction(1, 7) };
        registry.register(Instant::now(), Peer(2), ready);
        let route = |registry: &Registry, bytes| {
            let need = Need { service: "Demo", method: "ping", fingerprint: 7, bytes, avoid: None };
            registry.route(&mut LeastRecentlyUsed, need, &|_| true)
        };
        assert_eq!((route(&registry, 1024), route(&registry, 1025)), (chosen(1), chosen(2)));
        registry.take_credit(Peer(2), CallId(1));
        assert_eq!(route(&registry, 1025), Route::AllBusy);
        registry.remove(Peer(2));
        assert_eq!(route(&registry, 1025), chosen(1), "the error names its limit");
    }

    #[test]
    fn only_what_may_change_the_offers_is_another_revision() {
        let mut registry = registry_of(&[(1, 1, 7), (2, 1, 7)]);
        let mut is_another = |change: &dyn Fn(&mut Registry)| {
            let before = registry.revision();
            change(&mut registry);
            registry.revision() != before
        };
        assert!(!is_another(&|registry| registry.set_credits(Peer(1), 5)));
        assert!(!is_another(&|registry| registry.take_credit(Peer(1), CallId(1))));
        let ready = introduction(1, 8);
        assert!(is_another(&|registry| registry.register(Instant::now(), Peer(1), ready.clone())));
        assert!(is_another(&|registry| registry.set_draining(Peer(1))));
        assert!(is_another(&|registry| drop(registry.remove(Peer(1)))));
    }

    #[test]
    fn missing_method_and_missing_service_differ() {
        let mut registry = registry_of(&[(1, 1, 7)]);
        assert_eq!(route(&registry, "Demo", "pong", 0), Route::UnknownMethod);
        assert_eq!(route(&registry, "Other", "ping", 0), Route::NoWorker);
        registry.set_draining(Peer(1));
        assert_eq!(route(&registry, "Demo", "ping", 0), Route::NoWorker);
    }

    #[test]
    fn credits_can_shrink_below_what_is_in_flight_and_grow_again() {
        let mut registry = registry_of(&[(1, 2, 7)]);
        registry.take_credit(Peer(1), CallId(1));
        registry.set_credits(Peer(1), 0);
        assert_eq!(route(&registry, "Demo", "ping", 0), Route::AllBusy);
        registry.set_credits(Peer(1), 2);
        assert_eq!(route(&registry, "Demo", "ping", 0), chosen(1));
    }

    #[test]
    fn worker_whose_byte_window_is_full_gets_only_small_requests() {
        let registry = registry_of(&[(1, 9, 7)]);
        let route = |bytes, has_room| {
            let need = Need { service: "Demo", method: "ping", fingerprint: 0, bytes, avoid: None };
            registry.route(&mut LeastRecentlyUsed, need, &|_| has_room)
        };
        assert_eq!(route(SMALL_PAYLOAD_BYTES + 1, false), Route::AllBusy);
        assert_eq!(route(SMALL_PAYLOAD_BYTES, false), chosen(1));
        assert_eq!(route(SMALL_PAYLOAD_BYTES + 1, true), chosen(1));
    }

    #[test]
    fn worker_that_drains_takes_nothing_new_though_it_introduces_itself_again() {
        let mut registry = registry_of(&[(1, 1, 7)]);
        registry.set_draining(Peer(1));
        registry.register(Instant::now(), Peer(1), introduction(1, 7));
        assert_eq!(route(&registry, "Demo", "ping", 0), Route::NoWorker);
    }

    #[test]
    fn worker_that_refused_is_asked_again_only_if_it_is_the_only_one() {
        let registry = registry_of(&[(1, 1, 7), (2, 1, 7)]);
        let need = |avoid| Need { service: "Demo", method: "ping", fingerprint: 0, bytes: 0, avoid: Some(Peer(avoid)) };
        assert_eq!(registry.route(&mut LeastRecentlyUsed, need(1), &|_| true), chosen(2));
        let registry = registry_of(&[(1, 1, 7)]);
        assert_eq!(registry.route(&mut LeastRecentlyUsed, need(1), &|_| true), chosen(1));
    }

    fn chosen(peer: u64) -> Route {
        Route::Worker { peer: Peer(peer), idempotent: true }
    }

    fn route(registry: &Registry, service: &str, method: &str, fingerprint: u64) -> Route {
        registry.route(&mut LeastRecentlyUsed, Need { service, method, fingerprint, bytes: 0, avoid: None }, &|_| true)
    }

    fn registry_of(workers: &[(u64, u32, u64)]) -> Registry {
        let now = Instant::now();
        let mut registry = Registry::default();
        for &(peer, credits, fingerprint) in workers {
            registry.register(now, Peer(peer), introduction(credits, fingerprint));
        }
        registry
    }

    fn introduction(credits: u32, fingerprint: u64) -> Ready {
        let methods = vec![MethodOffer { name: "ping".into(), idempotent: true, fingerprint }];
        Ready {
            role: Role::Worker,
            incarnation: Uuid::nil(),
            capabilities: Capabilities::default(),
            interval: Duration::from_secs(1),
            payload_bytes_max: 1024,
            credits,
            window_bytes: 0,
            codecs: Vec::new(),
            services: vec![ServiceOffer { name: "Demo".into(), version: 1, methods }],
        }
    }
}

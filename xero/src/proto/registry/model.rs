//! Compares the index with a model that scans everything, under random operations from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{LeastRecentlyUsed, Need, Outlook, Registry, Renewal, Route, tests::register};
use crate::proto::{
    frame::{self, Limits},
    message::{CallId, Capabilities, Codec, Message, MethodOffer, OfferChange, Peer, Ready, Role, ServiceOffer},
    window::SMALL_PAYLOAD_BYTES,
};

#[test]
fn index_and_scan_agree_on_every_route_and_offer() {
    let mut followed = 0;
    for seed in 0..SEEDS {
        let mut play = Play::new(seed);
        for step in 0..STEPS {
            play.step();
            play.check(&format!("seed {seed}, step {step}"));
        }
        for peer in play.model.keys().copied().collect::<Vec<_>>() {
            play.registry.remove(peer);
        }
        play.held.iter().for_each(|method| play.registry.stop_awaiting(*method));
        assert!(play.registry.keeps_nothing(), "seed {seed}: {:?}", play.registry);
        assert_eq!(play.registry.listing().services, [], "seed {seed}");
        followed += play.followed;
    }
    assert!(followed > SEEDS / 2, "only {followed} calls have followed another");
}

/// A worker, as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    ready: Ready,
    draining: bool,
    doubted: bool,
    /// Whether it has had credits since its introduction.
    was_callable: bool,
    in_flight: BTreeSet<CallId>,
    turn: u64,
    was_free: bool,
}

impl Known {
    fn is_serving(&self) -> bool {
        !self.draining && self.was_callable
    }

    fn is_free(&self) -> bool {
        self.is_serving() && !self.doubted && self.in_flight.len() < self.ready.credits as usize
    }

    fn method(&self, service: &str, method: &str) -> Option<&MethodOffer> {
        let service = self.ready.services.iter().find(|offer| &*offer.name == service)?;
        service.methods.iter().find(|offer| &*offer.name == method)
    }
}

/// A registry, and a model of it without an index.
struct Play {
    random: fastrand::Rng,
    limits: Limits,
    registry: Registry,
    model: BTreeMap<Peer, Known>,
    /// Workers whose window is full.
    full: BTreeSet<Peer>,
    held: Vec<super::MethodId>,
    turns: u64,
    calls: u64,
    /// The calls that have followed others of their turn.
    followed: u64,
    /// The worker of the last one in this turn.
    written: Option<Peer>,
    listed: (u64, Vec<ServiceOffer>),
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // Room for a part of the merged offer, or for all of it.
        let limits = match random.u32(0..4) {
            0 => Limits::default(),
            1 => Limits { services_max: random.usize(0..4), ..Limits::default() },
            2 => Limits { methods_max: random.usize(0..12), ..Limits::default() },
            _ => Limits { header_bytes_max: random.usize(80..300), ..Limits::default() },
        };
        Self {
            random,
            limits,
            registry: Registry::new(&limits, u64::MAX),
            model: BTreeMap::new(),
            full: BTreeSet::new(),
            held: Vec::new(),
            turns: 0,
            calls: 0,
            followed: 0,
            written: None,
            listed: (0, Vec::new()),
        }
    }

    fn step(&mut self) {
        let peer = Peer(self.random.u64(0..PEERS));
        match self.random.u32(0..25) {
            23 => drop(self.full.insert(peer)),
            24 => {
                self.full.remove(&peer);
                self.registry.note_room(peer);
            }
            0..4 => self.register(peer),
            21 | 22 => self.change_offer(peer),
            4 => {
                self.registry.remove(peer);
                self.model.remove(&peer);
            }
            5 => {
                self.registry.set_draining(peer);
                self.change(peer, |known| known.draining = true);
            }
            6..8 => {
                let credits = self.random.u32(0..6);
                self.registry.set_credits(peer, credits);
                self.change(peer, |known| {
                    known.ready.credits = credits;
                    known.was_callable |= credits > 0;
                });
            }
            8..13 => self.end_one(peer),
            13 => {
                let (service, method) = (self.random.u32(0..3), self.random.u32(0..4));
                let held = self.registry.wait(&format!("S{service}").into(), &format!("m{method}").into());
                self.held.push(held);
            }
            14 => {
                if let Some(held) = self.held.pop() {
                    self.registry.stop_awaiting(held);
                }
            }
            15 => {
                let doubted = self.random.bool();
                self.registry.set_doubted(peer, doubted);
                self.change(peer, |known| known.doubted = doubted);
            }
            _ => self.send_some(),
        }
    }

    fn register(&mut self, peer: Peer) {
        let ready = self.introduction();
        register(&mut self.registry, peer, ready.clone());
        let fresh = Known {
            ready: ready.clone(),
            draining: false,
            doubted: false,
            was_callable: false,
            in_flight: BTreeSet::new(),
            turn: 0,
            was_free: false,
        };
        let known = self.model.entry(peer).or_insert(fresh);
        // A new offer means a new pool: the worker goes to the end of that line.
        let is_like = known.ready.services == ready.services
            && (known.ready.payload_bytes_max, &known.ready.codecs) == (ready.payload_bytes_max, &ready.codecs);
        known.was_free &= is_like;
        self.change(peer, |known| {
            known.was_callable = ready.credits > 0;
            known.ready = ready;
        });
    }

    /// Withdraws some services, and replaces others.
    fn change_offer(&mut self, peer: Peer) {
        let change = OfferChange {
            changed: self.introduction().services,
            withdrawn: (0..4).filter(|_| self.random.bool()).map(|service| format!("S{service}").into()).collect(),
        };
        let Some(mut draft) = self.registry.draft(peer) else { return };
        draft.change(change.clone());
        let is_same = self.registry.is_as_after(peer, &change);
        let result = self.registry.renew(peer, Renewal { draft, ready: None, credits: None });
        let Some(known) = self.model.get(&peer) else { return };
        let mut services = known.ready.services.clone();
        services.retain(|service| !change.withdrawn.contains(&service.name));
        services.retain(|service| change.changed.iter().all(|other| other.name != service.name));
        // A service that is withdrawn and offered again at once counts as changed.
        let is_renewed = change.changed.iter().any(|service| change.withdrawn.contains(&service.name));
        services.extend(change.changed);
        services.sort_by(|one, other| one.name.cmp(&other.name));
        let introduction = Message::Ready(Ready { services: services.clone(), ..self.plain() });
        let is_other = known.ready.services != services;
        assert_eq!(is_same, !is_other && !is_renewed);
        let may_be = !is_other || frame::check(&introduction, &self.limits).is_ok();
        assert_eq!(result.is_ok(), may_be, "{result:?}");
        if result.is_ok() {
            self.change(peer, |known| {
                known.was_free &= known.ready.services == services;
                known.ready.services = services;
            });
        }
    }

    /// One of few offers, so that some are alike.
    fn introduction(&mut self) -> Ready {
        let mut services = Vec::new();
        for service in 0..3 {
            if self.random.bool() {
                let methods = (0..4).filter(|_| self.random.u8(0..3) > 0).collect::<Vec<_>>();
                let methods = methods.into_iter().map(|method| MethodOffer {
                    name: format!("m{method}").into(),
                    idempotent: self.random.u8(0..4) > 0,
                    fingerprint: [7, 7, 7, 8, 0][self.random.usize(0..5)],
                });
                let methods = methods.collect();
                services.push(ServiceOffer {
                    name: format!("S{service}").into(),
                    version: self.random.u32(1..3),
                    methods,
                });
            }
        }
        Ready {
            role: Role::Worker,
            incarnation: Uuid::nil(),
            capabilities: Capabilities::default(),
            interval: Duration::from_secs(1),
            payload_bytes_max: [1_000, 1_024, 3_000, 4_096][self.random.usize(0..4)],
            credits: self.random.u32(0..6),
            window_bytes: 0,
            codecs: [&Codec::ALL[..], &[Codec::Json]][self.random.usize(0..2)].to_vec(),
            services,
        }
    }

    fn end_one(&mut self, peer: Peer) {
        let call = self.model.get(&peer).and_then(|known| known.in_flight.first().copied());
        assert_eq!(self.registry.return_credit(peer, call.unwrap_or(CallId(u64::MAX))), call.map(|_| true));
        if let Some(call) = call {
            self.change(peer, |known| known.in_flight.retain(|other| *other != call));
        }
    }

    /// Sends calls of one turn.
    fn send_some(&mut self) {
        let names = self.names();
        let need = self.need(&names);
        for _ in 0..self.random.u32(1..8) {
            self.send_one(&need);
        }
        self.registry.end_turn();
    }

    fn send_one(&mut self, need: &Need<'_>) {
        let full = self.full.clone();
        let route = self.registry.route(&mut LeastRecentlyUsed, need, &|peer| full.contains(&peer));
        if route != self.route(need) {
            self.check_followed(need, &route);
        }
        let Route::Worker { peer, .. } = route else { return };
        self.calls += 1;
        let call = CallId(self.calls);
        self.registry.take_credit(peer, call);
        if let Some(known) = self.model.get_mut(&peer) {
            known.was_free = false;
        }
        self.change(peer, |known| known.in_flight.extend([call]));
        // Calls for other methods may have been written as well.
        let last = if self.random.u8(0..4) > 0 { peer } else { Peer(self.random.u64(0..PEERS)) };
        self.registry.note_written(last);
        self.written = Some(last);
    }

    /// Checks a route that is not the one in turn.
    fn check_followed(&mut self, need: &Need<'_>, route: &Route) {
        let Route::Worker { peer, idempotent } = *route else { panic!("{need:?}: {route:?}") };
        let candidates = self.candidates(need);
        let in_flight = |peer: &Peer| self.model[peer].in_flight.len();
        let declared = self.model[&peer].method(need.service, need.method).expect("a candidate has it").idempotent;
        assert_eq!((Some(peer), idempotent), (self.written, declared), "{need:?}");
        assert!(candidates.contains(&peer) && need.avoid != Some(peer), "{need:?}: {peer:?} of {candidates:?}");
        assert!(in_flight(&peer) < in_flight(&candidates[0]) + 4, "{need:?}: {peer:?} before {:?}", candidates[0]);
        assert!(candidates.iter().all(|peer| in_flight(peer) > 0), "{need:?}: past one without a request");
        self.followed += 1;
    }

    /// Changes a worker in the model; a worker that becomes free goes to the end of the line.
    fn change(&mut self, peer: Peer, change: impl FnOnce(&mut Known)) {
        let Some(known) = self.model.get_mut(&peer) else { return };
        change(known);
        if known.is_free() && !known.was_free {
            self.turns += 1;
            known.turn = self.turns;
        }
        known.was_free = known.is_free();
    }

    fn names(&mut self) -> (String, String) {
        (format!("S{}", self.random.u32(0..4)), format!("m{}", self.random.u32(0..5)))
    }

    fn need<'a>(&mut self, (service, method): &'a (String, String)) -> Need<'a> {
        let bytes = [0, 1_001, 2_500, 3_500, SMALL_PAYLOAD_BYTES + 1][self.random.usize(0..5)];
        Need {
            service,
            method,
            fingerprint: [7, 8, 9, 0][self.random.usize(0..4)],
            codec: [Codec::Bincode, Codec::Json][self.random.usize(0..2)],
            bytes,
            is_large: bytes > SMALL_PAYLOAD_BYTES || self.random.u8(0..8) == 0,
            must_declare: self.random.u8(0..3) == 0,
            avoid: self.random.bool().then(|| Peer(self.random.u64(0..PEERS))),
        }
    }

    fn check(&mut self, at: &str) {
        let full = self.full.clone();
        for _ in 0..4 {
            let names = self.names();
            let need = self.need(&names);
            let expected = self.route(&need);
            assert_eq!(
                self.registry.route(&mut LeastRecentlyUsed, &need, &|peer| full.contains(&peer)),
                expected,
                "{at}: {need:?}"
            );
            // The same, by a policy that iterates over all candidates.
            let mut last = Last(Vec::new());
            self.registry.route(&mut last, &Need { avoid: None, ..need }, &|peer| full.contains(&peer));
            let candidates = self.candidates(&Need { avoid: None, ..need });
            if matches!(self.route(&Need { avoid: None, ..need }), Route::Worker { .. }) {
                assert_eq!(last.0, candidates, "{at}: {need:?}");
            }
            let stations = self.registry.stations(&need);
            assert_eq!(stations.is_ok(), !matches!(expected, Route::Nobody(_)), "{at}: {need:?}");
            if let Ok(stations) = stations {
                let suitable = self.suitable(&need);
                for (peer, _) in self.model.iter().filter(|(_, known)| known.is_serving()) {
                    let pool = self.registry.pool_of(*peer).expect("a registered worker");
                    let stands = stations.iter().any(|station| self.registry.stands_at(pool, *station));
                    assert_eq!(stands, suitable.contains(peer), "{at}: {need:?}");
                }
            }
        }
        if self.random.u8(0..8) == 0 {
            self.check_listing(at);
        }
    }

    fn check_listing(&mut self, at: &str) {
        let (offers, left_out) = self.listing();
        let listing = self.registry.listing();
        assert_eq!(listing.services, offers, "{at}");
        assert_eq!(listing.left_out.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), left_out, "{at}");
        assert!(self.registry.revision() != self.listed.0 || offers == self.listed.1, "{at}: of the revision");
        let introduction = Message::Ready(Ready { services: offers.clone(), ..self.plain() });
        assert_eq!(frame::encode(&introduction).header.len(), listing.bytes, "{at}");
        if !offers.is_empty() {
            assert_eq!(frame::check(&introduction, &self.limits), Ok(()), "{at}");
        }
        self.listed = (self.registry.revision(), offers);
    }

    fn plain(&self) -> Ready {
        Ready {
            role: Role::Dispatcher,
            incarnation: Uuid::nil(),
            capabilities: Capabilities::default(),
            interval: Duration::from_secs(1),
            payload_bytes_max: 77,
            credits: 0,
            window_bytes: 0,
            codecs: Codec::ALL.to_vec(),
            services: vec![],
        }
    }

    fn route(&self, need: &Need<'_>) -> Route {
        let serving: Vec<_> = self.model.values().filter(|known| known.is_serving()).collect();
        let has_service = |known: &&&Known| known.ready.services.iter().any(|offer| *offer.name == *need.service);
        if serving.iter().find(has_service).is_none() {
            return Route::Nobody(Outlook::NoService);
        }
        let with: Vec<_> = serving.iter().filter(|known| known.method(need.service, need.method).is_some()).collect();
        if with.is_empty() {
            return Route::Nobody(Outlook::NoMethod);
        }
        if !with.iter().any(|known| known.ready.codecs.contains(&need.codec)) {
            let read = |codec: &Codec| with.iter().any(|known| known.ready.codecs.contains(codec));
            return Route::Nobody(Outlook::NoCodec(Codec::ALL.into_iter().filter(read).collect()));
        }
        let suitable = self.suitable(need);
        let Some(limit) = suitable.first().map(|peer| self.model[peer].ready.payload_bytes_max) else {
            return Route::Nobody(Outlook::NotIdempotent);
        };
        if limit < need.bytes as u64 {
            return Route::Nobody(Outlook::TooLarge(limit));
        }
        let candidates = self.candidates(need);
        let others = candidates.iter().find(|peer| Some(**peer) != need.avoid);
        let chosen = others.or(candidates.first());
        chosen.map_or(Route::AllBusy, |peer| {
            let offer = self.model[peer].method(need.service, need.method).expect("a candidate has it");
            Route::Worker { peer: *peer, idempotent: offer.idempotent }
        })
    }

    /// The workers that suit best, free or not.
    fn suitable(&self, need: &Need<'_>) -> Vec<Peer> {
        let can = |known: &Known| {
            let offer = known.method(need.service, need.method)?;
            let can = known.ready.codecs.contains(&need.codec) && (offer.idempotent || !need.must_declare);
            let fits = need.fingerprint == 0 || offer.fingerprint == 0 || offer.fingerprint == need.fingerprint;
            let max = known.ready.payload_bytes_max;
            let takes = need.bytes as u64 <= max;
            (known.is_serving() && can).then_some((fits, if takes { u64::MAX } else { max }))
        };
        let best = self.model.values().filter_map(can).max();
        self.model
            .iter()
            .filter(|(_, known)| can(known).is_some() && can(known) == best)
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// The free ones among them, least recently used first.
    fn candidates(&self, need: &Need<'_>) -> Vec<Peer> {
        let has_room = |peer: &Peer| !need.is_large || !self.full.contains(peer);
        let is_free = |peer: &Peer| self.model[peer].is_free() && has_room(peer);
        let mut free: Vec<_> = self.suitable(need).into_iter().filter(is_free).collect();
        free.sort_by_key(|peer| self.model[peer].turn);
        free
    }

    /// The listed part of the merged offer, and the services that are missing or incomplete.
    fn listing(&self) -> (Vec<ServiceOffer>, BTreeSet<Arc<str>>) {
        let offers = self.offers();
        let mut rest: Vec<_> = offers.iter().flat_map(|offer| self.bundles(offer)).collect();
        rest.sort_by(|(share, one), (other_share, other)| (share, &one.name).cmp(&(other_share, &other.name)));
        let mut listed = BTreeMap::<Arc<str>, ServiceOffer>::new();
        while let Some((_, bundle)) = rest.first() {
            let mut with = listed.clone();
            let offer =
                with.entry(bundle.name.clone()).or_insert_with(|| ServiceOffer { methods: vec![], ..bundle.clone() });
            offer.methods.extend(bundle.methods.iter().cloned());
            offer.methods.sort_by(|one, other| one.name.cmp(&other.name));
            let services = with.values().cloned().collect();
            if frame::check(&Message::Ready(Ready { services, ..self.plain() }), &self.limits).is_err() {
                break;
            }
            listed = with;
            rest.remove(0);
        }
        (listed.into_values().collect(), rest.into_iter().map(|(_, bundle)| bundle.name).collect())
    }

    /// The parts of a service by share; the service itself goes with the smallest.
    fn bundles(&self, offer: &ServiceOffer) -> Vec<(u128, ServiceOffer)> {
        let mut bundles = BTreeMap::<u128, ServiceOffer>::new();
        let bare = || ServiceOffer { methods: vec![], ..offer.clone() };
        let share = |method: Option<&str>| {
            let serving = self.model.values().filter(|known| known.is_serving());
            let shares = serving.filter_map(|known| self.share(&known.ready.services, &offer.name, method));
            shares.min().expect("somebody offers it")
        };
        bundles.entry(share(None)).or_insert_with(bare);
        for method in &offer.methods {
            let share = share(Some(&method.name));
            bundles.entry(share).or_insert_with(bare).methods.push(method.clone());
        }
        bundles.into_iter().collect()
    }

    /// The part of the room that a worker's services take, up to this one, if it offers that with the method.
    fn share(&self, services: &[ServiceOffer], name: &str, method: Option<&str>) -> Option<u128> {
        let own = services.iter().find(|offer| &*offer.name == name)?;
        if method.is_some_and(|name| own.methods.iter().all(|method| &*method.name != name)) {
            return None;
        }
        let upto: Vec<_> = services.iter().filter(|offer| &*offer.name <= name).collect();
        let bytes_of = |services: Vec<ServiceOffer>| {
            frame::encode(&Message::Ready(Ready { services, ..self.plain() })).header.len() as u128
        };
        let bare = bytes_of(vec![]);
        let part = |size: u128, limit: usize| (size << 32) / (limit.max(1) as u128);
        let methods = upto.iter().map(|offer| offer.methods.len() as u128).sum();
        let bytes = bytes_of(upto.iter().map(|offer| (*offer).clone()).collect()) - bare;
        let parts = [
            part(upto.len() as u128, self.limits.services_max),
            part(methods, self.limits.methods_max),
            part(bytes, self.limits.header_bytes_max.saturating_sub(bare as usize)),
        ];
        parts.into_iter().max()
    }

    /// The merged offer.
    fn offers(&self) -> Vec<ServiceOffer> {
        let mut merged = BTreeMap::<_, (u32, BTreeMap<_, MethodOffer>)>::new();
        for known in self.model.values().filter(|known| known.is_serving()) {
            for service in &known.ready.services {
                let (version, methods) = merged.entry(service.name.clone()).or_default();
                *version = service.version.max(*version);
                for method in &service.methods {
                    let offer = methods.entry(method.name.clone()).or_insert_with(|| method.clone());
                    offer.idempotent &= method.idempotent;
                    offer.fingerprint = if offer.fingerprint == method.fingerprint { offer.fingerprint } else { 0 };
                }
            }
        }
        let offer = |(name, (version, methods)): (_, (u32, BTreeMap<_, MethodOffer>))| ServiceOffer {
            name,
            version,
            methods: methods.into_values().collect(),
        };
        merged.into_iter().map(offer).collect()
    }
}

/// Iterates over all candidates and takes the last.
#[derive(Debug)]
struct Last(Vec<Peer>);

impl super::WorkerChoice for Last {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = super::Candidate>) -> Option<Peer> {
        self.0 = candidates.map(|candidate| candidate.peer).collect();
        self.0.last().copied()
    }
}

/// Few, so that most steps meet a registered worker.
const PEERS: u64 = 8;
const SEEDS: u64 = 100;
const STEPS: u32 = 300;

//! The index against a model that scans everything, under random operations from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{LeastRecentlyUsed, Need, Outlook, Registry, Route};
use crate::proto::{
    message::{CallId, Capabilities, Codec, MethodOffer, Peer, Ready, Role, ServiceOffer},
    window::SMALL_PAYLOAD_BYTES,
};

#[test]
fn index_and_scan_agree_on_every_route_and_offer() {
    for seed in 0..SEEDS {
        let mut play = Play::new(seed);
        for step in 0..STEPS {
            play.step();
            play.check(&format!("seed {seed}, step {step}"));
        }
        for peer in play.model.keys().copied().collect::<Vec<_>>() {
            play.registry.remove(peer);
        }
        play.held.iter().for_each(|method| play.registry.release_line(*method));
        assert!(play.registry.keeps_nothing(), "seed {seed}: {:?}", play.registry);
        assert_eq!(play.registry.offers(), [], "seed {seed}");
    }
}

/// What the model knows of a worker.
#[derive(Clone, Debug)]
struct Known {
    ready: Ready,
    draining: bool,
    /// Whether it has had credits since it introduced itself.
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
        self.is_serving() && self.in_flight.len() < self.ready.credits as usize
    }

    fn method(&self, service: &str, method: &str) -> Option<&MethodOffer> {
        let service = self.ready.services.iter().find(|offer| &*offer.name == service)?;
        service.methods.iter().find(|offer| &*offer.name == method)
    }
}

/// A registry, and a model of it that keeps no index.
struct Play {
    random: fastrand::Rng,
    now: Instant,
    registry: Registry,
    model: BTreeMap<Peer, Known>,
    held: Vec<super::MethodId>,
    turns: u64,
    calls: u64,
    told: (u64, Vec<ServiceOffer>),
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: crate::proto::tests::start(),
            registry: Registry::default(),
            model: BTreeMap::new(),
            held: Vec::new(),
            turns: 0,
            calls: 0,
            told: (0, Vec::new()),
        }
    }

    fn step(&mut self) {
        let peer = Peer(self.random.u64(0..PEERS));
        match self.random.u32(0..20) {
            0..4 => self.register(peer),
            4 => {
                self.registry.remove(peer);
                self.model.remove(&peer);
            }
            5 => {
                self.registry.set_draining(peer);
                self.change(peer, |known| known.draining = true);
            }
            6..8 => {
                let credits = self.random.u32(0..4);
                self.registry.set_credits(peer, credits);
                self.change(peer, |known| {
                    known.ready.credits = credits;
                    known.was_callable |= credits > 0;
                });
            }
            8..13 => self.end_one(peer),
            13 => {
                let (service, method) = (self.random.u32(0..3), self.random.u32(0..4));
                let held = self.registry.hold_line(&format!("S{service}").into(), &format!("m{method}").into());
                self.held.push(held);
            }
            14 => {
                if let Some(held) = self.held.pop() {
                    self.registry.release_line(held);
                }
            }
            _ => self.send_one(),
        }
    }

    fn register(&mut self, peer: Peer) {
        let ready = self.introduction();
        self.registry.register(self.now, peer, ready.clone());
        let fresh = Known {
            ready: ready.clone(),
            draining: false,
            was_callable: false,
            in_flight: BTreeSet::new(),
            turn: 0,
            was_free: false,
        };
        let known = self.model.entry(peer).or_insert(fresh);
        // Another offer, another pool: it comes to the end of that line.
        let is_like = known.ready.services == ready.services
            && (known.ready.payload_bytes_max, &known.ready.codecs) == (ready.payload_bytes_max, &ready.codecs);
        known.was_free &= is_like;
        self.change(peer, |known| {
            known.was_callable = ready.credits > 0;
            known.ready = ready;
        });
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
            payload_bytes_max: [100, 1_000][self.random.usize(0..2)],
            credits: self.random.u32(0..4),
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

    fn send_one(&mut self) {
        let names = self.names();
        let need = self.need(&names);
        if let Route::Worker { peer, .. } = self.registry.route(&mut LeastRecentlyUsed, &need) {
            self.calls += 1;
            let call = CallId(self.calls);
            self.registry.take_credit(peer, call);
            if let Some(known) = self.model.get_mut(&peer) {
                known.was_free = false;
            }
            self.change(peer, |known| known.in_flight.extend([call]));
        }
    }

    /// Changes what the model knows of a worker; who gets free goes to the end of the line.
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
        Need {
            service,
            method,
            fingerprint: [7, 8, 9, 0][self.random.usize(0..4)],
            codec: [Codec::Bincode, Codec::Json][self.random.usize(0..2)],
            bytes: [0, 500, SMALL_PAYLOAD_BYTES + 1][self.random.usize(0..3)],
            must_declare: self.random.u8(0..3) == 0,
            avoid: self.random.bool().then(|| Peer(self.random.u64(0..PEERS))),
        }
    }

    fn check(&mut self, at: &str) {
        for _ in 0..4 {
            let names = self.names();
            let need = self.need(&names);
            let expected = self.route(&need);
            assert_eq!(self.registry.route(&mut LeastRecentlyUsed, &need), expected, "{at}: {need:?}");
            // The same, by a policy that goes through all candidates.
            let mut last = Last(Vec::new());
            self.registry.route(&mut last, &Need { avoid: None, ..need });
            let candidates = self.candidates(&Need { avoid: None, ..need });
            if matches!(self.route(&Need { avoid: None, ..need }), Route::Worker { .. }) {
                assert_eq!(last.0, candidates, "{at}: {need:?}");
            }
            assert_eq!(self.registry.targets(&need).is_ok(), !matches!(expected, Route::Nobody(_)), "{at}: {need:?}");
        }
        let offers = self.offers();
        assert_eq!(self.registry.offers(), offers, "{at}");
        assert_eq!(self.registry.revision() != self.told.0, offers != self.told.1, "{at}: of the revision");
        self.told = (self.registry.revision(), offers);
        self.check_sizes(at);
    }

    /// The running totals, by what a worker with nothing of its own would be told.
    fn check_sizes(&self, at: &str) {
        use crate::proto::frame::Limits;
        let (services, methods) = (self.told.1.len(), self.told.1.iter().map(|service| service.methods.len()).sum());
        let empty = Ready { services: vec![], ..self.plain() };
        let room = |limits: &Limits| self.registry.check_room(Peer(u64::MAX), &empty, limits).is_ok();
        assert!(room(&Limits { services_max: services, methods_max: methods, ..Limits::default() }), "{at}");
        if services > 0 && methods > 0 {
            assert!(!room(&Limits { services_max: services - 1, ..Limits::default() }), "{at}");
            assert!(!room(&Limits { methods_max: methods - 1, ..Limits::default() }), "{at}");
        }
        let header = crate::proto::frame::encode(&crate::proto::message::Message::Ready(Ready {
            services: self.told.1.clone(),
            codecs: Codec::ALL.to_vec(),
            ..self.plain()
        }));
        let exact = header.header.len();
        assert!(room(&Limits { header_bytes_max: exact, ..Limits::default() }), "{at}");
        assert!(!room(&Limits { header_bytes_max: exact - 1, ..Limits::default() }), "{at}");
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
            codecs: vec![],
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
        if self.suitable(need).is_empty() {
            return Route::Nobody(Outlook::NotIdempotent);
        }
        let candidates = self.candidates(need);
        let others = candidates.iter().find(|peer| Some(**peer) != need.avoid);
        let chosen = others.or(candidates.first());
        chosen.map_or(Route::AllBusy, |peer| {
            let offer = self.model[peer].method(need.service, need.method).expect("a candidate has it");
            Route::Worker { peer: *peer, idempotent: offer.idempotent }
        })
    }

    /// Those that suit best, free or not.
    fn suitable(&self, need: &Need<'_>) -> Vec<Peer> {
        let can = |known: &Known| {
            let offer = known.method(need.service, need.method)?;
            let can = known.ready.codecs.contains(&need.codec) && (offer.idempotent || !need.must_declare);
            let fits = need.fingerprint == 0 || offer.fingerprint == 0 || offer.fingerprint == need.fingerprint;
            (known.is_serving() && can).then_some((fits, need.bytes as u64 <= known.ready.payload_bytes_max))
        };
        let best = self.model.values().filter_map(can).max();
        self.model
            .iter()
            .filter(|(_, known)| can(known).is_some() && can(known) == best)
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// Those of them that are free, least recently used first.
    fn candidates(&self, need: &Need<'_>) -> Vec<Peer> {
        let mut free: Vec<_> = self.suitable(need).into_iter().filter(|peer| self.model[peer].is_free()).collect();
        free.sort_by_key(|peer| self.model[peer].turn);
        free
    }

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

/// Goes through all candidates and takes the last.
#[derive(Debug)]
struct Last(Vec<Peer>);

impl super::WorkerChoice for Last {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = super::Candidate>) -> Option<Peer> {
        self.0 = candidates.map(|candidate| candidate.peer).collect();
        self.0.last().copied()
    }
}

/// Few, so that most steps meet somebody.
const PEERS: u64 = 8;
const SEEDS: u64 = 100;
const STEPS: u32 = 300;

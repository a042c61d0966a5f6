//! A seed's processes and their settings.

use fastrand::Rng;
use xero::proto::{
    broker::Door,
    dispatch::DispatcherConfig,
    frame::Limits,
    hold::HoldLimits,
    liveness::Heartbeats,
    message::{Codec, MethodOffer, ServiceOffer},
    retry::BackoffConfig,
    retry::RetryConfig,
};

use super::{
    Address, MIXED, ONCE, RARE, RETRY_WAIT_MAX_MS, Role, SAFE, SERVICES, Setup, Temper, Theme, WAITING_MAX_MIN, ms,
};
use crate::whim::Whim;

/// Draws the processes.
pub(super) struct Cast<'a> {
    pub(super) random: &'a mut Rng,
    pub(super) temper: Temper,
    pub(super) theme: Theme,
    pub(super) setups: Vec<Setup>,
}

impl Cast<'_> {
    pub(super) fn draw(mut self) -> Vec<Setup> {
        let (brokers, binding, dialing) = match self.random.u8(0..5) {
            0..3 if self.theme == Theme::Crowd => (1, 0, self.random.usize(CROWD)),
            _ if self.theme == Theme::Crowd => (0, 1, 0),
            0 | 1 => (0, self.random.usize(1..4), 0),
            2 | 3 => (self.random.usize(1..3), 0, self.random.usize(1..4)),
            _ => (self.random.usize(1..3), 1, self.random.usize(1..3)),
        };
        (0..brokers).for_each(|number| self.add(Role::Broker, number));
        (0..binding).for_each(|number| self.add(Role::Binding, number));
        (0..dialing).for_each(|number| self.add(Role::Dialing, binding + number));
        let workers = if self.theme == Theme::Crowd { self.random.usize(CROWD) } else { self.random.usize(1..5) };
        (0..workers).for_each(|number| self.add(Role::Worker, number));
        if self.theme == Theme::Diverse && self.random.bool() {
            self.add(Role::Worker, workers);
            self.squat();
        }
        if self.theme == Theme::Diverse && self.random.bool() {
            self.tighten();
        }
        if self.theme == Theme::Hostile {
            (0..self.random.usize(1..3)).for_each(|number| self.add_hostile(number));
        }
        self.setups
    }

    /// Adds a process that keeps to no rule: one that dials everyone, or one that some of the others dial.
    fn add_hostile(&mut self, number: usize) {
        let has_brokers = self.setups.iter().any(|setup| setup.role == Role::Broker);
        let role = match self.random.u8(0..3) {
            0 => Role::Worker,
            1 if has_brokers => Role::Dialing,
            _ => Role::Broker,
        };
        self.add(role, 0);
        let process = self.setups.len() - 1;
        let setup = &mut self.setups[process];
        (setup.name, setup.is_hostile) = (format!("hostile {number}"), true);
        setup.is_mute = role != Role::Broker && self.random.u8(0..6) == 0;
        for setup in self.setups[..process].iter_mut().filter(|_| role == Role::Broker) {
            let door = if setup.role == Role::Worker { Door::Back } else { Door::Front };
            let dials = matches!(setup.role, Role::Worker | Role::Dialing) && !setup.is_hostile;
            setup.dials.extend(dials.then_some(Address { process, door }));
        }
    }

    fn add(&mut self, role: Role, number: usize) {
        let dials = self.dials_of(role, number);
        let services = self.services_of(role, number);
        let (random, is_gentle) = (&mut *self.random, self.temper == Temper::Gentle);
        let kind = match role {
            Role::Broker => "broker",
            Role::Worker => "worker",
            Role::Binding | Role::Dialing => "client",
        };
        let interval = ms(if self.theme == Theme::Crowd { random.u64(400..900) } else { random.u64(100..250) });
        let attempts_max = random.u8(1..5);
        let setup = Setup {
            name: format!("{kind} {number}"),
            role,
            is_hostile: false,
            is_mute: false,
            drift: random.i64(-10_000..10_000),
            dials,
            heartbeats: Heartbeats { interval, liveness: random.u32(2..5).max(if is_gentle { 3 } else { 2 }) },
            backoff: BackoffConfig { first: ms(random.u64(1..150)), max: ms(random.u64(150..1_000)) },
            retry: RetryConfig {
                attempts_max,
                backoff: BackoffConfig { first: ms(random.u64(0..20)), max: ms(random.u64(20..RETRY_WAIT_MAX_MS)) },
                budget_percent: random.u32(0..100),
                budget_reserve: random.u32(0..20),
            },
            credits: random.u32(match self.theme {
                Theme::Memory => 8..32,
                Theme::Hostile => 1..20,
                _ => 1..6,
            }),
            window_bytes: match self.theme {
                Theme::Memory | Theme::Hostile => random.u64(1..4_000),
                _ if random.bool() => 0,
                _ => random.u64(1..10_000),
            },
            hold_limits: hold_limits(random, self.theme),
            waiting_max: if matches!(self.theme, Theme::Rush | Theme::Crowd) || is_gentle || random.bool() {
                WAITING_MAX
            } else {
                random.usize(WAITING_MAX_MIN..20)
            },
            drain_timeout: ms(if is_gentle { 20_000 } else { random.u64(0..2_000) }),
            services,
            codecs: codecs(random, self.theme, number),
            payload_bytes_max: match self.theme {
                Theme::Diverse if number > 0 && random.bool() => random.usize(3_000..9_000),
                _ => Limits::default().payload_bytes_max,
            },
            services_max: if self.theme == Theme::Diverse { SERVICES_MAX } else { Limits::default().services_max },
            offers_bytes_max: DispatcherConfig::default().offers_bytes_max,
            whim: whim(random, self.theme),
        };
        self.setups.push(setup);
    }

    fn dials_of(&mut self, role: Role, number: usize) -> Vec<Address> {
        let (listens, door): (fn(Role) -> bool, _) = match role {
            Role::Worker => (|role| role != Role::Worker && role != Role::Dialing, Door::Back),
            Role::Dialing => (|role| role == Role::Broker, Door::Front),
            Role::Broker | Role::Binding => return Vec::new(),
        };
        let all = self.setups.iter().enumerate().filter(|(_, setup)| listens(setup.role));
        let mut all: Vec<_> = all.map(|(process, _)| Address { process, door }).collect();
        // The first of each kind dials everyone, so that every present process can be served.
        if number > 0 && self.random.u8(0..3) == 0 {
            self.random.shuffle(&mut all);
            all.truncate(self.random.usize(1..=all.len()));
        }
        all
    }

    fn services_of(&mut self, role: Role, number: usize) -> Vec<ServiceOffer> {
        let names = match role {
            Role::Worker if number == 0 || self.random.bool() => SERVICES.to_vec(),
            Role::Worker => vec![SERVICES[self.random.usize(0..SERVICES.len())]],
            _ => Vec::new(),
        };
        names.into_iter().map(|name| self.service(name)).collect()
    }

    fn service(&mut self, name: &str) -> ServiceOffer {
        let mut methods = vec![method(SAFE, true, 0), method(ONCE, false, 0)];
        if self.theme == Theme::Diverse {
            let random = &mut *self.random;
            methods.extend((random.u8(0..3) > 0).then(|| method(MIXED, random.bool(), 0)));
            methods.extend(random.bool().then(|| method(RARE, false, random.u64(1..3))));
        }
        ServiceOffer { name: name.into(), version: 1, methods }
    }

    /// Gives each worker an offer of its own, and those who listen just the memory for all of them.
    fn tighten(&mut self) {
        let workers = self.setups.iter_mut().filter(|setup| setup.role == Role::Worker);
        for (number, worker) in workers.enumerate() {
            worker.services.iter_mut().for_each(|service| service.version = 1 + number as u32);
        }
        for listener in 0..self.setups.len() {
            let dials = |setup: &&Setup| setup.dials.iter().any(|address| address.process == listener);
            let workers = self.setups.iter().filter(|setup| setup.role == Role::Worker).filter(dials);
            self.setups[listener].offers_bytes_max = workers.map(|worker| memory_bytes(&worker.services)).sum();
        }
    }

    /// Makes the last worker one that nobody can call and that says otherwise what others say, or one that takes much
    /// room with names before all others.
    fn squat(&mut self) {
        let is_mute = self.random.bool();
        let Some(setup) = self.setups.last_mut() else { return };
        let offer = |name: String, methods| ServiceOffer { name: name.into(), version: 4_000_000_000, methods };
        if is_mute {
            setup.credits = 0;
            let methods = || vec![method(SAFE, false, 7), method(ONCE, true, 7)];
            setup.services = SERVICES.map(|name| offer(name.to_owned(), methods())).to_vec();
        } else {
            setup.services =
                (0..SERVICES_MAX).map(|n| offer(format!("AA{n:02}"), vec![method("m", false, 0)])).collect();
        }
    }
}

/// The memory of an offer, as a dispatcher estimates it.
fn memory_bytes(services: &[ServiceOffer]) -> u64 {
    let of_method = |method: &MethodOffer| 1_024 + method.name.len();
    let of_service =
        |service: &ServiceOffer| 1_024 + service.name.len() + service.methods.iter().map(of_method).sum::<usize>();
    (1_024 + services.iter().map(of_service).sum::<usize>()) as u64
}

fn method(name: &str, idempotent: bool, fingerprint: u64) -> MethodOffer {
    MethodOffer { name: name.into(), idempotent, fingerprint }
}

/// The first worker reads everything, so that every call can be served.
fn codecs(random: &mut Rng, theme: Theme, number: usize) -> Vec<Codec> {
    match random.u8(0..3) {
        _ if theme != Theme::Diverse || number == 0 => Codec::ALL.to_vec(),
        0 => vec![Codec::Bincode],
        1 => vec![Codec::MessagePack, Codec::Json],
        _ => Codec::ALL.to_vec(),
    }
}

fn whim(random: &mut Rng, theme: Theme) -> Whim {
    match random.u8(0..6) {
        0 => Whim::LeastLoaded,
        1 => Whim::Last,
        2 if theme == Theme::Diverse => Whim::Shy,
        3 if theme == Theme::Diverse => Whim::Stray,
        _ => Whim::LeastRecentlyUsed,
    }
}

/// Room for all calls of any seed.
const WAITING_MAX: usize = 10_000;

/// The clients or workers of a crowd.
const CROWD: std::ops::Range<usize> = 60..160;

/// Services that a broker announces: enough for the share of each worker.
const SERVICES_MAX: usize = 16;

fn hold_limits(random: &mut Rng, theme: Theme) -> HoldLimits {
    let default = HoldLimits::default();
    if !matches!(theme, Theme::Memory | Theme::Hostile) {
        return default;
    }
    let (peer_max, total_max) = if theme == Theme::Hostile { (2_000, 12_000) } else { (12_000, 40_000) };
    let total = random.u64(3_000..total_max) * if random.bool() { 1 } else { 3 };
    let (peer_bytes_max, total_bytes_max) = match random.u8(0..4) {
        0 => (default.peer_bytes_max, total),
        1 => (random.u64(1..peer_max), total),
        _ => (random.u64(1..peer_max), default.total_bytes_max),
    };
    HoldLimits { peer_bytes_max, total_bytes_max }
}

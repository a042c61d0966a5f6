//! A seed's decisions before anything happens: the processes, their settings, the calls, and the faults.

use std::time::Duration;

use fastrand::Rng;
use xero::proto::{broker::Door, hold::HoldLimits, liveness::Heartbeats, retry::BackoffConfig, retry::RetryConfig};

use super::{
    clock::At,
    work::{Fate, Tag, Work},
};

/// A process of the simulation, by its index in the list. A restarted one keeps its index.
pub(super) type Pid = usize;

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A client that workers dial.
    Binding,
    /// A client that dials brokers.
    Dialing,
    Broker,
    Worker,
}

impl Role {
    pub(super) fn is_client(self) -> bool {
        matches!(self, Self::Binding | Self::Dialing)
    }
}

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    /// Workers drain, restart, and are held up for less than their expiry: no call may fail because of it.
    Gentle,
    /// All known faults happen.
    Harsh,
}

/// Where a process listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) process: Pid,
    pub(super) door: Door,
}

/// One process.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: String,
    pub(super) role: Role,
    /// How much faster than the simulation its clock runs, in millionths.
    pub(super) drift: i64,
    pub(super) dials: Vec<Address>,
    pub(super) heartbeats: Heartbeats,
    pub(super) backoff: BackoffConfig,
    pub(super) retry: RetryConfig,
    pub(super) credits: u32,
    /// Its receive window on each connection, in bytes; 0 for no bound.
    pub(super) window_bytes: u64,
    pub(super) hold_limits: HoldLimits,
    pub(super) waiting_max: usize,
    pub(super) drain_timeout: Duration,
    /// The services of a worker.
    pub(super) services: Vec<&'static str>,
}

/// The parameters of a call.
#[derive(Clone, Debug)]
pub(super) struct CallPlan {
    pub(super) work: Work,
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    /// Whether the caller says that it may run twice; `None` leaves it to the method.
    pub(super) idempotent: Option<bool>,
    pub(super) fail_fast: bool,
    pub(super) timeout: Duration,
    pub(super) cancel_after: Option<Duration>,
    /// The partial replies that are kept for the caller, who does not read them.
    pub(super) partials_max: Option<u32>,
}

impl CallPlan {
    pub(super) fn is_idempotent(&self) -> bool {
        self.idempotent.unwrap_or(self.method == SAFE)
    }
}

/// An action on a process or by it.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Call(Pid, CallPlan),
    /// Breaks a connection between these two.
    Break(Pid, Pid, BreakPlan),
    /// Blocks everything from the first to the second.
    Block(Pid, Pid, Duration),
    /// The process does not run.
    Freeze(Pid, Duration),
    /// The process dies; if `is_silent`, with its machine, so that no peer is notified.
    Crash {
        process: Pid,
        is_silent: bool,
        restart_after: Duration,
    },
    /// The process drains and ends; then it is restarted.
    Drain(Pid, Duration),
    /// The process says goodbye at once; then it is restarted.
    Close(Pid, Duration),
    /// The process takes this long to read each message.
    Slow {
        process: Pid,
        pause: Duration,
        time: Duration,
    },
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakPlan {
    /// When each side learns of it, the dialing one first; `None` leaves it to find out.
    pub(super) told_after: [Option<Duration>; 2],
    /// The part of the messages in transit that still arrives, in percent.
    pub(super) arrives_percent: u8,
}

/// A seed's decisions.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) temper: Temper,
    pub(super) setups: Vec<Setup>,
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// The messages that a connection takes in before it takes no more.
    pub(super) high_water_mark: usize,
    /// The messages with replies that arrive twice, in percent.
    pub(super) repeats_percent: u8,
    pub(super) actions: Vec<(At, Action)>,
    /// When all faults end.
    pub(super) heals_at: At,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5eed_0000_0000_5eed);
        let temper = if random.u8(0..5) == 0 { Temper::Gentle } else { Temper::Harsh };
        let setups = Cast { random: &mut random, temper, setups: Vec::new() }.draw();
        let time = ms(random.u64(1_000..3_500));
        let mut script = Script { random: &mut random, temper, setups: &setups, time, actions: Vec::new() };
        script.draw();
        let actions = script.actions;
        let is_gentle = temper == Temper::Gentle;
        Self {
            temper,
            latency: ms(random.u64(0..20)),
            jitter: ms(random.u64(0..30)),
            high_water_mark: if is_gentle || random.bool() { 10_000 } else { random.usize(20..60) },
            repeats_percent: if random.u8(0..4) == 0 { 20 } else { 0 },
            heals_at: At::ZERO.after(time),
            setups,
            actions,
        }
    }
}

/// Draws the processes.
struct Cast<'a> {
    random: &'a mut Rng,
    temper: Temper,
    setups: Vec<Setup>,
}

impl Cast<'_> {
    fn draw(mut self) -> Vec<Setup> {
        let (brokers, binding, dialing) = match self.random.u8(0..5) {
            0 | 1 => (0, self.random.usize(1..4), 0),
            2 | 3 => (self.random.usize(1..3), 0, self.random.usize(1..4)),
            _ => (self.random.usize(1..3), 1, self.random.usize(1..3)),
        };
        (0..brokers).for_each(|number| self.add(Role::Broker, number));
        (0..binding).for_each(|number| self.add(Role::Binding, number));
        (0..dialing).for_each(|number| self.add(Role::Dialing, binding + number));
        let workers = self.random.usize(1..5);
        (0..workers).for_each(|number| self.add(Role::Worker, number));
        self.setups
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
        let interval = ms(random.u64(100..250));
        let attempts_max = random.u8(1..5);
        let setup = Setup {
            name: format!("{kind} {number}"),
            role,
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
            credits: random.u32(1..6),
            window_bytes: if random.bool() { 0 } else { random.u64(1..10_000) },
            hold_limits: HoldLimits::default(),
            waiting_max: if is_gentle || random.bool() { 1_000 } else { random.usize(WAITING_MAX_MIN..20) },
            drain_timeout: ms(if is_gentle { 20_000 } else { random.u64(0..2_000) }),
            services,
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

    fn services_of(&mut self, role: Role, number: usize) -> Vec<&'static str> {
        match role {
            Role::Worker if number == 0 || self.random.bool() => SERVICES.to_vec(),
            Role::Worker => vec![SERVICES[self.random.usize(0..SERVICES.len())]],
            _ => Vec::new(),
        }
    }
}

/// Draws the events.
struct Script<'a> {
    random: &'a mut Rng,
    temper: Temper,
    setups: &'a [Setup],
    time: Duration,
    actions: Vec<(At, Action)>,
}

impl Script<'_> {
    fn draw(&mut self) {
        self.draw_calls();
        let count = self.random.usize(0..if self.temper == Temper::Gentle { 6 } else { 14 });
        for _ in 0..count {
            let at = self.instant();
            let action = if self.temper == Temper::Gentle { self.gentle() } else { self.harsh() };
            self.actions.push((at, action));
        }
        self.actions.sort_by_key(|(at, _)| *at);
    }

    fn draw_calls(&mut self) {
        let bursts = self.random.usize(3..20);
        let mut tag = 0;
        for _ in 0..bursts {
            let (at, client) = (self.instant(), self.any(Role::is_client));
            let size = if self.random.u8(0..4) == 0 { self.random.usize(4..16) } else { 1 };
            for _ in 0..size {
                tag += 1;
                let plan = self.plan(Tag(tag));
                self.actions.push((at, Action::Call(client, plan)));
            }
        }
    }

    fn plan(&mut self, tag: Tag) -> CallPlan {
        let is_gentle = self.temper == Temper::Gentle;
        let work = self.work(tag);
        let random = &mut *self.random;
        let timeout = if is_gentle { GENTLE_TIMEOUT } else { ms(random.u64(0..2_500)) };
        CallPlan {
            work,
            service: SERVICES[random.usize(0..SERVICES.len())],
            method: if random.bool() { SAFE } else { ONCE },
            idempotent: [None, None, None, Some(true), Some(false)][random.usize(0..5)],
            fail_fast: !is_gentle && random.u8(0..20) == 0,
            timeout,
            cancel_after: (!is_gentle && random.u8(0..8) == 0).then(|| ms(random.u64(0..500))),
            partials_max: (!is_gentle && random.u8(0..10) == 0).then(|| random.u32(0..3)),
        }
    }

    fn work(&mut self, tag: Tag) -> Work {
        let (random, is_gentle) = (&mut *self.random, self.temper == Temper::Gentle);
        let is_slow = random.u8(0..4) == 0;
        Work {
            tag,
            delay: if random.u8(0..10) == 0 { ms(random.u64(0..30)) } else { Duration::ZERO },
            time: ms(if is_slow { random.u64(0..if is_gentle { 300 } else { 1_200 }) } else { random.u64(0..40) }),
            partials: if random.u8(0..4) == 0 { random.u32(1..6) } else { 0 },
            fate: match random.u8(0..12) {
                0 => Fate::Fails,
                1 => Fate::Panics,
                _ => Fate::Replies,
            },
            is_stubborn: random.u8(0..5) == 0,
            ballast: match random.u16(0..400) {
                // Large enough to be announced first.
                0 => 300_000,
                1..40 => random.u32(3_000..9_000),
                _ => random.u32(0..50),
            },
        }
    }

    /// An action that costs no call anything: a draining worker, or a process that is held up for a moment.
    fn gentle(&mut self) -> Action {
        if self.random.bool() {
            return Action::Drain(self.any(|role| role == Role::Worker), ms(self.random.u64(0..300)));
        }
        let process = self.any(|_| true);
        // Its peers tolerate at least twice its interval (a liveness of 3), and hear of it after up to 50 ms.
        let slack = self.setups[process].heartbeats.interval - ms(60).min(self.setups[process].heartbeats.interval);
        Action::Freeze(process, slack.mul_f64(self.random.f64()))
    }

    fn harsh(&mut self) -> Action {
        let process = self.any(|_| true);
        let (random, time) = (&mut *self.random, |random: &mut Rng, max| ms(random.u64(0..max)));
        match random.u8(0..16) {
            0..3 => {
                let (one, other) = self.neighbours();
                Action::Break(one, other, self.break_plan())
            }
            3..5 => {
                let (one, other) = self.neighbours();
                let time = time(self.random, 1_800);
                match self.random.u8(0..3) {
                    0 => Action::Block(one, other, time),
                    1 => Action::Block(other, one, time),
                    _ => {
                        let at = self.instant();
                        self.actions.push((at, Action::Block(one, other, time)));
                        self.actions.push((at, Action::Block(other, one, time)));
                        Action::Block(one, other, time)
                    }
                }
            }
            5..7 => Action::Freeze(process, time(random, 1_800)),
            7..10 => Action::Crash { process, is_silent: random.u8(0..3) == 0, restart_after: time(random, 1_000) },
            10..13 => Action::Drain(process, time(random, 500)),
            13 => Action::Close(process, time(random, 500)),
            14 => Action::Slow { process, pause: time(random, 30), time: time(random, 1_500) },
            _ => {
                let worker = self.any(|role| role == Role::Worker);
                Action::Drain(worker, ms(self.random.u64(0..300)))
            }
        }
    }

    fn break_plan(&mut self) -> BreakPlan {
        let random = &mut *self.random;
        let told_after = [0, 1].map(|_| (random.u8(0..3) > 0).then(|| ms(random.u64(0..300))));
        BreakPlan { told_after, arrives_percent: random.u8(0..=100) }
    }

    /// Two processes; the first dials the second.
    fn neighbours(&mut self) -> (Pid, Pid) {
        let one = self.any(|role| matches!(role, Role::Worker | Role::Dialing));
        let dials = &self.setups[one].dials;
        (one, dials[self.random.usize(0..dials.len())].process)
    }

    fn any(&mut self, is_meant: fn(Role) -> bool) -> Pid {
        let pids: Vec<_> = (0..self.setups.len()).filter(|pid| is_meant(self.setups[*pid].role)).collect();
        pids[self.random.usize(0..pids.len())]
    }

    fn instant(&mut self) -> At {
        let millis = self.time.as_millis() as u64;
        At::ZERO.after(ms(self.random.u64(0..millis)))
    }
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The services that workers may offer.
pub(super) const SERVICES: [&str; 2] = ["Alpha", "Beta"];

/// The method that every service declares idempotent.
pub(super) const SAFE: &str = "safe";

/// The method that no service declares idempotent.
pub(super) const ONCE: &str = "once";

/// Calls of a gentle seed have time for every queue and every restart.
pub(super) const GENTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Room for the calls of all of a broker's clients when all is well.
const WAITING_MAX_MIN: usize = 6;

/// The longest pause before another attempt.
pub(super) const RETRY_WAIT_MAX_MS: u64 = 200;

//! A seed's decisions before anything happens: the processes, their settings, the calls, and the faults.

mod cast;
mod script;

use std::time::Duration;

use fastrand::Rng;
use xero::proto::{
    broker::Door,
    hold::HoldLimits,
    liveness::Heartbeats,
    message::{Codec, ServiceOffer},
    retry::BackoffConfig,
    retry::RetryConfig,
};

use super::{clock::At, whim::Whim, work::Work};
use cast::Cast;
use script::Script;

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

/// What a seed looks at in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// Everything a little.
    Plain,
    /// Workers that differ in what they offer, read, declare and accept, and choices of many kinds.
    Diverse,
    /// Processes that keep to no rule, among those that do.
    Hostile,
    /// Hundreds of peers of one process.
    Crowd,
    /// Thousands of calls that expire together.
    Rush,
    /// Small limits of what is held, many large messages, and peers that acknowledge nothing.
    Memory,
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
    /// Whether it keeps to no rule. Its role then says what it seems to be.
    pub(super) is_hostile: bool,
    /// Whether a hostile process never introduces itself.
    pub(super) is_mute: bool,
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
    pub(super) services: Vec<ServiceOffer>,
    /// The codecs that a worker reads.
    pub(super) codecs: Vec<Codec>,
    pub(super) payload_bytes_max: usize,
    /// The services that a broker announces at most.
    pub(super) services_max: usize,
    /// The memory that the offers of its workers may take.
    pub(super) offers_bytes_max: u64,
    pub(super) whim: Whim,
}

impl Setup {
    /// Whether this worker says that the method of a call may run twice.
    pub(super) fn declares(&self, plan: &CallPlan) -> bool {
        let service = self.services.iter().find(|service| &*service.name == plan.service);
        service.is_some_and(|service| service.methods.iter().any(|m| &*m.name == plan.method && m.idempotent))
    }
}

/// The parameters of a call.
#[derive(Clone, Debug)]
pub(super) struct CallPlan {
    pub(super) work: Work,
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) fingerprint: u64,
    pub(super) codec: Codec,
    /// Whether the caller says that it may run twice; `None` leaves it to the method.
    pub(super) idempotent: Option<bool>,
    pub(super) fail_fast: bool,
    pub(super) timeout: Duration,
    pub(super) cancel_after: Option<Duration>,
    /// The partial replies that are kept for the caller, who does not read them.
    pub(super) partials_max: Option<u32>,
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
    /// The runtime of a worker's procedures ends; the worker drains, and is restarted.
    EndRuntime(Pid, Duration),
    /// The process does what it must not, from now on.
    Misbehave(Pid),
    /// The process acknowledges nothing for this long.
    Deafen(Pid, Duration),
    /// The worker introduces itself once more, with other versions of its services.
    Renew(Pid),
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakPlan {
    /// When each side learns of it, the dialing one first; `None` leaves it to find out.
    pub(super) noticed_after: [Option<Duration>; 2],
    /// The part of the messages in transit that still arrives, in percent.
    pub(super) arrives_percent: u8,
}

/// A seed's decisions.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) temper: Temper,
    pub(super) theme: Theme,
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

impl Theme {
    fn draw(random: &mut Rng, temper: Temper) -> Self {
        if temper == Temper::Harsh {
            match random.u8(0..150) {
                0..3 => return Self::Rush,
                3 => return Self::Crowd,
                _ => {}
            }
        }
        match random.u8(0..6) {
            _ if temper == Temper::Gentle => Self::Plain,
            0 => Self::Memory,
            1 | 2 => Self::Diverse,
            3 => Self::Hostile,
            _ => Self::Plain,
        }
    }
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5eed_0000_0000_5eed);
        let temper = if random.u8(0..5) == 0 { Temper::Gentle } else { Temper::Harsh };
        let theme = Theme::draw(&mut random, temper);
        let setups = Cast { random: &mut random, temper, theme, setups: Vec::new() }.draw();
        let time = match theme {
            Theme::Crowd => ms(CROWD_MS),
            // Until the end of every silent connection.
            _ if setups.iter().any(|setup| setup.is_mute) => ms(INTRODUCTIONS_MS),
            _ => ms(random.u64(1_000..3_500)),
        };
        let mut script = Script { random: &mut random, temper, theme, setups: &setups, time, actions: Vec::new() };
        script.draw();
        let actions = script.actions;
        let is_gentle = temper == Temper::Gentle;
        Self {
            temper,
            theme,
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

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The services that workers may offer.
pub(super) const SERVICES: [&str; 2] = ["Alpha", "Beta"];

/// The method that every service declares idempotent.
pub(super) const SAFE: &str = "safe";

/// The method that no service declares idempotent.
pub(super) const ONCE: &str = "once";

/// A method that only some workers declare idempotent, and some do not have.
pub(super) const MIXED: &str = "mixed";

/// A method that only some workers have, with different signatures.
pub(super) const RARE: &str = "rare";

/// Calls of a gentle seed have time for every queue and every restart.
pub(super) const GENTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A crowd says much in a short time.
const CROWD_MS: u64 = 1_000;

/// Ten of the longest expiries: four intervals of 250 ms.
const INTRODUCTIONS_MS: u64 = 11_000;

/// Room for the calls of all of a broker's clients when all is well.
const WAITING_MAX_MIN: usize = 6;

/// The longest pause before another attempt.
pub(super) const RETRY_WAIT_MAX_MS: u64 = 200;

//! Does to processes what is planned, and sees to it that one worker stays reachable.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use xero::Client;

use super::{
    Settings,
    schedule::{self, Fault, Planned},
};
use crate::{
    load::{
        child::{DRAIN, WORKER},
        crew::{Condition, Member},
        figures::{Memory, Sample},
    },
    process::resident_bytes,
    scene::eventually,
};

/// What the director has done and seen.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) log: Vec<(Duration, String)>,
    pub(super) memory: Memory,
    pub(super) violations: Vec<String>,
    /// The longest time without a reachable worker.
    pub(super) gap: Duration,
}

/// Whoever does it.
pub(super) struct Director {
    start: Instant,
    client: Client,
    members: Vec<Member>,
    plan: VecDeque<Planned>,
    /// What is to be undone, to whom and when.
    undoing: Vec<(Duration, usize, Undo)>,
    sampled_at: Option<Duration>,
    told_at: Duration,
    /// When a worker was reachable last.
    reachable_at: Duration,
    /// When it was last found that none was.
    unreachable_at: Duration,
    is_talkative: bool,
    ending: Ending,
}

/// What ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Thaw,
    Restart,
    /// Once it has left, by that time, a restart after so long.
    Await(Duration, Duration),
}

impl Director {
    /// Starts everything and waits until all have found each other.
    pub(super) async fn begin(settings: &Settings, journal: &Path) -> Self {
        let client = Client::builder().heartbeat_interval(INTERVAL).liveness(LIVENESS).attempts_max(ATTEMPTS_MAX);
        let client = client.bind("tcp://127.0.0.1:0").await.expect("a free port");
        let program = settings.program.to_str().expect("a path in Unicode");
        let interval = INTERVAL.as_millis().to_string();
        let arguments = [WORKER, "--interval", &interval, "--journal", &journal.display().to_string()];
        let arguments = [&arguments[..], &[client.endpoint()]].concat().into_iter().map(str::to_owned);
        let arguments: Vec<_> = arguments.collect();
        let worker = |number| Member::start(format!("worker {number}"), program, arguments.clone());
        let members = (0..settings.workers).map(worker).collect();
        let plan = schedule::plan(settings.seed, settings.time, EXPIRY).into();
        let director = Self {
            start: Instant::now(),
            client,
            members,
            plan,
            undoing: Vec::new(),
            sampled_at: None,
            told_at: Duration::ZERO,
            reachable_at: Duration::ZERO,
            unreachable_at: Duration::ZERO,
            is_talkative: settings.is_talkative,
            ending: Ending::default(),
        };
        eventually("all workers are reachable", async || director.all_are_reachable()).await;
        Self { start: Instant::now(), ..director }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Does what is planned, for so long.
    pub(super) async fn disturb(&mut self, time: Duration, summary: impl Fn() -> String) {
        while self.now() < time {
            self.turn();
            self.measure_gap();
            while self.plan.front().is_some_and(|planned| planned.at <= self.now()) {
                let planned = self.plan.pop_front().expect("there is one");
                self.strike(planned);
            }
            if self.is_talkative && self.now() >= self.told_at + TELLING {
                self.told_at = self.now();
                println!("{:>6.1} s: {}", self.now().as_secs_f64(), summary());
                println!("          {}", self.ending.memory.now(self.now() - 2 * SAMPLING));
            }
            sleep(TURN).await;
        }
    }

    /// Undoes all, and waits until everybody has found everybody again.
    pub(super) async fn heal(&mut self) {
        let start = self.now();
        while !(self.undoing.is_empty() && self.all_are_reachable()) {
            self.turn();
            if self.now() > start + HEALING {
                let count = self.reachable().count();
                let what = format!("{HEALING:?} after the last fault only {count} workers are reachable");
                return self.violated(what);
            }
            sleep(TURN).await;
        }
        self.note("everybody is there again".to_owned());
    }

    /// Asks all to leave, and says what was seen.
    pub(super) async fn end(mut self) -> Ending {
        let end = self.now();
        self.members.iter_mut().filter(|member| member.condition() == Condition::Running).for_each(Member::terminate);
        for index in 0..self.members.len() {
            self.undoing.push((end, index, Undo::Await(end + 2 * DRAIN, Duration::MAX)));
        }
        while !self.undoing.is_empty() {
            self.turn();
            sleep(TURN).await;
        }
        self.client.close().await;
        let growth = self.ending.memory.growth(end, MEMORY_MAX);
        self.ending.violations.extend(growth);
        self.ending
    }

    /// Everything but new faults.
    fn turn(&mut self) {
        self.undo();
        for index in 0..self.members.len() {
            if let Some(death) = self.members[index].death() {
                self.violated(death);
                self.undoing.push((self.now(), index, Undo::Restart));
            }
        }
        self.sample();
    }

    fn measure_gap(&mut self) {
        let now = self.now();
        if self.reachable().next().is_some() {
            self.reachable_at = now;
        } else if self.reachable_at > self.unreachable_at {
            self.unreachable_at = now;
            self.note("no worker is reachable".to_owned());
        }
        self.ending.gap = self.ending.gap.max(now - self.reachable_at);
    }

    fn strike(&mut self, Planned { fault, from, .. }: Planned) {
        let count = self.members.len();
        let candidates = (0..count).map(|step| (from % count + step) % count);
        let candidate = candidates.into_iter().find(|index| self.may_strike(*index));
        let Some(index) = candidate else {
            return self.note(format!("nobody {fault}: no other worker would be reachable"));
        };
        let now = self.now();
        let member = &mut self.members[index];
        let line = format!("{}, process {}, {fault}", member.name, member.process().id());
        let (at, undo) = match fault {
            Fault::Kill(away) => {
                member.kill();
                (now + away, Undo::Restart)
            }
            Fault::Stall(time) | Fault::Freeze(time) => {
                member.freeze();
                (now + time, Undo::Thaw)
            }
            Fault::Leave(away) => {
                member.terminate();
                (now, Undo::Await(now + 2 * DRAIN, away))
            }
        };
        self.undoing.push((at, index, undo));
        self.note(line);
    }

    /// Whether a worker is reachable when this one no longer is.
    fn may_strike(&self, index: usize) -> bool {
        self.members[index].condition() == Condition::Running && self.reachable().any(|other| other != index)
    }

    fn undo(&mut self) {
        let now = self.now();
        let (due, later) = std::mem::take(&mut self.undoing).into_iter().partition(|(at, ..)| *at <= now);
        self.undoing = later;
        let due: Vec<_> = due;
        for (at, index, undo) in due {
            let member = &mut self.members[index];
            let line = match undo {
                Undo::Thaw => {
                    member.thaw();
                    "goes on"
                }
                Undo::Restart => {
                    member.restart();
                    "is started again"
                }
                Undo::Await(until, away) => {
                    self.look_after(index, (at, until), away);
                    continue;
                }
            };
            let line = format!("{}, process {}, {line}", member.name, member.process().id());
            self.note(line);
        }
    }

    fn look_after(&mut self, index: usize, (at, until): (Duration, Duration), away: Duration) {
        let now = self.now();
        let member = &mut self.members[index];
        match member.has_left() {
            Ok(false) if now < until => return self.undoing.push((at, index, Undo::Await(until, away))),
            Ok(false) => {
                let what = format!("{} has not left within {:?}", member.name, 2 * DRAIN);
                member.kill();
                self.violated(what);
            }
            Ok(true) => {
                let line = format!("{} has left", member.name);
                self.note(line);
            }
            Err(obituary) => self.violated(obituary),
        }
        if away < Duration::MAX {
            self.undoing.push((now + away, index, Undo::Restart));
        }
    }

    fn sample(&mut self) {
        let at = self.now();
        if self.sampled_at.is_some_and(|sampled_at| at < sampled_at + SAMPLING) {
            return;
        }
        self.sampled_at = Some(at);
        self.members.iter().for_each(|member| member.sample(at, &mut self.ending.memory));
        let ours = std::process::id();
        if let Some(bytes) = resident_bytes(ours) {
            self.ending.memory.add("client", ours, Sample { at, bytes });
        }
    }

    fn all_are_reachable(&self) -> bool {
        self.reachable().count() == self.members.len()
    }

    /// The workers that are reachable now; what that means is said on top of the module above.
    fn reachable(&self) -> impl Iterator<Item = usize> {
        let known: Vec<_> = self.client.workers().iter().map(|worker| worker.id.to_string()).collect();
        self.members.iter().enumerate().filter_map(move |(index, member)| {
            let is_known =
                member.condition() == Condition::Running && member.id().is_some_and(|id| known.contains(&id));
            is_known.then_some(index)
        })
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn note(&mut self, line: String) {
        self.ending.log.push((self.now(), line));
    }

    fn violated(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.ending.violations.push(what);
    }
}

/// Heartbeats so frequent that in a run of seconds many leases expire.
const INTERVAL: Duration = Duration::from_millis(250);

/// Intervals that may pass in silence, so many that a busy machine is not taken for a frozen one.
const LIVENESS: u32 = 4;

/// When a process that is not heard from is given up.
const EXPIRY: Duration = INTERVAL.saturating_mul(LIVENESS);

/// Attempts at a call: as many as faults can hit it within its time, so that it is not the bound that ends it.
const ATTEMPTS_MAX: u8 = 20;

/// The time that everybody has to find everybody after the last fault: the longest lease and the longest pause between
/// dials, and a wide margin for a busy machine.
const HEALING: Duration = Duration::from_secs(15);

/// How often there is something to look after.
const TURN: Duration = Duration::from_millis(10);

/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(250);

/// How often a talkative run says how it goes.
const TELLING: Duration = Duration::from_secs(5);

/// What no process may need here: a hundred times what it has in flight.
const MEMORY_MAX: usize = 256 << 20;

//! Carries out the planned faults, and keeps one worker reachable.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use xero::Client;

use super::{
    Settings, moment,
    schedule::{self, Fault, Planned},
};
use crate::{
    load::{
        crew::{Crew, CrewConfig, DRAIN},
        figures::{Memory, Sample},
        member::{Condition, Member},
        role::LIVENESS,
    },
    process::resident_bytes,
};

/// The director's actions and observations.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) log: Vec<(Duration, String)>,
    pub(super) memory: Memory,
    pub(super) violations: Vec<String>,
    /// The longest time without a reachable worker.
    pub(super) gap: Duration,
}

/// Carries out the faults.
pub(super) struct Director {
    start: Instant,
    crew: Crew,
    plan: VecDeque<Planned>,
    /// The faults to undo, with their time and process.
    undoing: Vec<(Duration, usize, Undo)>,
    sampled_at: Option<Duration>,
    reported_at: Duration,
    /// When a worker was last reachable.
    reachable_at: Duration,
    /// When none was last found reachable.
    unreachable_at: Duration,
    is_talkative: bool,
    ending: Ending,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Thaw,
    Restart,
    /// A restart after the second duration, once it has left within the first.
    Await(Duration, Duration),
}

impl Director {
    /// Starts everything and waits until all peers are connected.
    pub(super) async fn begin(settings: &Settings, journal: &Path) -> Self {
        let Settings { program, topology, workers, seed, time, is_talkative, .. } = settings.clone();
        let (interval, attempts_max) = (Some(INTERVAL), Some(ATTEMPTS_MAX));
        let crew = CrewConfig { program, topology, workers, interval, attempts_max };
        Self {
            crew: Crew::start(&crew, Some(journal)).await,
            start: Instant::now(),
            plan: schedule::plan(seed, time, INTERVAL * LIVENESS).into(),
            undoing: Vec::new(),
            sampled_at: None,
            reported_at: Duration::ZERO,
            reachable_at: Duration::ZERO,
            unreachable_at: Duration::ZERO,
            is_talkative,
            ending: Ending::default(),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.crew.client
    }

    /// Carries out the planned faults for this long.
    pub(super) async fn disturb(&mut self, time: Duration, summary: impl Fn() -> String) {
        while self.now() < time {
            self.turn();
            self.measure_gap();
            while self.plan.front().is_some_and(|planned| planned.at <= self.now()) {
                let planned = self.plan.pop_front().expect("there is one");
                self.strike(planned);
            }
            if self.is_talkative && self.now() >= self.reported_at + TELLING {
                self.reported_at = self.now();
                let start = moment(self.now());
                println!("{start}{}", summary());
                println!("{:width$}{}", "", self.ending.memory.now(self.now() - 2 * SAMPLING), width = start.len());
            }
            sleep(TURN).await;
        }
    }

    /// Undoes all faults, and waits until all peers are connected again.
    pub(super) async fn heal(&mut self) {
        let start = self.now();
        while !(self.undoing.is_empty() && self.crew.is_whole()) {
            self.turn();
            if self.now() > start + HEALING {
                let count = self.crew.reachable_without(None);
                let what = format!("{HEALING:?} after the last fault not all are there; {count} workers are reachable");
                return self.violated(what);
            }
            sleep(TURN).await;
        }
        self.note("everybody is there again".to_owned());
    }

    /// Asks all to leave, and returns the observations.
    pub(super) async fn end(mut self) -> Ending {
        let end = self.now();
        self.crew
            .members
            .iter_mut()
            .filter(|member| member.condition() == Condition::Running)
            .for_each(Member::terminate);
        for index in 0..self.crew.members.len() {
            self.undoing.push((end, index, Undo::Await(end + 2 * DRAIN, Duration::MAX)));
        }
        while !self.undoing.is_empty() {
            self.turn();
            sleep(TURN).await;
        }
        self.crew.client.close().await;
        let growth = self.ending.memory.growth(end, MEMORY_MAX);
        self.ending.violations.extend(growth);
        self.ending
    }

    /// Does everything except new faults.
    fn turn(&mut self) {
        self.undo();
        for index in 0..self.crew.members.len() {
            if let Some(death) = self.crew.members[index].death() {
                self.violated(death);
                // Its pending undo died with it.
                self.undoing.retain(|(_, other, _)| *other != index);
                self.undoing.push((self.now(), index, Undo::Restart));
            }
        }
        self.sample();
    }

    fn measure_gap(&mut self) {
        let now = self.now();
        if self.crew.reachable_without(None) > 0 {
            self.reachable_at = now;
        } else if self.reachable_at > self.unreachable_at {
            self.unreachable_at = now;
            self.note("no worker is reachable".to_owned());
        }
        self.ending.gap = self.ending.gap.max(now - self.reachable_at);
    }

    fn strike(&mut self, Planned { fault, from, .. }: Planned) {
        let count = self.crew.members.len();
        let candidates = (0..count).map(|step| (from % count + step) % count);
        let candidate = candidates.into_iter().find(|index| self.may_strike(*index, fault));
        let Some(index) = candidate else {
            return self.note(format!("nobody {fault}: no other worker would be reachable"));
        };
        let now = self.now();
        let member = &mut self.crew.members[index];
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

    /// Whether this fault may hit that member, while a worker is reachable without it.
    fn may_strike(&self, index: usize, fault: Fault) -> bool {
        let member = &self.crew.members[index];
        // A process that has not started yet ignores signals.
        let can_leave = member.id().is_some() || !matches!(fault, Fault::Leave(_));
        member.condition() == Condition::Running && can_leave && self.crew.reachable_without(Some(index)) > 0
    }

    fn undo(&mut self) {
        let now = self.now();
        let (due, later) = std::mem::take(&mut self.undoing).into_iter().partition(|(at, ..)| *at <= now);
        self.undoing = later;
        let due: Vec<_> = due;
        for (at, index, undo) in due {
            let member = &mut self.crew.members[index];
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
        let member = &mut self.crew.members[index];
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
        self.crew.members.iter().for_each(|member| member.sample(at, &mut self.ending.memory));
        let ours = std::process::id();
        if let Some(bytes) = resident_bytes(ours) {
            self.ending.memory.add("client", ours, Sample { at, bytes });
        }
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

/// Heartbeats so frequent that many leases expire in a run of seconds.
const INTERVAL: Duration = Duration::from_millis(250);

/// Attempts at a call: as many as faults can hit it within its time, so that this bound does not end it.
const ATTEMPTS_MAX: u8 = 20;

/// The time for all peers to connect after the last fault: the longest lease and the longest pause between dials, and a
/// wide margin for a busy machine.
const HEALING: Duration = Duration::from_secs(15);

/// The pause between the director's turns.
const TURN: Duration = Duration::from_millis(10);

/// The pause between memory samples.
const SAMPLING: Duration = Duration::from_millis(250);

/// The pause between progress reports.
const TELLING: Duration = Duration::from_secs(5);

/// The memory limit of each process: a hundred times what it has in flight.
const MEMORY_MAX: usize = 256 << 20;

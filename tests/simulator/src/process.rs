//! The processes of the simulated network: a machine of the core each, with its application.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use xero::proto::{
    broker::Door,
    message::{CallId, Peer, Ready},
    timer::Execution,
};

use super::{
    clock::{At, Clock},
    machine::Machine,
    network::{Event, Wire},
    scenario::Setup,
    work::{Run, Tag, Work},
};

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Frozen,
    Dead,
}

pub(super) struct Process {
    pub(super) setup: Setup,
    pub(super) clock: Clock,
    pub(super) life: Life,
    /// The number of restarts.
    pub(super) incarnation: u32,
    pub(super) machine: Machine,
    /// The connections of the machine's peers.
    pub(super) sockets: BTreeMap<(Door, Peer), Wire>,
    /// Connections to end once everything sent is on its way.
    pub(super) disconnects: Vec<(Door, Peer)>,
    /// Events that arrived while it was frozen, or that it reads slowly.
    pub(super) inbox: VecDeque<Event>,
    /// The time to read a message, while it is slow.
    pub(super) pause: Option<Duration>,
    /// Whether its driver was held up: it puts off timeouts, but for heartbeats, until it has read what has come.
    pub(super) is_late: bool,
    /// Whether it acknowledges next to nothing, and what it would have acknowledged.
    pub(super) is_deaf: bool,
    pub(super) withheld: BTreeMap<Wire, u64>,
    /// What it has acknowledged on each connection.
    pub(super) acknowledged: BTreeMap<Wire, u64>,
    /// Whether procedures can run.
    pub(super) has_runtime: bool,
    /// Whether it was asked to leave: it takes no new call, and its connections may end.
    pub(super) is_leaving: bool,
    /// Whether the machine has said goodbye to all peers.
    pub(super) has_left: bool,
    /// How long it stays away after leaving.
    pub(super) absence: Duration,
    pub(super) calls: BTreeMap<CallId, Tag>,
    pub(super) jobs: BTreeMap<Execution, Job>,
    /// A worker's last introduction on each connection.
    pub(super) offers: BTreeMap<Wire, Ready>,
    alarm_at: Option<At>,
    calls_made: u64,
    peers_met: [u64; 2],
}

/// A procedure that has started and not ended.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) peer: Peer,
    pub(super) call: CallId,
    /// Set once the runtime has begun it.
    pub(super) run: Option<Run>,
    pub(super) partials: u32,
    pub(super) is_aborted: bool,
}

impl Process {
    pub(super) fn new(pid: usize, setup: Setup, origin: Instant, is_healed: &Arc<AtomicBool>) -> Self {
        // Clocks differ by minutes: no message may carry a clock reading.
        let clock = Clock::new(origin + Duration::from_secs(61 * pid as u64), setup.drift);
        Self {
            machine: Machine::new(pid, 0, &setup, clock.read(At::ZERO), is_healed),
            setup,
            clock,
            life: Life::Running,
            incarnation: 0,
            sockets: BTreeMap::new(),
            disconnects: Vec::new(),
            inbox: VecDeque::new(),
            pause: None,
            is_late: false,
            is_deaf: false,
            has_runtime: true,
            withheld: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            is_leaving: false,
            has_left: false,
            absence: Duration::ZERO,
            calls: BTreeMap::new(),
            jobs: BTreeMap::new(),
            offers: BTreeMap::new(),
            alarm_at: Some(At::ZERO),
            calls_made: 0,
            peers_met: [0; 2],
        }
    }

    /// Kills the process, with everything in it.
    pub(super) fn die(&mut self) {
        self.life = Life::Dead;
        self.sockets.clear();
        self.disconnects.clear();
        self.inbox.clear();
        self.calls.clear();
        self.jobs.clear();
        self.offers.clear();
        self.pause = None;
        (self.is_late, self.is_deaf) = (false, false);
        self.withheld.clear();
        self.acknowledged.clear();
    }

    pub(super) fn restart(&mut self, pid: usize, now: At, is_healed: &Arc<AtomicBool>) {
        self.incarnation += 1;
        self.life = Life::Running;
        self.machine = Machine::new(pid, self.incarnation, &self.setup, self.clock.read(now), is_healed);
        (self.is_leaving, self.has_left, self.has_runtime) = (false, false, true);
        self.peers_met = [0; 2];
    }

    pub(super) fn is_running(&self) -> bool {
        self.life == Life::Running
    }

    /// The number of the next connection through a door.
    pub(super) fn next_peer(&mut self, door: Door) -> Peer {
        let met = &mut self.peers_met[usize::from(door == Door::Back)];
        *met += 1;
        Peer(*met)
    }

    pub(super) fn next_call(&mut self, pid: usize) -> CallId {
        self.calls_made += 1;
        CallId(((pid as u64 + 1) << 48) | (u64::from(self.incarnation) << 32) | self.calls_made)
    }

    /// Records when its machine wants to be woken, which changes only in its turns.
    pub(super) fn set_alarm(&mut self, now: At) {
        let alarm_at = self.machine.poll_timeout().map(|timeout| self.clock.at(timeout));
        // What a late process puts off is due all the time.
        let earliest = if self.is_late { now.after(LATE_TURN) } else { now };
        self.alarm_at = alarm_at.map(|at| at.max(earliest));
    }

    /// When its machine wants to be woken.
    pub(super) fn wakes_at(&self) -> Option<At> {
        self.alarm_at.filter(|_| self.is_running())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.setup.name)
    }
}

/// The time between two turns of a process that puts off its timeouts.
const LATE_TURN: Duration = Duration::from_millis(2);

//! The processes of the simulated network: a machine of the core each, with its application.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use uuid::Uuid;
use xero::proto::{
    broker::{Broker, BrokerConfig, BrokerOutput, Door},
    calls::{CallEnd, CallSpec},
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    frame::{Inbound, Limits, Malformed},
    message::{CallId, Payload, Peer},
    outbox::Transmit,
    timer::Execution,
    worker::{Finish, Start, Worker, WorkerConfig, WorkerOutput},
};

use super::{
    clock::{At, Clock},
    network::{Event, Wire},
    scenario::{Role, Setup},
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
    /// Whether it acknowledges nothing, and what it would have acknowledged.
    pub(super) is_deaf: bool,
    pub(super) withheld: BTreeMap<Wire, u64>,
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
            is_deaf: false,
            has_runtime: true,
            withheld: BTreeMap::new(),
            is_leaving: false,
            has_left: false,
            absence: Duration::ZERO,
            calls: BTreeMap::new(),
            jobs: BTreeMap::new(),
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
        self.pause = None;
        self.is_deaf = false;
        self.withheld.clear();
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
    pub(super) fn set_alarm(&mut self) {
        self.alarm_at = self.machine.poll_timeout().map(|timeout| self.clock.at(timeout));
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

/// A machine of any role, with the same methods.
pub(super) enum Machine {
    Client(Box<Dispatcher>),
    Broker(Box<Broker>),
    Worker(Box<Worker>),
}

/// An output of a machine, whatever its role.
#[derive(Debug)]
pub(super) enum Told {
    Dial(Peer),
    Disconnect(Door, Peer),
    Joined(Door, Peer),
    Left(Door, Peer, Departure),
    Partial(CallId, Payload),
    Ended(CallId, CallEnd),
    Start(Box<Start>),
    Abort(Execution),
    HasLeft,
    Nothing,
}

impl Machine {
    fn new(pid: usize, incarnation: u32, setup: &Setup, now: Instant, is_healed: &Arc<AtomicBool>) -> Self {
        let id = id_of(pid, incarnation);
        let dials = setup.dials.len() as u64;
        match setup.role {
            Role::Binding => Self::Client(Dispatcher::new(dispatcher_config(setup, id, is_healed)).into()),
            Role::Dialing => {
                Self::Client(Dispatcher::dialing(now, dispatcher_config(setup, id, is_healed), dials).into())
            }
            Role::Broker => Self::Broker(Broker::new(broker_config(setup, id, is_healed)).into()),
            Role::Worker => Self::Worker(Worker::new(now, worker_config(setup, id), dials).into()),
        }
    }

    pub(super) fn call(&mut self, now: Instant, id: CallId, spec: CallSpec) {
        if let Self::Client(machine) = self {
            machine.call(now, id, spec);
        }
    }

    pub(super) fn cancel(&mut self, now: Instant, id: CallId) {
        if let Self::Client(machine) = self {
            machine.cancel(now, id);
        }
    }

    pub(super) fn overflow(&mut self, now: Instant, id: CallId) {
        if let Self::Client(machine) = self {
            machine.overflow(now, id);
        }
    }

    pub(super) fn finish(&mut self, now: Instant, execution: Execution, finish: Finish) {
        if let Self::Worker(machine) = self {
            machine.finish(now, execution, finish);
        }
    }

    /// Whether somebody waits for the partial reply.
    pub(super) fn partial(&mut self, now: Instant, execution: Execution, payload: Payload) -> bool {
        match self {
            Self::Worker(machine) => machine.partial(now, execution, payload),
            Self::Client(_) | Self::Broker(_) => false,
        }
    }

    pub(super) fn drain(&mut self, now: Instant, timeout: Duration) {
        match self {
            Self::Client(machine) => machine.drain(now, timeout),
            Self::Broker(machine) => machine.drain(now),
            Self::Worker(machine) => machine.drain(now),
        }
    }

    /// Workers know only one way to leave.
    pub(super) fn close(&mut self, now: Instant) {
        match self {
            Self::Client(machine) => machine.close(now),
            Self::Broker(machine) => machine.close(now),
            Self::Worker(machine) => machine.drain(now),
        }
    }

    pub(super) fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        match self {
            Self::Client(machine) => machine.handle_dialed(now, peer),
            Self::Worker(machine) => machine.handle_dialed(now, peer),
            Self::Broker(_) => {}
        }
    }

    pub(super) fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: Inbound) {
        match self {
            Self::Client(machine) => machine.handle_message(now, from, message),
            Self::Broker(machine) => machine.handle_message(now, door, from, message),
            Self::Worker(machine) => machine.handle_message(now, from, message),
        }
    }

    pub(super) fn handle_malformed(&mut self, now: Instant, door: Door, from: Peer, malformed: &Malformed) {
        match self {
            Self::Client(machine) => machine.handle_malformed(now, from, malformed),
            Self::Broker(machine) => machine.handle_malformed(now, door, from, malformed),
            Self::Worker(machine) => machine.handle_malformed(now, from, malformed),
        }
    }

    pub(super) fn handle_disconnected(&mut self, now: Instant, door: Door, peer: Peer) {
        match self {
            Self::Client(machine) => machine.handle_disconnected(now, peer),
            Self::Broker(machine) => machine.handle_disconnected(now, door, peer),
            Self::Worker(machine) => machine.handle_disconnected(now, peer),
        }
    }

    pub(super) fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match self {
            Self::Client(machine) => machine.handle_unsent(now, transmit),
            Self::Broker(machine) => machine.handle_unsent(now, door, transmit),
            Self::Worker(machine) => machine.handle_disconnected(now, transmit.to),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Client(machine) => machine.handle_timeout(now),
            Self::Broker(machine) => machine.handle_timeout(now),
            Self::Worker(machine) => machine.handle_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Client(machine) => machine.poll_timeout(),
            Self::Broker(machine) => machine.poll_timeout(),
            Self::Worker(machine) => machine.poll_timeout(),
        }
    }

    pub(super) fn poll_transmit(&mut self, role: Role) -> Option<(Door, Transmit)> {
        match self {
            Self::Client(machine) => machine.poll_transmit().map(|transmit| (door_of(role), transmit)),
            Self::Broker(machine) => machine.poll_transmit(),
            Self::Worker(machine) => machine.poll_transmit().map(|transmit| (door_of(role), transmit)),
        }
    }

    pub(super) fn poll_told(&mut self, now: Instant, role: Role) -> Option<Told> {
        match self {
            Self::Client(machine) => {
                machine.poll_output().map(|output| told_by_client(machine, now, output, door_of(role)))
            }
            Self::Broker(machine) => machine.poll_output().map(told_by_broker),
            Self::Worker(machine) => machine.poll_output().map(told_by_worker),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Client(machine) => machine.is_empty(),
            Self::Broker(machine) => machine.is_empty(),
            Self::Worker(machine) => machine.is_empty(),
        }
    }

    /// The requests that it believes in flight to each peer that serves it.
    pub(super) fn in_flight(&self, role: Role) -> Vec<((Door, Peer), usize)> {
        match self {
            Self::Client(machine) => machine.workers().map(|w| ((door_of(role), w.peer), w.in_flight())).collect(),
            Self::Broker(machine) => machine.workers().map(|w| ((Door::Back, w.peer), w.in_flight())).collect(),
            Self::Worker(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(machine) => machine.fmt(f),
            Self::Broker(machine) => machine.fmt(f),
            Self::Worker(machine) => machine.fmt(f),
        }
    }
}

/// The door of a process that has only one.
pub(super) fn door_of(role: Role) -> Door {
    match role {
        Role::Binding => Door::Back,
        // A dialed connection's name is the process's own: any will do.
        Role::Dialing | Role::Worker | Role::Broker => Door::Front,
    }
}

fn told_by_client(machine: &mut Dispatcher, now: Instant, output: Output, door: Door) -> Told {
    match output {
        Output::Partial(call, payload, receipt) => {
            machine.release(now, receipt);
            Told::Partial(call, payload)
        }
        Output::Ended(call, end, receipt) => {
            machine.release(now, receipt);
            Told::Ended(call, end)
        }
        Output::Disconnect(peer) => Told::Disconnect(door, peer),
        Output::Dial(peer) => Told::Dial(peer),
        Output::WorkerJoined(peer) => Told::Joined(door, peer),
        Output::WorkerLeft(peer, departure) => Told::Left(door, peer, departure),
        Output::Closed => Told::HasLeft,
        Output::WorkerChanged(_) | Output::Forwarded(_) => Told::Nothing,
    }
}

fn told_by_broker(output: BrokerOutput) -> Told {
    match output {
        BrokerOutput::Disconnect(door, peer) => Told::Disconnect(door, peer),
        BrokerOutput::ClientJoined(peer) => Told::Joined(Door::Front, peer),
        BrokerOutput::WorkerJoined(peer) => Told::Joined(Door::Back, peer),
        BrokerOutput::ClientLeft(peer, departure) => Told::Left(Door::Front, peer, departure),
        BrokerOutput::WorkerLeft(peer, departure) => Told::Left(Door::Back, peer, departure),
        BrokerOutput::Closed => Told::HasLeft,
        BrokerOutput::WorkerChanged(_) => Told::Nothing,
    }
}

fn told_by_worker(output: WorkerOutput) -> Told {
    match output {
        WorkerOutput::Dial(peer) => Told::Dial(peer),
        WorkerOutput::Hangup(peer) => Told::Disconnect(Door::Front, peer),
        WorkerOutput::Registered(peer) => Told::Joined(Door::Front, peer),
        WorkerOutput::Unregistered(peer) => Told::Left(Door::Front, peer, Departure::Disconnected),
        WorkerOutput::Start(start) => Told::Start(start),
        WorkerOutput::Abort(execution) => Told::Abort(execution),
        WorkerOutput::Left => Told::HasLeft,
        WorkerOutput::PartialSent(..) => Told::Nothing,
    }
}

fn dispatcher_config(setup: &Setup, incarnation: Uuid, is_healed: &Arc<AtomicBool>) -> DispatcherConfig {
    DispatcherConfig {
        incarnation,
        seed: incarnation.as_u64_pair().1,
        heartbeats: setup.heartbeats,
        offers_bytes_max: DispatcherConfig::default().offers_bytes_max,
        waiting_max: setup.waiting_max,
        retry: setup.retry,
        backoff: setup.backoff,
        window_bytes: setup.window_bytes,
        limits: limits(setup),
        choice: setup.whim.policy(incarnation.as_u64_pair().0, is_healed),
    }
}

fn broker_config(setup: &Setup, incarnation: Uuid, is_healed: &Arc<AtomicBool>) -> BrokerConfig {
    BrokerConfig {
        dispatcher: dispatcher_config(setup, incarnation, is_healed),
        credits: setup.credits,
        hold_limits: setup.hold_limits,
        drain_timeout: setup.drain_timeout,
    }
}

fn worker_config(setup: &Setup, incarnation: Uuid) -> WorkerConfig {
    WorkerConfig {
        incarnation,
        seed: incarnation.as_u64_pair().1,
        heartbeats: setup.heartbeats,
        backoff: setup.backoff,
        limits: limits(setup),
        credits: setup.credits,
        window_bytes: setup.window_bytes,
        hold_limits: setup.hold_limits,
        drain_timeout: setup.drain_timeout,
        services: setup.services.clone(),
        signatures: Vec::new(),
    }
}

fn limits(setup: &Setup) -> Limits {
    let Setup { payload_bytes_max, services_max, .. } = *setup;
    Limits { payload_bytes_max, services_max, ..Limits::default() }
}

/// Numbers that look random, like those of real processes, and repeat in every replay.
fn id_of(pid: usize, incarnation: u32) -> Uuid {
    let mut random = fastrand::Rng::with_seed(((pid as u64) << 32) | u64::from(incarnation));
    Uuid::from_u64_pair(random.u64(..), random.u64(..))
}

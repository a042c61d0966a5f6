//! A machine of the core, of any role.

use std::{
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

use super::scenario::{Role, Setup};

/// A machine of any role, with the same methods.
pub(super) enum Machine {
    Client(Box<Dispatcher>),
    Broker(Box<Broker>),
    Worker(Box<Worker>),
    /// A hostile process has none.
    None,
}

/// An output of a machine, whatever its role.
#[derive(Debug)]
pub(super) enum Report {
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
    pub(super) fn new(pid: usize, incarnation: u32, setup: &Setup, now: Instant, is_healed: &Arc<AtomicBool>) -> Self {
        let id = id_of(pid, incarnation);
        let dials = setup.dials.len() as u64;
        match setup.role {
            _ if setup.is_hostile => Self::None,
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
            Self::Client(_) | Self::Broker(_) | Self::None => false,
        }
    }

    pub(super) fn drain(&mut self, now: Instant, timeout: Duration) {
        match self {
            Self::Client(machine) => machine.drain(now, timeout),
            Self::Broker(machine) => machine.drain(now),
            Self::Worker(machine) => machine.drain(now),
            Self::None => {}
        }
    }

    /// Workers know only one way to leave.
    pub(super) fn close(&mut self, now: Instant) {
        match self {
            Self::Client(machine) => machine.close(now),
            Self::Broker(machine) => machine.close(now),
            Self::Worker(machine) => machine.drain(now),
            Self::None => {}
        }
    }

    pub(super) fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        match self {
            Self::Client(machine) => machine.handle_dialed(now, peer),
            Self::Worker(machine) => machine.handle_dialed(now, peer),
            Self::Broker(_) | Self::None => {}
        }
    }

    pub(super) fn handle_accepted(&mut self, now: Instant, door: Door, peer: Peer) {
        match self {
            Self::Client(machine) => machine.handle_accepted(now, peer),
            Self::Broker(machine) => machine.handle_accepted(now, door, peer),
            Self::Worker(_) | Self::None => {}
        }
    }

    pub(super) fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: Inbound) {
        match self {
            Self::Client(machine) => machine.handle_message(now, from, message),
            Self::Broker(machine) => machine.handle_message(now, door, from, message),
            Self::Worker(machine) => machine.handle_message(now, from, message),
            Self::None => {}
        }
    }

    pub(super) fn handle_malformed(&mut self, now: Instant, door: Door, from: Peer, malformed: &Malformed) {
        match self {
            Self::Client(machine) => machine.handle_malformed(now, from, malformed),
            Self::Broker(machine) => machine.handle_malformed(now, door, from, malformed),
            Self::Worker(machine) => machine.handle_malformed(now, from, malformed),
            Self::None => {}
        }
    }

    pub(super) fn handle_disconnected(&mut self, now: Instant, door: Door, peer: Peer) {
        match self {
            Self::Client(machine) => machine.handle_disconnected(now, peer),
            Self::Broker(machine) => machine.handle_disconnected(now, door, peer),
            Self::Worker(machine) => machine.handle_disconnected(now, peer),
            Self::None => {}
        }
    }

    pub(super) fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match self {
            Self::Client(machine) => machine.handle_unsent(now, transmit),
            Self::Broker(machine) => machine.handle_unsent(now, door, transmit),
            Self::Worker(machine) => machine.handle_disconnected(now, transmit.to),
            Self::None => {}
        }
    }

    pub(super) fn handle_heartbeats(&mut self, now: Instant) {
        match self {
            Self::Client(machine) => machine.handle_heartbeats(now),
            Self::Broker(machine) => machine.handle_heartbeats(now),
            Self::Worker(machine) => machine.handle_heartbeats(now),
            Self::None => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Client(machine) => machine.handle_timeout(now),
            Self::Broker(machine) => machine.handle_timeout(now),
            Self::Worker(machine) => machine.handle_timeout(now),
            Self::None => {}
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Client(machine) => machine.poll_timeout(),
            Self::Broker(machine) => machine.poll_timeout(),
            Self::Worker(machine) => machine.poll_timeout(),
            Self::None => None,
        }
    }

    pub(super) fn poll_transmit(&mut self, role: Role) -> Option<(Door, Transmit)> {
        match self {
            Self::Client(machine) => machine.poll_transmit().map(|transmit| (door_of(role), transmit)),
            Self::Broker(machine) => machine.poll_transmit(),
            Self::Worker(machine) => machine.poll_transmit().map(|transmit| (door_of(role), transmit)),
            Self::None => None,
        }
    }

    pub(super) fn poll_report(&mut self, now: Instant, role: Role) -> Option<Report> {
        match self {
            Self::Client(machine) => {
                machine.poll_output().map(|output| report_of_client(machine, now, output, door_of(role)))
            }
            Self::Broker(machine) => machine.poll_output().map(report_of_broker),
            Self::Worker(machine) => machine.poll_output().map(report_of_worker),
            Self::None => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Client(machine) => machine.is_empty(),
            Self::Broker(machine) => machine.is_empty(),
            Self::Worker(machine) => machine.is_empty(),
            Self::None => true,
        }
    }

    /// The requests that it believes in flight to each peer that serves it.
    pub(super) fn in_flight(&self, role: Role) -> Vec<((Door, Peer), usize)> {
        match self {
            Self::Client(machine) => machine.workers().map(|w| ((door_of(role), w.peer), w.in_flight())).collect(),
            Self::Broker(machine) => machine.workers().map(|w| ((Door::Back, w.peer), w.in_flight())).collect(),
            Self::Worker(_) | Self::None => Vec::new(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(machine) => machine.fmt(f),
            Self::Broker(machine) => machine.fmt(f),
            Self::Worker(machine) => machine.fmt(f),
            Self::None => f.write_str("no machine"),
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

fn report_of_client(machine: &mut Dispatcher, now: Instant, output: Output, door: Door) -> Report {
    match output {
        Output::Partial(call, payload, receipt) => {
            machine.release(now, receipt);
            Report::Partial(call, payload)
        }
        Output::Ended(call, end, receipt) => {
            machine.release(now, receipt);
            Report::Ended(call, end)
        }
        Output::Disconnect(peer) => Report::Disconnect(door, peer),
        Output::Dial(peer) => Report::Dial(peer),
        Output::WorkerJoined(peer) => Report::Joined(door, peer),
        Output::WorkerLeft(peer, departure) => Report::Left(door, peer, departure),
        Output::Closed => Report::HasLeft,
        Output::WorkerChanged(_) | Output::Forwarded(_) => Report::Nothing,
    }
}

fn report_of_broker(output: BrokerOutput) -> Report {
    match output {
        BrokerOutput::Disconnect(door, peer) => Report::Disconnect(door, peer),
        BrokerOutput::ClientJoined(peer) => Report::Joined(Door::Front, peer),
        BrokerOutput::WorkerJoined(peer) => Report::Joined(Door::Back, peer),
        BrokerOutput::ClientLeft(peer, departure) => Report::Left(Door::Front, peer, departure),
        BrokerOutput::WorkerLeft(peer, departure) => Report::Left(Door::Back, peer, departure),
        BrokerOutput::Closed => Report::HasLeft,
        BrokerOutput::WorkerChanged(_) => Report::Nothing,
    }
}

fn report_of_worker(output: WorkerOutput) -> Report {
    match output {
        WorkerOutput::Dial(peer) => Report::Dial(peer),
        WorkerOutput::Hangup(peer) => Report::Disconnect(Door::Front, peer),
        WorkerOutput::Registered(peer) => Report::Joined(Door::Front, peer),
        WorkerOutput::Unregistered(peer) => Report::Left(Door::Front, peer, Departure::Disconnected),
        WorkerOutput::Start(start) => Report::Start(start),
        WorkerOutput::Abort(execution) => Report::Abort(execution),
        WorkerOutput::Left => Report::HasLeft,
        WorkerOutput::PartialSent(..) => Report::Nothing,
    }
}

fn dispatcher_config(setup: &Setup, incarnation: Uuid, is_healed: &Arc<AtomicBool>) -> DispatcherConfig {
    DispatcherConfig {
        incarnation,
        seed: incarnation.as_u64_pair().1,
        heartbeats: setup.heartbeats,
        offers_bytes_max: setup.offers_bytes_max,
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

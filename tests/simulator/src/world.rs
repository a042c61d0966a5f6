//! The simulation: due events happen, processes take their turns, and the ledger watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use xero::proto::{calls::CallFailure, message::Message};

use super::{
    clock::At,
    hostile::Hostile,
    ledger::Ledger,
    machine::Report,
    network::{Event, Network, Wire},
    process::{Life, Process},
    scenario::{Pid, Role, Scenario, Temper, Theme, ms},
    trace::Trace,
};

pub(super) struct World {
    pub(super) now: At,
    pub(super) temper: Temper,
    theme: Theme,
    pub(super) processes: Vec<Process>,
    pub(super) network: Network,
    pub(super) ledger: Ledger,
    pub(super) high_water_mark: usize,
    pub(super) repeats_percent: u8,
    /// Whether all faults have ended.
    pub(super) is_healed: bool,
    /// The same, for the policies that choose a worker.
    pub(super) is_calm: Arc<AtomicBool>,
    pub(super) hostiles: BTreeMap<Pid, Hostile>,
    pub(super) trace: Option<Trace>,
    heals_at: At,
    touched: BTreeSet<Pid>,
    /// The calls that have ended in a pass, or for a message.
    pub(super) ended: usize,
}

impl World {
    pub(super) fn new(seed: u64, trace: Option<Trace>) -> Self {
        let scenario = Scenario::draw(seed);
        let origin = Instant::now();
        let is_calm = Arc::new(AtomicBool::new(false));
        let setups = scenario.setups.into_iter().enumerate();
        let processes = setups.map(|(pid, setup)| Process::new(pid, setup, origin, &is_calm)).collect();
        let mut world = Self {
            now: At::ZERO,
            temper: scenario.temper,
            theme: scenario.theme,
            processes,
            network: Network::new(seed),
            ledger: Ledger::new(scenario.temper),
            high_water_mark: scenario.high_water_mark,
            repeats_percent: scenario.repeats_percent,
            is_healed: false,
            is_calm,
            hostiles: BTreeMap::new(),
            trace,
            heals_at: scenario.heals_at,
            touched: BTreeSet::new(),
            ended: 0,
        };
        (world.network.latency, world.network.jitter) = (scenario.latency, scenario.jitter);
        // Messages meet and are handled in one turn, as in a busy process.
        world.network.grain = ms(1);
        scenario.actions.into_iter().for_each(|(at, action)| world.post(at, Event::Act(action)));
        world
    }

    /// Plays everything; returns the ledger's finding, if any.
    pub(super) fn play(&mut self) -> Result<(), (At, String)> {
        self.describe();
        let played = self.run_until(self.heals_at).and_then(|()| self.wind_up());
        played.map_err(|what| (self.now, what))
    }

    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), String> {
        self.run_until(self.now.after(time))
    }

    /// Runs all events up to and at this instant.
    pub(super) fn run_until(&mut self, end: At) -> Result<(), String> {
        while let Some(at) = self.next_instant().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.happen()?;
        }
        self.now = end;
        Ok(())
    }

    /// Runs everything that is due now, until nothing more is.
    fn happen(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            while let Some(event) = self.network.queue.pop_due(self.now) {
                self.handle(event);
            }
            let mut pids = mem::take(&mut self.touched);
            pids.extend((0..self.processes.len()).filter(|pid| self.is_due(*pid)));
            if pids.is_empty() {
                return Ok(());
            }
            pids.into_iter().for_each(|pid| self.take_turn(pid));
            self.check_deadlines();
            self.ledger.verdict()?;
        }
        Err("the machines do not come to rest".to_owned())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Dial { process, incarnation, slot, address } => {
                match self.is_alive(process, incarnation) && self.processes[process].life == Life::Frozen {
                    true => self.processes[process].inbox.push_back(event),
                    false => self.handle_dial(process, incarnation, slot, address),
                }
            }
            Event::DialFailed { process, incarnation, slot } => {
                match self.is_alive(process, incarnation) && self.processes[process].life == Life::Frozen {
                    true => self.processes[process].inbox.push_back(event),
                    false => self.handle_dial_failed(process, incarnation, slot),
                }
            }
            Event::Arrive(parcel) => self.arrive(parcel),
            Event::Read { process, incarnation } => self.read_slowly(process, incarnation),
            Event::Job { process, incarnation, execution, step } => self.work(process, incarnation, execution, step),
            Event::Cancel { process, incarnation, call } => self.cancel(process, incarnation, call),
            Event::Act(action) => self.act(action),
            Event::Thaw(process) => self.thaw(process),
            Event::Unblock(from, to) => self.unblock(from, to),
            Event::Quicken(process) => self.quicken(process),
            Event::Misbehave(process) => self.misbehave(process),
            Event::Undeafen(process) => self.undeafen(process),
            Event::Restart(process) => self.restart(process),
        }
    }

    /// Timeouts after messages, then transmits, then disconnects, as in the shell.
    fn take_turn(&mut self, pid: Pid) {
        if self.processes[pid].setup.is_hostile {
            return self.processes[pid].set_alarm(self.now);
        }
        if !self.processes[pid].is_running() {
            return;
        }
        let now = self.local(pid);
        self.drain_outputs(pid);
        if self.processes[pid].is_late {
            self.processes[pid].machine.handle_heartbeats(now);
        } else if self.processes[pid].machine.poll_timeout().is_some_and(|at| at <= now) {
            self.ended = 0;
            self.processes[pid].machine.handle_timeout(now);
            self.drain_outputs(pid);
            if self.ended > PASS_MAX {
                let what = format!("{} ends {} calls in one pass, and others wait", self.processes[pid], self.ended);
                self.ledger.blame(what);
            }
        }
        self.transmit(pid, now);
        for (door, peer) in mem::take(&mut self.processes[pid].disconnects) {
            self.disconnect(pid, door, peer);
        }
        self.ledger.check(now, pid, &self.processes);
        if self.processes[pid].has_left {
            self.leave(pid);
        }
        self.processes[pid].set_alarm(self.now);
    }

    fn transmit(&mut self, pid: Pid, now: Instant) {
        let role = self.processes[pid].setup.role;
        self.send_withheld(pid);
        while let Some((door, mut transmit)) = self.processes[pid].machine.poll_transmit(role) {
            let Some(&wire) = self.processes[pid].sockets.get(&(door, transmit.to)) else {
                self.ledger.blame(format!("{} sends over a connection that is gone", self.processes[pid]));
                continue;
            };
            let side = self.side_of(wire, pid);
            self.withhold(pid, wire, &mut transmit.messages);
            self.dress(pid, &mut transmit.messages);
            if self.send(wire, side, &transmit) {
                continue;
            }
            self.log(pid, &format_args!("connection {wire} is full and ends"));
            self.ledger.unsent(wire, side, &transmit.messages);
            self.disconnect(pid, door, transmit.to);
            self.processes[pid].machine.handle_unsent(now, door, transmit);
            self.drain_outputs(pid);
        }
    }

    /// Makes a worker's introduction that of a program which reads other codecs.
    fn dress(&self, pid: Pid, messages: &mut [Message]) {
        let setup = &self.processes[pid].setup;
        for message in messages.iter_mut().filter(|_| setup.role == Role::Worker) {
            if let Message::Ready(ready) = message {
                ready.codecs.clone_from(&setup.codecs);
            }
        }
    }

    /// Takes all outputs of the machine, after every mutation.
    pub(super) fn drain_outputs(&mut self, pid: Pid) {
        let role = self.processes[pid].setup.role;
        let now = self.local(pid);
        while let Some(report) = self.processes[pid].machine.poll_report(now, role) {
            self.hear(pid, report);
        }
    }

    fn hear(&mut self, pid: Pid, report: Report) {
        match report {
            Report::Dial(peer) => self.dial(pid, peer),
            Report::Disconnect(door, peer) => self.give_up_connection(pid, door, peer),
            Report::Joined(door, peer) => self.log(pid, &format_args!("registered {door:?} {}", peer.0)),
            Report::Left(door, peer, why) => self.log(pid, &format_args!("lost {door:?} {}: {why:?}", peer.0)),
            Report::Partial(call, payload) => self.take_partial(pid, call, &payload),
            Report::Ended(call, end) => {
                // A machine that closes ends all calls at once.
                self.ended += usize::from(!matches!(end, Err(CallFailure::Closed { .. })));
                self.take_end(pid, call, &end);
            }
            Report::Start(start) => self.start(pid, &start),
            Report::Abort(execution) => self.abort(pid, execution),
            Report::HasLeft => {
                self.log(pid, &"has said goodbye to everyone");
                self.processes[pid].has_left = true;
            }
            Report::Nothing => {}
        }
    }

    fn give_up_connection(&mut self, pid: Pid, door: xero::proto::broker::Door, peer: xero::proto::message::Peer) {
        if let Some(&wire) = self.processes[pid].sockets.get(&(door, peer)) {
            let (side, now) = (self.side_of(wire, pid), self.local(pid));
            self.log(pid, &format_args!("gives up connection {wire}"));
            self.ledger.given_up(wire, side, now, &self.processes);
        }
        self.processes[pid].disconnects.push((door, peer));
    }

    fn check_deadlines(&mut self) {
        let Self { ledger, processes, now, .. } = self;
        ledger.check_deadlines(*now, processes);
    }

    fn is_due(&self, pid: Pid) -> bool {
        self.processes[pid].wakes_at().is_some_and(|at| at <= self.now)
    }

    fn next_instant(&self) -> Option<At> {
        let event = self.network.queue.next_at();
        let turn = (!self.touched.is_empty()).then_some(self.now);
        self.processes.iter().filter_map(Process::wakes_at).chain(event).chain(turn).min()
    }

    /// Makes the process take a turn before time moves on.
    pub(super) fn touch(&mut self, pid: Pid) {
        self.touched.insert(pid);
    }

    /// The reading of a process's own clock.
    pub(super) fn local(&self, pid: Pid) -> Instant {
        self.processes[pid].clock.read(self.now)
    }

    pub(super) fn log(&self, pid: Pid, what: &dyn fmt::Display) {
        if let Some(trace) = &self.trace {
            trace.push(self.now, &self.processes[pid], what);
        }
    }

    pub(super) fn remark(&self, what: &dyn fmt::Display) {
        if let Some(trace) = &self.trace {
            trace.push(self.now, &"", what);
        }
    }

    fn describe(&self) {
        let Self { temper, theme, network: Network { latency, jitter, .. }, .. } = self;
        self.remark(&format_args!("{temper:?}, {theme:?}; latency {latency:?}, jitter {jitter:?}"));
        for (pid, process) in self.processes.iter().enumerate() {
            self.log(pid, &format_args!("is process {pid}: {:?}", process.setup));
        }
    }

    /// The connections that a process believes to have.
    pub(super) fn wires_of(&self, pid: Pid) -> Vec<Wire> {
        self.processes[pid].sockets.values().copied().collect()
    }
}

/// Calls that a machine may end before it sends heartbeats again: a thousand that expire, and those of lost workers.
const PASS_MAX: usize = 1_100;

/// Turns at one instant: far more than needed, so that machines that feed each other for ever are noticed.
const TURNS_MAX: usize = 2_000;

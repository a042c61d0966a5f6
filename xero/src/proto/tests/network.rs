//! The simulated network's loop. One turn is what has arrived, then timeouts, then transmits, as in the shell.

use std::{
    mem,
    time::{Duration, Instant},
};

use xero_wires::{At, DIAL_TIMEOUT, End, Network, Side, Taken, Wire};

use super::{
    node::{DispatcherNode, WorkerNode},
    pair::{D, LATENCY, Sent, W},
};
use crate::proto::{
    dispatch::Output,
    frame::{self, Frames},
    message::{Message, Peer},
    timer::Execution,
    worker::{Finish, WorkerOutput},
};

#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Instant,
    /// Whether workers must keep to the credits that they announced first.
    pub(super) credits_are_fixed: bool,
    pub(super) sent: Vec<Sent>,
    pub(super) dispatchers: Vec<DispatcherNode>,
    pub(super) workers: Vec<WorkerNode>,
    /// A dispatcher knows a connection by its number in the network, a worker by the number of the dispatcher.
    pub(super) network: Network<Process, Peer, Frames, Event>,
    /// The beginning of the network's time.
    start: Instant,
}

/// A process at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    Dispatcher(D),
    Worker(W),
    /// Dials like a worker, and a test plays it by hand.
    Stranger,
}

/// An event at an instant.
#[derive(Debug)]
pub(super) enum Event {
    Arrive(Parcel),
    Dial { d: D, w: W, slot: Peer },
    DialFailed { w: W, slot: Peer },
    Finish(W, Execution),
}

type Parcel = xero_wires::Parcel<Frames>;

impl From<Parcel> for Event {
    fn from(parcel: Parcel) -> Self {
        Self::Arrive(parcel)
    }
}

impl Net {
    pub(super) fn at(now: Instant, seed: u64) -> Self {
        let mut network = Network::new(seed);
        network.latency = LATENCY;
        Self {
            now,
            credits_are_fixed: true,
            sent: Vec::new(),
            dispatchers: Vec::new(),
            workers: Vec::new(),
            network,
            start: now,
        }
    }

    /// Handles everything that is due, until nothing is.
    pub(super) fn turn(&mut self) {
        for _ in 0..TURNS_MAX {
            let has_delivered = self.deliver_due();
            let has_expired = self.expire();
            self.transmit();
            if !has_delivered && !has_expired && self.next_instant().is_none_or(|at| at > self.now) {
                return self.check();
            }
        }
        panic!("the machines do not come to rest");
    }

    /// The instant of the next event.
    pub(super) fn next_instant(&self) -> Option<Instant> {
        let event = self.network.queue.next_at().map(|at| self.start + at.since(At::ZERO));
        let dispatchers = self.dispatchers.iter().filter(|node| node.is_awake());
        let workers = self.workers.iter().filter(|node| node.is_awake());
        let timeouts = dispatchers.filter_map(|node| node.machine.poll_timeout());
        let timeouts = timeouts.chain(workers.filter_map(|node| node.machine.poll_timeout()));
        timeouts.chain(event).min()
    }

    pub(super) fn drain_dispatcher(&mut self, d: D) {
        let node = &mut self.dispatchers[d.0];
        while let Some(output) = node.machine.poll_output() {
            match output {
                Output::Disconnect(peer) => node.disconnects.push(peer),
                output => node.take_note(self.now, output),
            }
        }
    }

    pub(super) fn drain_worker(&mut self, w: W) {
        loop {
            while let Some(output) = self.workers[w.0].machine.poll_output() {
                self.handle_worker_output(w, output);
            }
            let Some((execution, finish)) = self.workers[w.0].endings.pop_front() else { return };
            self.workers[w.0].running.remove(&execution);
            self.workers[w.0].machine.finish(self.now, execution, finish);
        }
    }

    pub(super) fn finish_execution(&mut self, w: W, execution: Execution, finish: Finish) {
        self.workers[w.0].endings.push_back((execution, finish));
        self.drain_worker(w);
    }

    pub(super) fn open(&mut self, d: D, dialer: Process, slot: Peer) -> Wire {
        let peer = Peer(self.network.next_wire() as u64);
        self.network.open(self.time(), (dialer, slot), (Process::Dispatcher(d), peer))
    }

    pub(super) fn send(&mut self, wire: Wire, to: Side, frames: Frames) {
        self.network.send(self.time(), wire, to, frames);
    }

    /// Ends the connections of a process; the other sides learn of it after all messages.
    pub(super) fn hang_up_all(&mut self, process: Process) {
        for (wire, side) in self.network.ends_of(process) {
            self.network.hang_up(self.time(), wire, side);
        }
    }

    /// Breaks a connection; each side learns of it after all messages.
    pub(super) fn break_connection(&mut self, wire: Wire) {
        for side in Side::BOTH {
            self.network.notice_break(self.time(), wire, side, Duration::ZERO);
        }
    }

    /// Delivers a parcel, unless a cut stops it.
    pub(super) fn arrive(&mut self, parcel: Parcel) {
        if let Some(parcel) = self.network.arrive(parcel) {
            self.reach(parcel.into());
        }
    }

    /// Lets an event reach its process, where it waits while the process is frozen.
    pub(super) fn reach(&mut self, event: Event) {
        let process = match &event {
            Event::Arrive(parcel) => self.network[parcel.wire].end(parcel.to).process,
            Event::Dial { w, .. } | Event::DialFailed { w, .. } | Event::Finish(w, _) => Process::Worker(*w),
        };
        match process {
            Process::Dispatcher(d) if self.dispatchers[d.0].frozen => self.dispatchers[d.0].inbox.push(event),
            Process::Worker(w) if self.workers[w.0].frozen => self.workers[w.0].inbox.push(event),
            _ => self.handle(event),
        }
    }

    /// The dispatcher's requests in flight, over all its workers.
    pub(super) fn in_flight(&self, d: D) -> usize {
        self.dispatchers[d.0].machine.workers().map(|worker| worker.in_flight()).sum()
    }

    fn handle_worker_output(&mut self, w: W, output: WorkerOutput) {
        let node = &mut self.workers[w.0];
        match output {
            WorkerOutput::Dial(slot) => {
                let d = node.dispatchers[slot.0 as usize];
                self.post_after(self.network.latency, Event::Dial { d, w, slot });
            }
            WorkerOutput::Hangup(slot) => node.hangups.push(slot),
            WorkerOutput::Start(start) => {
                let execution = start.execution;
                if let Some(time) = node.start(*start) {
                    self.post_after(time, Event::Finish(w, execution));
                }
            }
            output => node.take_note(self.now, output),
        }
    }

    fn deliver_due(&mut self) -> bool {
        let mut has_delivered = false;
        while let Some(event) = self.network.queue.pop_due(self.time()) {
            match event {
                Event::Arrive(parcel) => self.arrive(parcel),
                event => self.reach(event),
            }
            has_delivered = true;
        }
        has_delivered
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(parcel) => self.take(parcel),
            Event::Dial { d, w, slot } => self.dial(d, w, slot),
            Event::DialFailed { w, slot } => self.lose_at_worker(w, slot),
            Event::Finish(w, execution) => {
                if let Some(finish) = self.workers[w.0].outcome_of(execution) {
                    self.finish_execution(w, execution, finish);
                }
            }
        }
    }

    fn take(&mut self, parcel: Parcel) {
        let End { process, socket, .. } = *self.network[parcel.wire].end(parcel.to);
        match (process, self.network.take(parcel)) {
            (Process::Dispatcher(d), Taken::Accepted) => {
                self.dispatchers[d.0].machine.handle_accepted(self.now, socket);
                self.drain_dispatcher(d);
            }
            (Process::Dispatcher(d), Taken::Frames(frames)) => self.deliver_to_dispatcher(d, socket, frames),
            (Process::Worker(w), Taken::Frames(frames)) => self.deliver_to_worker(w, socket, frames),
            (Process::Dispatcher(d), Taken::End) => {
                self.dispatchers[d.0].machine.handle_disconnected(self.now, socket);
                self.drain_dispatcher(d);
            }
            (Process::Worker(w), Taken::End) => self.lose_at_worker(w, socket),
            (Process::Stranger, _) | (Process::Worker(_), Taken::Accepted) | (_, Taken::Nothing) => {}
        }
    }

    fn dial(&mut self, d: D, w: W, slot: Peer) {
        if !self.workers[w.0].is_alive {
        } else if self.network.is_cut(Process::Dispatcher(d), Process::Worker(w)) {
            self.post_after(DIAL_TIMEOUT, Event::DialFailed { w, slot });
        } else if !self.dispatchers[d.0].is_alive || self.dispatchers[d.0].closed_at.is_some() {
            self.lose_at_worker(w, slot);
        } else {
            let wire = self.open(d, Process::Worker(w), slot);
            self.workers[w.0].sockets.insert(slot, wire);
            self.workers[w.0].machine.handle_dialed(self.now, slot);
            self.drain_worker(w);
        }
    }

    fn lose_at_worker(&mut self, w: W, slot: Peer) {
        self.workers[w.0].sockets.remove(&slot);
        if self.workers[w.0].is_alive {
            self.workers[w.0].machine.handle_disconnected(self.now, slot);
            self.drain_worker(w);
        }
    }

    fn deliver_to_dispatcher(&mut self, d: D, peer: Peer, frames: Frames) {
        for decoded in frame::decode(frames, &self.dispatchers[d.0].limits()) {
            let machine = &mut self.dispatchers[d.0].machine;
            match decoded {
                Ok(message) => machine.handle_message(self.now, peer, message),
                Err(malformed) => machine.handle_malformed(self.now, peer, &malformed),
            }
            self.drain_dispatcher(d);
        }
    }

    fn deliver_to_worker(&mut self, w: W, slot: Peer, frames: Frames) {
        for decoded in frame::decode(frames, &self.workers[w.0].config.limits) {
            let machine = &mut self.workers[w.0].machine;
            match decoded {
                Ok(message) => machine.handle_message(self.now, slot, message),
                Err(malformed) => machine.handle_malformed(self.now, slot, &malformed),
            }
            self.drain_worker(w);
        }
    }

    fn expire(&mut self) -> bool {
        let now = self.now;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut has_expired = false;
        for index in 0..self.dispatchers.len() {
            let node = &mut self.dispatchers[index];
            if node.is_awake() && is_due(node.machine.poll_timeout()) {
                node.machine.handle_timeout(now);
                self.drain_dispatcher(D(index));
                has_expired = true;
            }
        }
        for index in 0..self.workers.len() {
            let node = &mut self.workers[index];
            if node.is_awake() && is_due(node.machine.poll_timeout()) {
                node.machine.handle_timeout(now);
                self.drain_worker(W(index));
                has_expired = true;
            }
        }
        has_expired
    }

    fn transmit(&mut self) {
        for index in 0..self.dispatchers.len() {
            self.transmit_of_dispatcher(D(index));
        }
        for index in 0..self.workers.len() {
            self.transmit_of_worker(W(index));
        }
    }

    fn transmit_of_dispatcher(&mut self, d: D) {
        if !self.dispatchers[d.0].is_awake() {
            return;
        }
        while let Some(transmit) = self.dispatchers[d.0].machine.poll_transmit() {
            assert!(self.stands(transmit.to), "sent to a peer that is gone");
            self.transmit_on(transmit.to.0 as Wire, Side::Dialer, transmit.messages);
        }
        for peer in mem::take(&mut self.dispatchers[d.0].disconnects) {
            self.network.hang_up(self.time(), peer.0 as Wire, Side::Listener);
        }
    }

    fn transmit_of_worker(&mut self, w: W) {
        if !self.workers[w.0].is_awake() {
            return;
        }
        while let Some(transmit) = self.workers[w.0].machine.poll_transmit() {
            let wire = *self.workers[w.0].sockets.get(&transmit.to).expect("sent over a connection that stands");
            self.transmit_on(wire, Side::Listener, transmit.messages);
        }
        for slot in mem::take(&mut self.workers[w.0].hangups) {
            let Some(wire) = self.workers[w.0].sockets.remove(&slot) else { continue };
            self.network.hang_up(self.time(), wire, Side::Dialer);
        }
    }

    fn transmit_on(&mut self, wire: Wire, to: Side, messages: Vec<Message>) {
        self.send(wire, to, frame::encode_batch(&messages));
        let [dialer, listener] = &self.network[wire].ends;
        let Process::Dispatcher(d) = listener.process else { unreachable!("only dispatchers listen") };
        let w = if let Process::Worker(w) = dialer.process { Some(w) } else { None };
        let (at, peer, to_dispatcher, together) = (self.now, listener.socket, to == Side::Listener, messages.len());
        self.sent.extend(messages.into_iter().map(|message| Sent { at, d, w, peer, to_dispatcher, message, together }));
    }

    fn post_after(&mut self, time: Duration, event: Event) {
        self.network.queue.post(self.time().after(time), event);
    }

    /// What time it is for the network.
    fn time(&self) -> At {
        At::ZERO.after(self.now - self.start)
    }

    /// Checks what must hold whenever the machines are at rest.
    fn check(&self) {
        for node in self.dispatchers.iter().filter(|node| node.is_alive && self.credits_are_fixed) {
            for worker in node.machine.workers() {
                assert!(worker.in_flight() <= worker.credits() as usize, "more in flight than credits");
            }
        }
        for node in self.workers.iter().filter(|node| node.is_alive && node.left_at.is_none()) {
            assert!(node.running.len() <= node.config.credits as usize, "more running than credits");
        }
    }

    /// Lets everything end, and asserts that nothing is left.
    pub(super) fn wind_up(&mut self) {
        self.network.unblock_all().into_iter().for_each(|parcel| self.arrive(parcel));
        (0..self.dispatchers.len()).for_each(|d| self.thaw_dispatcher(D(d)));
        (0..self.workers.len()).for_each(|w| self.thaw_worker(W(w)));
        for w in (0..self.workers.len()).map(W) {
            self.workers[w.0].is_obliging = true;
            for execution in self.workers[w.0].running.keys().copied().collect::<Vec<_>>() {
                self.finish_execution(w, execution, Finish::Aborted);
            }
            if self.workers[w.0].is_alive {
                self.drain(w);
            }
        }
        self.run(WIND_UP);
        for d in (0..self.dispatchers.len()).map(D) {
            if self.dispatchers[d.0].is_alive {
                self.close(d);
            }
        }
        self.run(WIND_UP);
        self.dispatchers.iter().for_each(DispatcherNode::assert_empty);
        self.workers.iter().for_each(WorkerNode::assert_empty);
    }
}

/// Turns at one instant: far more than any test needs, so that machines that feed each other endlessly are noticed.
const TURNS_MAX: usize = 10_000;
/// More than any grace, expiry or deadline of these tests.
const WIND_UP: Duration = Duration::from_secs(60);

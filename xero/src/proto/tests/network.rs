//! The simulated network's loop. One turn is what has arrived, then timeouts, then transmits, as in the shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

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
    /// The time that a message, or the news of a connection's end, takes one way.
    pub(super) latency: Duration,
    /// The most time beyond the latency; a connection still keeps the order.
    pub(super) jitter: Duration,
    /// Whether workers must keep to the credits that they announced first.
    pub(super) credits_are_fixed: bool,
    pub(super) sent: Vec<Sent>,
    pub(super) dispatchers: Vec<DispatcherNode>,
    pub(super) workers: Vec<WorkerNode>,
    pub(super) connections: Vec<Connection>,
    pub(super) cuts: BTreeSet<(D, W)>,
    parcels: BTreeMap<(Instant, u64), Parcel>,
    posted: u64,
    /// Parcels for the frozen and the cut off, in order.
    held: Vec<Parcel>,
    random: fastrand::Rng,
}

/// One connection. Its place in the list is the peer's number at the dispatcher.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) d: D,
    /// `None` for a connection that a test plays by hand.
    pub(super) w: Option<W>,
    /// The dispatcher's number at the worker.
    slot: Peer,
    pub(super) stands_at_dispatcher: bool,
    pub(super) stands_at_worker: bool,
    last_arrival_at: Instant,
}

/// A parcel on its way.
#[derive(Debug)]
enum Parcel {
    Dial { d: D, w: W, slot: Peer },
    DialFailed { w: W, slot: Peer },
    ToDispatcher(Peer, Frames),
    ToWorker(Peer, Frames),
    GoneAtDispatcher(Peer),
    GoneAtWorker(Peer),
    Finish(W, Execution),
}

impl Net {
    pub(super) fn at(now: Instant, seed: u64) -> Self {
        Self {
            now,
            latency: LATENCY,
            jitter: Duration::ZERO,
            credits_are_fixed: true,
            sent: Vec::new(),
            dispatchers: Vec::new(),
            workers: Vec::new(),
            connections: Vec::new(),
            cuts: BTreeSet::new(),
            parcels: BTreeMap::new(),
            posted: 0,
            held: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
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
        let parcel = self.parcels.first_key_value().map(|((at, _), _)| *at);
        let dispatchers = self.dispatchers.iter().filter(|node| node.is_awake());
        let workers = self.workers.iter().filter(|node| node.is_awake());
        let timeouts = dispatchers.filter_map(|node| node.machine.poll_timeout());
        let timeouts = timeouts.chain(workers.filter_map(|node| node.machine.poll_timeout()));
        timeouts.chain(parcel).min()
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

    pub(super) fn open(&mut self, d: D, w: Option<W>, slot: Peer) -> Peer {
        let (stands_at_dispatcher, stands_at_worker, last_arrival_at) = (true, w.is_some(), self.now);
        self.connections.push(Connection { d, w, slot, stands_at_dispatcher, stands_at_worker, last_arrival_at });
        Peer(self.connections.len() as u64 - 1)
    }

    pub(super) fn send_to_dispatcher(&mut self, peer: Peer, frames: Frames) {
        let at = self.arrival(peer);
        self.post(at, Parcel::ToDispatcher(peer, frames));
    }

    pub(super) fn send_to_worker(&mut self, peer: Peer, frames: Frames) {
        let at = self.arrival(peer);
        self.post(at, Parcel::ToWorker(peer, frames));
    }

    /// Ends connections; each live side hears of it after everything on its way.
    pub(super) fn break_connections(&mut self, is_meant: impl Fn(&Connection) -> bool) {
        for index in 0..self.connections.len() {
            if is_meant(&self.connections[index]) {
                let peer = Peer(index as u64);
                let at = self.arrival(peer);
                self.post(at, Parcel::GoneAtDispatcher(peer));
                self.post(at, Parcel::GoneAtWorker(peer));
            }
        }
    }

    /// Sends held parcels on again; those for peers still frozen or cut off are held again.
    pub(super) fn release_held(&mut self) {
        for parcel in std::mem::take(&mut self.held) {
            self.post(self.now, parcel);
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
                self.post(self.now + self.latency, Parcel::Dial { d, w, slot });
            }
            WorkerOutput::Hangup(slot) => node.hangups.push(slot),
            WorkerOutput::Start(start) => {
                let execution = start.execution;
                if let Some(time) = node.start(*start) {
                    self.post(self.now + time, Parcel::Finish(w, execution));
                }
            }
            output => node.take_note(self.now, output),
        }
    }

    fn deliver_due(&mut self) -> bool {
        let mut has_delivered = false;
        while self.parcels.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
            let Some((_, parcel)) = self.parcels.pop_first() else { break };
            self.deliver(parcel);
            has_delivered = true;
        }
        has_delivered
    }

    fn deliver(&mut self, parcel: Parcel) {
        if self.is_held(&parcel) {
            return self.held.push(parcel);
        }
        match parcel {
            Parcel::Dial { d, w, slot } => self.dial(d, w, slot),
            Parcel::DialFailed { w, slot } => self.lose_at_worker(w, slot),
            Parcel::ToDispatcher(peer, frames) => self.deliver_to_dispatcher(peer, frames),
            Parcel::ToWorker(peer, frames) => self.deliver_to_worker(peer, frames),
            Parcel::GoneAtDispatcher(peer) => {
                let connection = &mut self.connections[peer.0 as usize];
                if std::mem::take(&mut connection.stands_at_dispatcher) {
                    let d = connection.d;
                    self.dispatchers[d.0].machine.handle_disconnected(self.now, peer);
                    self.drain_dispatcher(d);
                }
            }
            Parcel::GoneAtWorker(peer) => {
                let connection = &mut self.connections[peer.0 as usize];
                if let Some(w) = connection.w
                    && std::mem::take(&mut connection.stands_at_worker)
                {
                    let slot = connection.slot;
                    self.lose_at_worker(w, slot);
                }
            }
            Parcel::Finish(w, execution) => {
                if let Some(finish) = self.workers[w.0].outcome_of(execution) {
                    self.finish_execution(w, execution, finish);
                }
            }
        }
    }

    fn is_held(&self, parcel: &Parcel) -> bool {
        let cut = |peer: &Peer| {
            let Connection { d, w, .. } = self.connections[peer.0 as usize];
            w.is_some_and(|w| self.cuts.contains(&(d, w)))
        };
        let d_frozen = |peer: &Peer| self.dispatchers[self.connections[peer.0 as usize].d.0].frozen;
        let w_frozen = |peer: &Peer| self.connections[peer.0 as usize].w.is_some_and(|w| self.workers[w.0].frozen);
        match parcel {
            Parcel::ToDispatcher(peer, _) | Parcel::GoneAtDispatcher(peer) => cut(peer) || d_frozen(peer),
            Parcel::ToWorker(peer, _) | Parcel::GoneAtWorker(peer) => cut(peer) || w_frozen(peer),
            Parcel::Dial { w, .. } | Parcel::DialFailed { w, .. } | Parcel::Finish(w, _) => self.workers[w.0].frozen,
        }
    }

    fn dial(&mut self, d: D, w: W, slot: Peer) {
        if !self.workers[w.0].is_alive {
        } else if self.cuts.contains(&(d, w)) {
            self.post(self.now + DIAL_TIMEOUT, Parcel::DialFailed { w, slot });
        } else if !self.dispatchers[d.0].is_alive || self.dispatchers[d.0].closed_at.is_some() {
            self.lose_at_worker(w, slot);
        } else {
            let peer = self.open(d, Some(w), slot);
            self.workers[w.0].sockets.insert(slot, peer);
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

    fn deliver_to_dispatcher(&mut self, peer: Peer, frames: Frames) {
        let Connection { d, stands_at_dispatcher, .. } = self.connections[peer.0 as usize];
        if !stands_at_dispatcher {
            return;
        }
        for decoded in frame::decode(frames, &self.dispatchers[d.0].limits()) {
            let machine = &mut self.dispatchers[d.0].machine;
            match decoded {
                Ok(message) => machine.handle_message(self.now, peer, message),
                Err(malformed) => machine.handle_malformed(self.now, peer, &malformed),
            }
            self.drain_dispatcher(d);
        }
    }

    fn deliver_to_worker(&mut self, peer: Peer, frames: Frames) {
        let Connection { w, slot, stands_at_worker, .. } = self.connections[peer.0 as usize];
        let Some(w) = w.filter(|_| stands_at_worker) else { return };
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
            let peer = transmit.to;
            assert!(self.stands(peer), "sent to a peer that is gone");
            let frames = frame::encode_batch(&transmit.messages);
            self.note_sent(peer, false, transmit.messages);
            self.send_to_worker(peer, frames);
        }
        for peer in std::mem::take(&mut self.dispatchers[d.0].disconnects) {
            if std::mem::take(&mut self.connections[peer.0 as usize].stands_at_dispatcher) {
                let at = self.arrival(peer);
                self.post(at, Parcel::GoneAtWorker(peer));
            }
        }
    }

    fn transmit_of_worker(&mut self, w: W) {
        if !self.workers[w.0].is_awake() {
            return;
        }
        while let Some(transmit) = self.workers[w.0].machine.poll_transmit() {
            let peer = *self.workers[w.0].sockets.get(&transmit.to).expect("sent over a connection that stands");
            let frames = frame::encode_batch(&transmit.messages);
            self.note_sent(peer, true, transmit.messages);
            self.send_to_dispatcher(peer, frames);
        }
        for slot in std::mem::take(&mut self.workers[w.0].hangups) {
            let Some(peer) = self.workers[w.0].sockets.remove(&slot) else { continue };
            self.connections[peer.0 as usize].stands_at_worker = false;
            let at = self.arrival(peer);
            self.post(at, Parcel::GoneAtDispatcher(peer));
        }
    }

    fn note_sent(&mut self, peer: Peer, to_dispatcher: bool, messages: Vec<Message>) {
        let Connection { d, w, .. } = self.connections[peer.0 as usize];
        let (at, together) = (self.now, messages.len());
        self.sent.extend(messages.into_iter().map(|message| Sent { at, d, w, peer, to_dispatcher, message, together }));
    }

    /// The arrival of a message sent over a connection now: after everything sent before.
    fn arrival(&mut self, peer: Peer) -> Instant {
        let at = self.now + self.latency + self.jitter.mul_f64(self.random.f64());
        let last = &mut self.connections[peer.0 as usize].last_arrival_at;
        *last = at.max(*last);
        *last
    }

    fn post(&mut self, at: Instant, parcel: Parcel) {
        self.posted += 1;
        self.parcels.insert((at, self.posted), parcel);
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
        self.cuts.clear();
        self.dispatchers.iter_mut().for_each(|node| node.thaw(self.now));
        self.workers.iter_mut().for_each(|node| node.frozen = false);
        self.release_held();
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
/// The time of a dial without an answer, as in the shell.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// More than any grace, expiry or deadline of these tests.
const WIND_UP: Duration = Duration::from_secs(60);

//! The broker: a dispatcher to its workers; to its clients a worker that offers everything its workers offer.

mod front;
mod offers;
mod pass;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tracing::info;
use uuid::Uuid;

use super::{
    dispatch::{Departure, Dispatcher, DispatcherConfig, DispatcherCounters, Output, WorkerStatus},
    frame::{Inbound, Malformed},
    hold::HoldLimits,
    link::GOODBYE_GRACE,
    message::Peer,
    outbox::Transmit,
    worker::DRAIN_TIMEOUT,
};
use front::Front;
#[cfg(test)]
pub(crate) use offers::OFFERS_PAUSE;

/// The configuration of a broker.
#[derive(Debug)]
pub struct BrokerConfig {
    /// The configuration for its workers; its incarnation, heartbeats, limits and window also apply to clients.
    pub dispatcher: DispatcherConfig,
    /// Requests that each client may have here at once. Default 1,024.
    pub credits: u32,
    /// Bytes held of each client and of all: open requests, and replies that they have not taken.
    pub hold_limits: HoldLimits,
    /// The time limit of a drain. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            dispatcher: DispatcherConfig::default(),
            credits: 1_024,
            hold_limits: HoldLimits::default(),
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

/// One of a broker's two sockets. Each numbers its own peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The clients' socket.
    Front,
    /// The workers' socket.
    Back,
}

/// An output of a broker.
#[derive(Debug, PartialEq)]
pub enum BrokerOutput {
    /// Receive nothing more from that connection: end it once everything sent on it is on its way.
    Disconnect(Door, Peer),
    /// A client has introduced itself.
    ClientJoined(Peer),
    /// A client is gone; its calls are cancelled.
    ClientLeft(Peer, Departure),
    /// A worker has registered, or offers something new.
    WorkerJoined(Peer),
    /// A registered worker has changed its credits; a draining one has none.
    WorkerChanged(Peer),
    /// A registered worker is gone.
    WorkerLeft(Peer, Departure),
    /// The broker has said goodbye to all peers.
    Closed,
}

/// The counters of a broker since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerCounters {
    /// Requests received from clients.
    pub requests: u64,
    /// Unreadable messages of clients: answered if they named a call, otherwise dropped.
    pub malformed_messages: u64,
    /// Connections of clients that sent something else before READY, or nothing in time: dropped.
    pub unregistered_messages: u64,
    /// Messages that clients do not send, and repeated requests for an open call: dropped.
    pub unexpected_messages: u64,
    /// Clients that fell silent.
    pub expired_leases: u64,
    /// Clients disconnected because all together held more than `total_bytes_max`.
    pub shed_clients: u64,
    /// The counters of the workers' side.
    pub workers: DispatcherCounters,
}

/// Routes the calls of many clients to many workers.
///
/// The poll order is that of [`Dispatcher`]; messages, transmits and disconnects name their [`Door`].
#[derive(Debug)]
pub struct Broker {
    front: Front,
    dispatcher: Dispatcher,
    drain_timeout: Duration,
    outputs: VecDeque<BrokerOutput>,
    leaving: Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Refuses new calls. Calls in flight may still end, and goodbyes be read, until this instant.
    Draining {
        until: Instant,
    },
    /// Has hung up on its clients, and closes the workers' side.
    HungUp,
    Left,
}

impl Broker {
    /// A broker without clients or workers.
    pub fn new(config: BrokerConfig) -> Self {
        Self {
            front: Front::new(&config),
            dispatcher: Dispatcher::new(config.dispatcher),
            drain_timeout: config.drain_timeout,
            outputs: VecDeque::new(),
            leaving: Leaving::No,
        }
    }

    /// Handles a message from a peer.
    pub fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: impl Into<Inbound>) {
        match door {
            Door::Front => self.front.links.handle_message(now, from, message.into()),
            Door::Back => self.dispatcher.handle_message(now, from, message),
        }
        self.settle(now);
    }

    /// Counts an unreadable message, and answers it if it names a client's call.
    pub fn handle_malformed(&mut self, now: Instant, door: Door, from: Peer, malformed: &Malformed) {
        match door {
            Door::Front => self.front.handle_malformed(now, from, malformed),
            Door::Back => self.dispatcher.handle_malformed(now, from, malformed),
        }
        self.settle(now);
    }

    /// Handles the connection of a peer that has yet to introduce itself, in good time.
    pub fn handle_accepted(&mut self, now: Instant, door: Door, peer: Peer) {
        match door {
            Door::Front => self.front.links.handle_accepted(now, peer),
            Door::Back => self.dispatcher.handle_accepted(now, peer),
        }
        self.settle(now);
    }

    /// Handles the end of a peer's connection.
    pub fn handle_disconnected(&mut self, now: Instant, door: Door, peer: Peer) {
        match door {
            Door::Front => self.front.links.handle_disconnected(now, peer),
            Door::Back => self.dispatcher.handle_disconnected(now, peer),
        }
        self.settle(now);
    }

    /// What the end of a connection concerns: methods and requests.
    pub fn weight(&self, door: Door, peer: Peer) -> usize {
        match door {
            Door::Front => self.front.weight(peer),
            Door::Back => self.dispatcher.weight(peer),
        }
    }

    /// Handles messages that the transport did not take; the peer's connection is gone.
    pub fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match door {
            Door::Front => self.front.links.handle_unsent(now, transmit),
            Door::Back => self.dispatcher.handle_unsent(now, transmit),
        }
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        self.front.links.handle_heartbeats(now);
        self.dispatcher.handle_heartbeats(now);
    }

    /// Handles due timeouts, as [`Dispatcher::handle_timeout`] does.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.front.handle_timeout(now, &self.dispatcher);
        self.dispatcher.handle_timeout(now);
        if self.leaves_at().is_some_and(|at| at <= now) {
            self.leaving = Leaving::HungUp;
            self.dispatcher.close(now);
            self.front.links.hang_up_all(now);
        }
        self.settle(now);
    }

    /// Drains the broker: accepts no new request, finishes those in flight, says goodbye.
    ///
    /// Waiting requests return to their clients. [`BrokerOutput::Closed`] follows, at the latest half a second after
    /// the drain timeout.
    pub fn drain(&mut self, now: Instant) {
        if self.leaving != Leaving::No {
            return;
        }
        info!(clients = self.front.clients().len(), open = self.front.open_calls(), "the broker drains");
        self.leaving = Leaving::Draining { until: now + self.drain_timeout + GOODBYE_GRACE };
        self.front.drain(now, now + self.drain_timeout);
        self.dispatcher.release_waiting();
        self.dispatcher.drain(now, self.drain_timeout);
        self.settle(now);
    }

    /// Ends every call and says goodbye to all peers.
    ///
    /// [`BrokerOutput::Closed`] follows when they have gone, or after half a second.
    pub fn close(&mut self, now: Instant) {
        let soon = now + GOODBYE_GRACE;
        let until = match self.leaving {
            Leaving::HungUp | Leaving::Left => return,
            Leaving::No => soon,
            // After a drain, a goodbye may be sent already; its own time limit still holds.
            Leaving::Draining { until } => until.min(soon),
        };
        self.leaving = Leaving::Draining { until };
        self.front.close(now);
        self.dispatcher.close(now);
        self.settle(now);
    }

    /// Gives the next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Door, Transmit)> {
        let front = self.front.links.poll_transmit().map(|transmit| (Door::Front, transmit));
        front.or_else(|| self.dispatcher.poll_transmit().map(|transmit| (Door::Back, transmit)))
    }

    /// Takes back a transmit that was sent: the next messages then need no new memory.
    pub fn recycle(&mut self, door: Door, sent: Transmit) {
        match door {
            Door::Front => self.front.links.recycle(sent),
            Door::Back => self.dispatcher.recycle(sent),
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.leaves_at(), self.front.poll_timeout(), self.dispatcher.poll_timeout()].into_iter().flatten().min()
    }

    /// Gives the next output.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// The counters so far.
    pub fn counters(&self) -> BrokerCounters {
        let links = self.front.links.counters();
        BrokerCounters {
            requests: self.front.requests(),
            malformed_messages: links.malformed,
            unregistered_messages: links.unregistered,
            unexpected_messages: links.unexpected,
            expired_leases: links.expired_leases,
            shed_clients: links.shed,
            workers: self.dispatcher.counters(),
        }
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.dispatcher.workers()
    }

    /// The registered worker with this number.
    pub fn worker(&self, peer: Peer) -> Option<WorkerStatus<'_>> {
        self.dispatcher.worker(peer)
    }

    /// The registered clients, with each one's incarnation.
    pub fn clients(&self) -> impl Iterator<Item = (Peer, Uuid)> {
        self.front.clients()
    }

    /// Bytes held of clients and for them: their open requests, and the replies that they have not taken.
    pub fn held_bytes(&self) -> u64 {
        self.front.links.held_bytes()
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> usize {
        self.front.open_calls()
    }

    /// Whether the broker keeps nothing: no call, peer, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.dispatcher.is_empty() && self.front.is_empty() && self.outputs.is_empty() && self.leaves_at().is_none()
    }

    /// Acts on the events and outputs of both sides, and takes the next step of leaving.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.front.links.poll_event(now) {
                self.outputs.extend(self.front.handle_event(now, &mut self.dispatcher, event));
            } else if let Some(output) = self.dispatcher.poll_output() {
                self.handle_dispatcher_output(now, output);
            } else if !self.front.say_goodbye(now) {
                break;
            }
        }
        let is_leaving = matches!(self.leaving, Leaving::Draining { .. } | Leaving::HungUp);
        let are_gone = self.front.has_said_goodbye() && self.front.links.are_gone() && self.dispatcher.is_closed();
        if is_leaving && are_gone {
            self.leaving = Leaving::Left;
            self.outputs.push_back(BrokerOutput::Closed);
        }
    }

    fn handle_dispatcher_output(&mut self, now: Instant, output: Output) {
        let Self { front, dispatcher, .. } = self;
        // Announced before the calls return for that reason: their clients must not send them here again.
        if matches!(output, Output::WorkerJoined(_) | Output::WorkerChanged(_) | Output::WorkerLeft(..)) {
            front.follow_offers(now, dispatcher);
        }
        if let Output::WorkerLeft(peer, _) = output {
            front.links.forget_receipts(now, peer);
        }
        match output {
            Output::Forwarded(id) => front.note_forwarded(now, id),
            Output::Partial(id, payload, receipt) => front.pass_partial(now, dispatcher, id, payload, receipt),
            Output::Ended(id, Ok(payload), receipt) => front.pass_final(now, dispatcher, id, payload, receipt),
            Output::Ended(id, Err(failure), receipt) => front.pass_failure(now, dispatcher, id, failure, receipt),
            Output::WorkerJoined(peer) => self.outputs.push_back(BrokerOutput::WorkerJoined(peer)),
            Output::WorkerChanged(peer) => self.outputs.push_back(BrokerOutput::WorkerChanged(peer)),
            Output::WorkerLeft(peer, why) => self.outputs.push_back(BrokerOutput::WorkerLeft(peer, why)),
            Output::Disconnect(peer) => self.outputs.push_back(BrokerOutput::Disconnect(Door::Back, peer)),
            // Workers dial in here, and `settle` asks whether the dispatcher is closed.
            Output::Dial(_) | Output::Closed => {}
        }
    }

    /// When leaving ends although something is still open.
    fn leaves_at(&self) -> Option<Instant> {
        match self.leaving {
            Leaving::Draining { until } => Some(until),
            Leaving::No | Leaving::HungUp | Leaving::Left => None,
        }
    }
}

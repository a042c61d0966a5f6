//! The broker: to its workers a dispatcher, to its clients a worker that offers what all of its workers offer.

mod clients;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tracing::{debug, info, trace};
use uuid::Uuid;

use super::{
    calls::{CallFailure, CallSpec, Waits, overloaded},
    dispatch::{
        Departure, Dispatcher, DispatcherConfig, DispatcherCounters, INTERVAL_MAX, INTERVAL_MIN, Output, WorkerStatus,
    },
    fault::{Fault, planted},
    frame::{self, Malformed},
    liveness::{LARGE_PAYLOAD_BYTES, Liveness, patience},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, MESSAGE_WINDOW_BYTES, Message, PartialReply,
        Payload, Peer, Ready, Request, Role, ServiceOffer, listed,
    },
    outbox::{Outbox, Transmit},
    timer::{Timer, TimerTable},
    window::{Intake, Outflow},
    worker::{DEADLINE_MAX, DRAIN_TIMEOUT},
};

/// How long a closing broker waits for its clients to take the goodbye.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// What a broker is made with.
#[derive(Debug)]
pub struct BrokerConfig {
    /// How the broker deals with its workers; its incarnation, heartbeats, limits and window are for clients too.
    pub dispatcher: DispatcherConfig,
    /// How many requests each client may have here at once. Default 1,024.
    pub credits: u32,
    /// How long a drain may take. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self { dispatcher: DispatcherConfig::default(), credits: 1_024, drain_timeout: DRAIN_TIMEOUT }
    }
}

/// One of a broker's two sockets. Each numbers its peers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// Where clients connect.
    Front,
    /// Where workers connect.
    Back,
}

/// What a broker tells its owner.
#[derive(Debug, PartialEq)]
pub enum BrokerOutput {
    /// Nothing is to be received from that connection any more: end it once what was sent is on its way.
    Disconnect(Door, Peer),
    /// A client has introduced itself.
    ClientJoined(Peer),
    /// A client is gone; what it had asked for is cancelled.
    ClientLeft(Peer, Departure),
    /// A worker has registered, or offers something new.
    WorkerJoined(Peer),
    /// A registered worker takes another number of requests at once, or none any more because it drains.
    WorkerChanged(Peer),
    /// A registered worker is gone.
    WorkerLeft(Peer, Departure),
    /// The broker has said goodbye to everyone.
    Closed,
}

/// What a broker has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerCounters {
    /// Requests of clients that came in.
    pub requests: u64,
    /// Messages of clients that could not be read: answered where they named a call, else dropped.
    pub malformed_messages: u64,
    /// Messages of clients that are not registered: dropped, with their connection.
    pub unregistered_messages: u64,
    /// Messages of a kind that clients do not send, and requests of a call that is open already: dropped.
    pub unexpected_messages: u64,
    /// Clients that fell silent.
    pub expired_leases: u64,
    /// What was counted on the workers' side.
    pub workers: DispatcherCounters,
}

/// Routes the calls of many clients to many workers.
///
/// The poll order is the one of [`Dispatcher`]; messages, transmits and disconnects say through which [`Door`] they go.
#[derive(Debug)]
pub struct Broker {
    incarnation: Uuid,
    config: ClientsConfig,
    dispatcher: Dispatcher,
    is_dispatcher_closed: bool,
    clients: BTreeMap<Peer, ClientEntry>,
    /// Open calls by the ids that they have on the workers' side.
    origins: BTreeMap<CallId, Origin>,
    calls: u64,
    /// Clients whose introduction is to be answered, or told of new offers: once a turn, before all else to them.
    untold: BTreeSet<Peer>,
    /// What clients have been told that there is.
    offers: Vec<ServiceOffer>,
    /// The revision of the workers' offers that `offers` is of.
    revision: u64,
    timers: TimerTable,
    outbox: Outbox,
    outputs: VecDeque<BrokerOutput>,
    counters: BrokerCounters,
    leaving: Leaving,
}

/// What concerns the clients' side.
#[derive(Debug)]
struct ClientsConfig {
    heartbeats: super::liveness::Heartbeats,
    limits: frame::Limits,
    credits: u32,
    window_bytes: u64,
    drain_timeout: Duration,
}

/// A registered client.
#[derive(Debug)]
struct ClientEntry {
    liveness: Liveness,
    incarnation: Uuid,
    reply_bytes_max: usize,
    /// Open calls by the client's own ids.
    requests: BTreeMap<CallId, CallId>,
    intake: Intake,
    replies: Outflow,
    /// Goodbye is said; expects the connection to end.
    is_leaving: bool,
}

/// Where a call has come from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    client: Peer,
    call: CallId,
    bytes: u64,
    /// Whether its bytes count as dealt with: they do once it is with a worker, or has ended.
    is_taken: bool,
    partials: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Refusing what is new; calls in flight are still to end.
    Draining,
    /// Goodbye is said to everyone.
    Goodbye,
    Left,
}

impl Broker {
    /// A broker without clients or workers.
    pub fn new(config: BrokerConfig) -> Self {
        let BrokerConfig { dispatcher, credits, drain_timeout } = config;
        let DispatcherConfig { heartbeats, limits, window_bytes, .. } = dispatcher;
        let incarnation = dispatcher.incarnation;
        Self {
            incarnation,
            config: ClientsConfig { heartbeats, limits, credits, window_bytes, drain_timeout },
            dispatcher: Dispatcher::new(dispatcher),
            is_dispatcher_closed: false,
            clients: BTreeMap::new(),
            origins: BTreeMap::new(),
            // Half of the range: ids do not come again in this life, and hardly in the next.
            calls: incarnation.as_u64_pair().0 >> 1,
            untold: BTreeSet::new(),
            offers: Vec::new(),
            revision: 0,
            timers: TimerTable::default(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            counters: BrokerCounters::default(),
            leaving: Leaving::No,
        }
    }

    /// Takes a message from a peer.
    pub fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: Message) {
        match (door, message) {
            (Door::Front, message) => self.handle_client(now, from, message),
            (Door::Back, Message::Ready(ready)) if ready.role == Role::Worker => match self.check_offers(&ready) {
                Ok(()) => self.dispatcher.handle_message(now, from, Message::Ready(ready)),
                Err(detail) => self.dispatcher.refuse(now, from, detail),
            },
            (Door::Back, message) => self.dispatcher.handle_message(now, from, message),
        }
        self.settle(now);
    }

    /// Takes note of a message that could not be read, and answers it where it names a client's call.
    pub fn handle_malformed(&mut self, now: Instant, door: Door, from: Peer, malformed: &Malformed) {
        match door {
            Door::Front => self.handle_malformed_of_client(now, from, malformed),
            Door::Back => self.dispatcher.handle_malformed(now, from, malformed),
        }
        self.settle(now);
    }

    /// A peer's connection has ended.
    pub fn handle_disconnected(&mut self, now: Instant, door: Door, peer: Peer) {
        match door {
            Door::Front => self.remove_client(now, peer, Departure::Disconnected),
            Door::Back => self.dispatcher.handle_disconnected(now, peer),
        }
        self.settle(now);
    }

    /// The transport has not taken these messages, and the peer's connection is gone.
    pub fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match door {
            Door::Front => self.remove_client(now, transmit.to, Departure::Disconnected),
            Door::Back => self.dispatcher.handle_unsent(now, transmit),
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.dispatcher.handle_timeout(now);
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Heartbeat(peer) => self.heartbeat(now, peer),
                Timer::Lease(peer) => self.check_lease(now, peer),
                Timer::Leave => self.force_leave(now),
                Timer::Deadline(_) | Timer::Retry(_) | Timer::Dial(_) | Timer::Overrun(_) => {}
            }
        }
        self.settle(now);
    }

    /// Takes no new request, gives back those that wait, finishes those in flight, says goodbye;
    /// [`BrokerOutput::Closed`] follows, at the latest half a second after the drain timeout.
    pub fn drain(&mut self, now: Instant) {
        if self.leaving != Leaving::No {
            return;
        }
        info!(clients = self.clients.len(), open = self.origins.len(), "the broker drains");
        self.leaving = Leaving::Draining;
        self.timers.set(Timer::Leave, now + self.config.drain_timeout + GOODBYE_GRACE);
        self.client_peers().into_iter().for_each(|peer| self.send(now, peer, Message::Drain));
        self.dispatcher.release_waiting();
        self.dispatcher.drain(now, self.config.drain_timeout);
        self.settle(now);
    }

    /// Ends every call and says goodbye to everyone. [`BrokerOutput::Closed`] follows when they have gone, or after half
    /// a second.
    pub fn close(&mut self, now: Instant) {
        if self.leaving == Leaving::Left {
            return;
        }
        // A drain may have said goodbye already, and wait for it to be taken for as long as it has.
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Draining;
            // What crosses the goodbye has not been started, and may be told so.
            self.client_peers().into_iter().for_each(|peer| self.send(now, peer, Message::Drain));
        }
        self.timers.hasten(Timer::Leave, now + GOODBYE_GRACE);
        self.dispatcher.close(now);
        self.settle(now);
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Door, Transmit)> {
        while let Some(client) = self.untold.first().copied() {
            self.introduce(client);
        }
        let front = self.outbox.poll().map(|transmit| (Door::Front, transmit));
        front.or_else(|| self.dispatcher.poll_transmit().map(|transmit| (Door::Back, transmit)))
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.dispatcher.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to tell the owner.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// What has been counted so far.
    pub fn counters(&self) -> BrokerCounters {
        BrokerCounters { workers: self.dispatcher.counters(), ..self.counters }
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.dispatcher.workers()
    }

    /// The registered clients, and this life of each one's process.
    pub fn clients(&self) -> impl Iterator<Item = (Peer, Uuid)> {
        self.clients.iter().map(|(peer, client)| (*peer, client.incarnation))
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> usize {
        self.origins.len()
    }

    /// Whether nothing is kept: no call, no peer, no timer, nothing to send.
    pub fn is_empty(&self) -> bool {
        self.dispatcher.is_empty()
            && self.clients.is_empty()
            && self.origins.is_empty()
            && self.timers.is_empty()
            && self.outbox.is_empty()
            && self.outputs.is_empty()
            && self.untold.is_empty()
    }

    /// Passes on what the workers' side has produced, and takes the next step of leaving.
    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.dispatcher.poll_output() {
            // Before the calls that come back for it: their clients are not to send them here again.
            if matches!(output, Output::WorkerJoined(_) | Output::WorkerChanged(_) | Output::WorkerLeft(..)) {
                self.announce_offers();
            }
            match output {
                Output::Forwarded(id) => self.take_request(now, id),
                Output::Partial(id, payload) => self.pass_partial(now, id, payload),
                Output::Ended(id, Ok(payload)) => self.pass_final(now, id, payload),
                Output::Ended(id, Err(failure)) => self.pass_failure(now, id, failure),
                Output::WorkerJoined(peer) => self.outputs.push_back(BrokerOutput::WorkerJoined(peer)),
                Output::WorkerChanged(peer) => self.outputs.push_back(BrokerOutput::WorkerChanged(peer)),
                Output::WorkerLeft(peer, why) => self.outputs.push_back(BrokerOutput::WorkerLeft(peer, why)),
                Output::Disconnect(peer) => self.outputs.push_back(BrokerOutput::Disconnect(Door::Back, peer)),
                Output::Closed => self.is_dispatcher_closed = true,
                // Workers dial in here.
                Output::Dial(_) => {}
            }
        }
        self.finish_leaving(now);
    }

    /// Tells the clients when something else is offered than they know of.
    fn announce_offers(&mut self) {
        if std::mem::replace(&mut self.revision, self.dispatcher.revision()) == self.dispatcher.revision() {
            return;
        }
        let offers = self.dispatcher.offers(None);
        if offers != self.offers && self.leaving == Leaving::No {
            self.offers = offers;
            self.untold.extend(self.clients.keys());
        }
    }

    /// Tells a client what there is, if that is to be done.
    fn introduce(&mut self, client: Peer) {
        if self.untold.remove(&client) {
            self.outbox.push(client, Message::Ready(self.introduction(self.offers.clone())));
        }
    }

    /// Whether clients can be told of what this worker offers beside the others.
    fn check_offers(&self, ready: &Ready) -> Result<(), String> {
        let introduction = self.introduction(self.dispatcher.offers(Some(&ready.services)));
        frame::check(&Message::Ready(introduction), &self.config.limits)
            .map_err(|error| format!("the broker would offer too much: {error}"))
    }

    fn introduction(&self, services: Vec<ServiceOffer>) -> Ready {
        Ready {
            role: Role::Dispatcher,
            incarnation: self.incarnation,
            capabilities: Capabilities::BATCH,
            interval: self.config.heartbeats.interval,
            payload_bytes_max: self.config.limits.payload_bytes_max as u64,
            credits: self.config.credits,
            window_bytes: self.config.window_bytes,
            codecs: Codec::ALL.to_vec(),
            services,
        }
    }

    /// Says goodbye to each client that has got everything, and has left once everyone has gone.
    fn finish_leaving(&mut self, now: Instant) {
        if self.leaving == Leaving::No {
            return;
        }
        if self.origins.is_empty() {
            let is_done = |client: &ClientEntry| client.replies.is_empty() && !client.is_leaving;
            let done: Vec<_> =
                self.clients.iter().filter(|(_, client)| is_done(client)).map(|(peer, _)| *peer).collect();
            done.into_iter().for_each(|peer| self.say_goodbye(now, peer));
            if self.leaving == Leaving::Draining && self.clients.values().all(|client| client.is_leaving) {
                self.leaving = Leaving::Goodbye;
            }
        }
        if self.leaving == Leaving::Goodbye && self.clients.is_empty() && self.is_dispatcher_closed {
            self.leaving = Leaving::Left;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(BrokerOutput::Closed);
        }
    }

    /// The time for leaving is up.
    fn force_leave(&mut self, now: Instant) {
        self.dispatcher.close(now);
        for peer in self.client_peers() {
            self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, peer));
            self.remove_client(now, peer, Departure::Goodbye);
        }
    }

    fn client_peers(&self) -> Vec<Peer> {
        self.clients.keys().copied().collect()
    }
}

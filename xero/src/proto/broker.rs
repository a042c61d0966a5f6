//! The broker: a dispatcher to its workers; to its clients a worker that offers everything its workers offer.

mod clients;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    calls::{CallFailure, CallSpec, Waits, codec_not_read, overloaded},
    dispatch::{Departure, Dispatcher, DispatcherConfig, DispatcherCounters, Output, WorkerStatus},
    fault::{Fault, planted},
    frame::{self, Inbound, Malformed, TooLarge},
    hold::{HoldLimits, Receipt},
    link::{GOODBYE_GRACE, Link},
    links::{LinkEvent, Links},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Ready,
        Request, Role, listed,
    },
    outbox::Transmit,
    registry::Listing,
    timer::{Timer, TimerTable},
    window::Outflow,
    worker::{DEADLINE_MAX, DRAIN_TIMEOUT},
};

/// The shortest pause between two announcements of the offer.
///
/// A fleet that starts, or rolls, changes its offers hundreds of times a second, and each announcement holds all of
/// them. A tenth of a second harms nobody, because a call that a change returns brings the new offer along.
pub(crate) const OFFERS_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: how late a client may learn of a new service.
const OFFERS_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Bytes per second of announcements to all clients together: a seventh of a 1 Gbit/s link.
///
/// Larger announcements have longer pauses between them, up to the longest.
const OFFERS_BYTES_PER_SECOND: usize = 16 << 20;

/// The most left-out services to log, each once: as many as the default limit lists. Nobody reads more.
const LEFT_OUT_LOGGED_MAX: usize = 256;

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
    /// Messages of unregistered clients: dropped, with their connection.
    pub unregistered_messages: u64,
    /// Messages that clients do not send, and repeated requests for an open call: dropped.
    pub unexpected_messages: u64,
    /// Clients that fell silent.
    pub expired_leases: u64,
    /// The counters of the workers' side.
    pub workers: DispatcherCounters,
}

/// Routes the calls of many clients to many workers.
///
/// The poll order is that of [`Dispatcher`]; messages, transmits and disconnects name their [`Door`].
#[derive(Debug)]
pub struct Broker {
    credits: u32,
    drain_timeout: Duration,
    dispatcher: Dispatcher,
    is_dispatcher_closed: bool,
    /// The clients' connections. Their introduction holds the offer that the clients know.
    front: Links,
    clients: BTreeMap<Peer, ClientEntry>,
    /// Open calls by their ids on the workers' side.
    origins: BTreeMap<CallId, Origin>,
    calls: u64,
    offers: Offers,
    timers: TimerTable,
    outputs: VecDeque<BrokerOutput>,
    requests: u64,
    leaving: Leaving,
}

/// How far clients know the current offer.
#[derive(Debug, Default)]
struct Offers {
    /// The revision of the workers' offers in this side's introduction.
    revision: u64,
    /// The size of that introduction, in bytes.
    bytes: usize,
    /// The end of the pause after the last announcement.
    paused_until: Option<Instant>,
    /// Whether the offer differs from the one that all clients know. With clients, a timer is armed to announce it.
    is_stale: bool,
    /// Whether the introduction is newer than the one that all clients know.
    is_ahead: bool,
    /// The clients that got that introduction before the others.
    ahead: BTreeSet<Peer>,
    /// Left-out services that were already logged.
    logged: BTreeSet<Arc<str>>,
}

/// A registered client.
#[derive(Debug)]
struct ClientEntry {
    incarnation: Uuid,
    /// Open calls by the client's own ids.
    requests: BTreeMap<CallId, CallId>,
}

/// The origin of a call.
#[derive(Clone, Copy, Debug)]
struct Origin {
    client: Peer,
    call: CallId,
    bytes: u64,
    /// Whether its bytes are acknowledged. They are once the call has ended, or a worker has it and the client's limit
    /// has room for it.
    is_taken: bool,
    partials: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Refuses new calls; calls in flight may still end.
    Draining,
    /// Has said goodbye to all peers.
    Goodbye,
    Left,
}

impl Broker {
    /// A broker without clients or workers.
    pub fn new(config: BrokerConfig) -> Self {
        let BrokerConfig { dispatcher, credits, hold_limits, drain_timeout } = config;
        let heartbeats = dispatcher.heartbeats;
        let introduction = introduction(&dispatcher, credits);
        Self {
            credits,
            drain_timeout,
            // Half of the range: ids never repeat in this life, and hardly in the next.
            calls: dispatcher.incarnation.as_u64_pair().0 >> 1,
            dispatcher: Dispatcher::new(dispatcher),
            is_dispatcher_closed: false,
            front: Links::accepting(introduction, heartbeats, Role::Client, "the frontend of a broker")
                .holding(hold_limits),
            clients: BTreeMap::new(),
            origins: BTreeMap::new(),
            offers: Offers::default(),
            timers: TimerTable::default(),
            outputs: VecDeque::new(),
            requests: 0,
            leaving: Leaving::No,
        }
    }

    /// Handles a message from a peer.
    pub fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: impl Into<Inbound>) {
        match door {
            Door::Front => self.front.handle_message(now, from, message.into()),
            Door::Back => self.dispatcher.handle_message(now, from, message),
        }
        self.settle(now);
    }

    /// Counts an unreadable message, and answers it if it names a client's call.
    pub fn handle_malformed(&mut self, now: Instant, door: Door, from: Peer, malformed: &Malformed) {
        match door {
            Door::Front => self.handle_malformed_of_client(now, from, malformed),
            Door::Back => self.dispatcher.handle_malformed(now, from, malformed),
        }
        self.settle(now);
    }

    /// Handles the end of a peer's connection.
    pub fn handle_disconnected(&mut self, now: Instant, door: Door, peer: Peer) {
        match door {
            Door::Front => self.front.handle_disconnected(now, peer),
            Door::Back => self.dispatcher.handle_disconnected(now, peer),
        }
        self.settle(now);
    }

    /// Handles messages that the transport did not take; the peer's connection is gone.
    pub fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match door {
            Door::Front => self.front.handle_unsent(now, transmit),
            Door::Back => self.dispatcher.handle_unsent(now, transmit),
        }
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        self.front.handle_heartbeats(now);
        self.dispatcher.handle_heartbeats(now);
    }

    /// Handles due timeouts, as [`Dispatcher::handle_timeout`] does.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.front.handle_timeout(now);
        self.dispatcher.handle_timeout(now);
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Offers => self.announce_offers(now),
                _ => self.force_leave(now),
            }
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
        info!(clients = self.clients.len(), open = self.origins.len(), "the broker drains");
        self.leaving = Leaving::Draining;
        self.timers.stop(Timer::Offers);
        self.timers.set(Timer::Leave, now + self.drain_timeout + GOODBYE_GRACE);
        self.front.peers().into_iter().for_each(|peer| self.front.send(now, peer, Message::Drain));
        self.dispatcher.release_waiting();
        self.dispatcher.drain(now, self.drain_timeout);
        self.settle(now);
    }

    /// Ends every call and says goodbye to all peers.
    ///
    /// [`BrokerOutput::Closed`] follows when they have gone, or after half a second.
    pub fn close(&mut self, now: Instant) {
        if self.leaving == Leaving::Left {
            return;
        }
        // After a drain, a goodbye may be sent already; its own time limit still holds.
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Draining;
            self.timers.stop(Timer::Offers);
            // A request that crosses the goodbye was not started, and DRAIN lets its client know.
            self.front.peers().into_iter().for_each(|peer| self.front.send(now, peer, Message::Drain));
        }
        self.timers.hasten(Timer::Leave, now + GOODBYE_GRACE);
        self.dispatcher.close(now);
        self.settle(now);
    }

    /// Gives the next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Door, Transmit)> {
        let front = self.front.poll_transmit().map(|transmit| (Door::Front, transmit));
        front.or_else(|| self.dispatcher.poll_transmit().map(|transmit| (Door::Back, transmit)))
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.front.poll_timeout(), self.dispatcher.poll_timeout()].into_iter().flatten().min()
    }

    /// Gives the next output.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// The counters so far.
    pub fn counters(&self) -> BrokerCounters {
        let links = self.front.counters();
        BrokerCounters {
            requests: self.requests,
            malformed_messages: links.malformed,
            unregistered_messages: links.unregistered,
            unexpected_messages: links.unexpected,
            expired_leases: links.expired_leases,
            workers: self.dispatcher.counters(),
        }
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.dispatcher.workers()
    }

    /// The registered clients, with each one's incarnation.
    pub fn clients(&self) -> impl Iterator<Item = (Peer, Uuid)> {
        self.clients.iter().map(|(peer, client)| (*peer, client.incarnation))
    }

    /// Bytes held of clients and for them: their open requests, and the replies that they have not taken.
    pub fn held_bytes(&self) -> u64 {
        self.front.held_bytes()
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> usize {
        self.origins.len()
    }

    /// Whether the broker keeps nothing: no call, peer, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.dispatcher.is_empty()
            && self.clients.is_empty()
            && self.origins.is_empty()
            && self.timers.is_empty()
            && self.front.is_empty()
            && self.outputs.is_empty()
    }

    /// Acts on the outputs of both sides, and takes the next step of leaving.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.front.poll_event() {
                self.handle_client_event(now, event);
            } else if let Some(output) = self.dispatcher.poll_output() {
                self.handle_dispatcher_output(now, output);
            } else if !self.say_goodbye(now) {
                break;
            }
        }
        if self.leaving == Leaving::Goodbye && self.front.are_gone() && self.is_dispatcher_closed {
            self.leaving = Leaving::Left;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(BrokerOutput::Closed);
        }
    }

    fn handle_dispatcher_output(&mut self, now: Instant, output: Output) {
        // Announced before the calls return for that reason: their clients must not send them here again.
        if matches!(output, Output::WorkerJoined(_) | Output::WorkerChanged(_) | Output::WorkerLeft(..)) {
            self.note_offers(now);
        }
        match output {
            Output::Forwarded(id) => self.note_forwarded(now, id),
            Output::Partial(id, payload, receipt) => self.pass_partial(now, id, payload, receipt),
            Output::Ended(id, Ok(payload), receipt) => self.pass_final(now, id, payload, receipt),
            Output::Ended(id, Err(failure), receipt) => self.pass_failure(now, id, failure, receipt),
            Output::WorkerJoined(peer) => self.outputs.push_back(BrokerOutput::WorkerJoined(peer)),
            Output::WorkerChanged(peer) => self.outputs.push_back(BrokerOutput::WorkerChanged(peer)),
            Output::WorkerLeft(peer, why) => self.outputs.push_back(BrokerOutput::WorkerLeft(peer, why)),
            Output::Disconnect(peer) => self.outputs.push_back(BrokerOutput::Disconnect(Door::Back, peer)),
            Output::Closed => self.is_dispatcher_closed = true,
            // Workers dial in here.
            Output::Dial(_) => {}
        }
    }

    /// Notes a changed offer. Announces the first change at once, and bundles those soon after it.
    fn note_offers(&mut self, now: Instant) {
        if self.offers.revision == self.dispatcher.revision() || self.leaving != Leaving::No {
            return;
        }
        match self.offers.paused_until.filter(|until| *until > now && !planted(Fault::OffersUnpaced)) {
            None => self.announce_offers(now),
            Some(until) => {
                self.offers.is_stale = true;
                self.timers.hasten(Timer::Offers, until);
            }
        }
    }

    /// Announces the offer to the clients, if they know another one. Without clients, that waits for one.
    fn announce_offers(&mut self, now: Instant) {
        self.offers.is_stale = self.clients.is_empty();
        self.timers.stop(Timer::Offers);
        if self.offers.is_stale || self.leaving != Leaving::No {
            return;
        }
        let revision = self.offers.revision;
        let is_news = self.refresh_offers();
        if is_news || revision != self.offers.revision {
            self.offers.paused_until = Some(now + self.offers_pause());
        }
        if is_news {
            self.offers.ahead.clear();
            self.front.announce_to_all();
        }
    }

    /// The pause after an announcement, which grows with its size.
    fn offers_pause(&self) -> Duration {
        let bytes = self.offers.bytes.saturating_mul(self.clients.len());
        let pause = Duration::from_secs_f64(bytes as f64 / OFFERS_BYTES_PER_SECOND as f64);
        pause.clamp(OFFERS_PAUSE, OFFERS_PAUSE_MAX)
    }

    /// Brings the introduction up to date. `true` if some clients do not know it yet.
    fn refresh_offers(&mut self) -> bool {
        let revision = self.dispatcher.revision();
        let is_ahead = std::mem::take(&mut self.offers.is_ahead);
        if std::mem::replace(&mut self.offers.revision, revision) == revision {
            return is_ahead;
        }
        let Listing { services, left_out, bytes } = self.dispatcher.listing();
        self.offers.bytes = bytes;
        left_out.into_iter().for_each(|(service, limit)| self.offers.log_left_out(service, &limit));
        let is_other = self.front.set_services(services);
        if is_other {
            self.offers.ahead.clear();
        }
        is_other || is_ahead
    }

    /// Announces the offer to one client before all others.
    fn hasten_offers(&mut self, client: Peer) {
        if self.offers.is_stale && self.leaving == Leaving::No {
            self.offers.is_ahead = self.refresh_offers();
            if self.offers.ahead.insert(client) {
                self.front.announce_to(client);
            }
        }
    }

    /// Says goodbye to each client that has received everything, if this broker leaves; `false` if there is none.
    fn say_goodbye(&mut self, now: Instant) -> bool {
        if self.leaving != Leaving::Draining || !self.origins.is_empty() {
            return false;
        }
        let is_done = |peer: &Peer| self.front.outflow(*peer).is_some_and(|outflow| outflow.is_empty());
        let done: Vec<_> = self.front.up().filter(is_done).collect();
        done.iter().for_each(|peer| self.front.say_goodbye(now, *peer));
        if self.front.up().next().is_none() {
            self.leaving = Leaving::Goodbye;
        }
        !done.is_empty()
    }

    /// Handles the end of the time for leaving.
    fn force_leave(&mut self, now: Instant) {
        self.dispatcher.close(now);
        for peer in self.front.peers() {
            self.front.hang_up(now, peer, Departure::Goodbye);
        }
    }
}

impl Offers {
    fn log_left_out(&mut self, service: Arc<str>, limit: &TooLarge) {
        if self.logged.len() < LEFT_OUT_LOGGED_MAX && !self.logged.contains(&service) {
            warn!(?service, "clients cannot see all of a service that workers offer: with it, the {limit}");
            self.logged.insert(service);
        }
    }
}

/// The broker's introduction to clients, before any worker has an offer.
fn introduction(config: &DispatcherConfig, credits: u32) -> Ready {
    Ready {
        role: Role::Dispatcher,
        incarnation: config.incarnation,
        capabilities: Capabilities::BATCH,
        interval: config.heartbeats.interval,
        payload_bytes_max: config.limits.payload_bytes_max as u64,
        credits,
        window_bytes: config.window_bytes,
        codecs: Codec::ALL.to_vec(),
        services: Vec::new(),
    }
}

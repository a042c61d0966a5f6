//! The broker: to its workers a dispatcher, to its clients a worker that offers what all of its workers offer.

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

/// The shortest pause between two announcements of what is offered. A fleet that comes up, or rolls, changes its offers
/// hundreds of times a second, and each announcement has the whole of them. Nobody misses a tenth of a second, as a call
/// that comes back because of a change brings it along.
pub(crate) const OFFERS_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: how late a client learns of a new service.
const OFFERS_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How much of a second's sending announcements may take up, in bytes to all clients together: a seventh of what a link
/// of 1 Gbit/s carries. Larger announcements come at longer pauses, up to the longest.
const OFFERS_BYTES_PER_SECOND: usize = 16 << 20;

/// How many services without room are logged, each once: as many as have room by default. Past that, no reader is left.
const LEFT_OUT_LOGGED_MAX: usize = 256;

/// What a broker is made with.
#[derive(Debug)]
pub struct BrokerConfig {
    /// How the broker deals with its workers; its incarnation, heartbeats, limits and window are for clients too.
    pub dispatcher: DispatcherConfig,
    /// How many requests each client may have here at once. Default 1,024.
    pub credits: u32,
    /// How much is held of each client and of all: open requests, and replies that they have not taken.
    pub hold_limits: HoldLimits,
    /// How long a drain may take. Default 30 s.
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
    credits: u32,
    drain_timeout: Duration,
    dispatcher: Dispatcher,
    is_dispatcher_closed: bool,
    /// The connections of the clients, whose introduction says what they have been told that there is.
    front: Links,
    clients: BTreeMap<Peer, ClientEntry>,
    /// Open calls by the ids that they have on the workers' side.
    origins: BTreeMap<CallId, Origin>,
    calls: u64,
    offers: Offers,
    timers: TimerTable,
    outputs: VecDeque<BrokerOutput>,
    requests: u64,
    leaving: Leaving,
}

/// How far clients know what is offered.
#[derive(Debug, Default)]
struct Offers {
    /// The revision of the workers' offers that this side introduces itself with.
    revision: u64,
    /// The size of that introduction, in bytes.
    bytes: usize,
    /// The end of the pause after the last announcement.
    paused_until: Option<Instant>,
    /// Whether something else is offered than all clients know. Where there are clients, a timer is armed to announce it.
    is_stale: bool,
    /// Whether the introduction is newer than what all clients know.
    is_ahead: bool,
    /// The clients that have been sent that introduction before the others.
    ahead: BTreeSet<Peer>,
    /// Services that have been logged because an introduction has no room for them.
    logged: BTreeSet<Arc<str>>,
}

/// A registered client.
#[derive(Debug)]
struct ClientEntry {
    incarnation: Uuid,
    /// Open calls by the client's own ids.
    requests: BTreeMap<CallId, CallId>,
}

/// Where a call has come from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    client: Peer,
    call: CallId,
    bytes: u64,
    /// Whether its bytes are acknowledged: they are once it is with a worker, if the client's limit has room for it, or has
    /// ended.
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
        let BrokerConfig { dispatcher, credits, hold_limits, drain_timeout } = config;
        let heartbeats = dispatcher.heartbeats;
        let introduction = introduction(&dispatcher, credits);
        Self {
            credits,
            drain_timeout,
            // Half of the range: ids do not come again in this life, and hardly in the next.
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

    /// Takes a message from a peer.
    pub fn handle_message(&mut self, now: Instant, door: Door, from: Peer, message: impl Into<Inbound>) {
        match door {
            Door::Front => self.front.handle_message(now, from, message.into()),
            Door::Back => self.dispatcher.handle_message(now, from, message),
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
            Door::Front => self.front.handle_disconnected(now, peer),
            Door::Back => self.dispatcher.handle_disconnected(now, peer),
        }
        self.settle(now);
    }

    /// The transport has not taken these messages, and the peer's connection is gone.
    pub fn handle_unsent(&mut self, now: Instant, door: Door, transmit: Transmit) {
        match door {
            Door::Front => self.front.handle_unsent(now, transmit),
            Door::Back => self.dispatcher.handle_unsent(now, transmit),
        }
        self.settle(now);
    }

    /// Sends the heartbeats that are due, and does nothing else: for a driver that puts off what is due, because it was held
    /// up and has not read yet what may have answered it.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        self.front.handle_heartbeats(now);
        self.dispatcher.handle_heartbeats(now);
    }

    /// Does what is due, as [`Dispatcher::handle_timeout`] does.
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

    /// Takes no new request, gives back those that wait, finishes those in flight, says goodbye;
    /// [`BrokerOutput::Closed`] follows, at the latest half a second after the drain timeout.
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

    /// Ends every call and says goodbye to everyone. [`BrokerOutput::Closed`] follows when they have gone, or after half
    /// a second.
    pub fn close(&mut self, now: Instant) {
        if self.leaving == Leaving::Left {
            return;
        }
        // A drain may have said goodbye already, and wait for it to be taken for as long as it has.
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Draining;
            self.timers.stop(Timer::Offers);
            // What crosses the goodbye has not been started, and may be told so.
            self.front.peers().into_iter().for_each(|peer| self.front.send(now, peer, Message::Drain));
        }
        self.timers.hasten(Timer::Leave, now + GOODBYE_GRACE);
        self.dispatcher.close(now);
        self.settle(now);
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Door, Transmit)> {
        let front = self.front.poll_transmit().map(|transmit| (Door::Front, transmit));
        front.or_else(|| self.dispatcher.poll_transmit().map(|transmit| (Door::Back, transmit)))
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.front.poll_timeout(), self.dispatcher.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to tell the owner.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// What has been counted so far.
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

    /// The registered clients, and this life of each one's process.
    pub fn clients(&self) -> impl Iterator<Item = (Peer, Uuid)> {
        self.clients.iter().map(|(peer, client)| (*peer, client.incarnation))
    }

    /// What is held of clients and for them, in bytes: their open requests, and the replies that they have not taken.
    pub fn held_bytes(&self) -> u64 {
        self.front.held_bytes()
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
            && self.front.is_empty()
            && self.outputs.is_empty()
    }

    /// Acts on what both sides report, and takes the next step of leaving.
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
        // Before the calls that come back for it: their clients are not to send them here again.
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

    /// Takes note when something else is offered. The first change is passed on at once, what follows soon after it
    /// together.
    fn note_offers(&mut self, now: Instant) {
        if self.offers.revision == self.dispatcher.revision() || self.leaving != Leaving::No {
            return;
        }
        match self.offers.paused_until.filter(|until| *until > now) {
            None => self.announce_offers(now),
            Some(until) => {
                self.offers.is_stale = true;
                self.timers.hasten(Timer::Offers, until);
            }
        }
    }

    /// Tells the clients what is offered, if that is something else than they know of. Without clients, that waits until
    /// one comes.
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

    /// The pause after an announcement: the longer, the more was sent.
    fn offers_pause(&self) -> Duration {
        let bytes = self.offers.bytes.saturating_mul(self.clients.len());
        let pause = Duration::from_secs_f64(bytes as f64 / OFFERS_BYTES_PER_SECOND as f64);
        pause.clamp(OFFERS_PAUSE, OFFERS_PAUSE_MAX)
    }

    /// Brings the introduction up to date. `true` when not all clients know what it says.
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

    /// One client is to know what is offered, before all others do.
    fn hasten_offers(&mut self, client: Peer) {
        if self.offers.is_stale && self.leaving == Leaving::No {
            self.offers.is_ahead = self.refresh_offers();
            if self.offers.ahead.insert(client) {
                self.front.announce_to(client);
            }
        }
    }

    /// Says goodbye to each client that has got everything, when this broker leaves; `false` when there is none.
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

    /// The time for leaving is up.
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

/// How a broker introduces itself to clients, before any worker offers something.
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

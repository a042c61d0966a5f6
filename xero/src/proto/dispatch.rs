//! The dispatcher: routes calls to registered workers. A client that binds hosts one; so does a broker.

mod attempts;
mod changes;
mod placement;
mod router;
mod sweep;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    calls::{Call, CallEnd, CallFailure, CallSpec},
    dials::Dials,
    exits::Exits,
    fault::{Fault, planted},
    frame::{Inbound, Limits, Malformed},
    hold::Receipt,
    link::GOODBYE_GRACE,
    links::{LinkEvent, Links},
    liveness::Heartbeats,
    message::{CallId, Capabilities, Codec, Message, Payload, Peer, Ready, Role},
    outbox::Transmit,
    registry::{LeastRecentlyUsed, Listing, Offer, WorkerChoice, WorkerEntry},
    retry::{BackoffConfig, RetryConfig},
    timer::EXPIRY_BOUND,
    window::WINDOW_BYTES,
};
use router::{Router, Which};

pub use super::link::Departure;

/// The configuration of a dispatcher.
#[derive(Debug)]
pub struct DispatcherConfig {
    /// This life of the process.
    pub incarnation: Uuid,
    /// The seed of every back-off's jitter.
    pub seed: u64,
    /// The dispatcher's own interval and liveness.
    pub heartbeats: Heartbeats,
    /// The sizes to refuse.
    pub limits: Limits,
    /// The most memory for the offers of workers that dial in, in bytes. Default 128 MiB.
    ///
    /// It is an estimate: 1 KiB for each service and method, and their names. Equal offers count once.
    pub offers_bytes_max: u64,
    /// Calls that may wait for a worker before further ones fail as overloaded.
    pub waiting_max: usize,
    /// How often, and how soon, a call is tried again.
    pub retry: RetryConfig,
    /// The wait between dials to brokers.
    pub backoff: BackoffConfig,
    /// Receive window per peer, in bytes. Default 2 MiB; 0, or more than 64 MiB, means 64 MiB.
    pub window_bytes: u64,
    /// The policy that chooses a worker.
    pub choice: Box<dyn WorkerChoice>,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            incarnation: Uuid::nil(),
            seed: 0,
            heartbeats: Heartbeats::default(),
            limits: Limits::default(),
            offers_bytes_max: 128 << 20,
            waiting_max: 10_000,
            retry: RetryConfig::default(),
            backoff: BackoffConfig::default(),
            window_bytes: WINDOW_BYTES,
            choice: Box::new(LeastRecentlyUsed),
        }
    }
}

/// An output of a dispatcher.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// A waiting call has gone to a worker.
    Forwarded(CallId),
    /// A partial reply of a call; release it with [`Dispatcher::release`].
    Partial(CallId, Payload, Receipt),
    /// A call has ended, and no further output mentions it. Release its reply with [`Dispatcher::release`].
    Ended(CallId, CallEnd, Receipt),
    /// A worker has registered, or offers something new.
    WorkerJoined(Peer),
    /// A registered worker has changed its credits; a draining one has none.
    WorkerChanged(Peer),
    /// A registered worker is gone.
    WorkerLeft(Peer, Departure),
    /// Receive nothing more from that connection: end it once everything sent on it is on its way.
    Disconnect(Peer),
    /// Connect to that broker; answer with `handle_dialed` or `handle_disconnected`.
    Dial(Peer),
    /// The dispatcher has said goodbye to all peers.
    Closed,
}

/// The counters of a dispatcher since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatcherCounters {
    /// Replies to requests that the worker did not have: dropped.
    pub unsolicited_replies: u64,
    /// Replies after the end of their call, and repeated partial replies: dropped.
    pub late_replies: u64,
    /// Unreadable messages: dropped.
    pub malformed_messages: u64,
    /// Connections of peers that sent something else before READY, or nothing in time: dropped.
    pub unregistered_messages: u64,
    /// Messages of a kind that this role does not accept: dropped.
    pub unexpected_messages: u64,
    /// Leases that expired.
    pub expired_leases: u64,
    /// Attempts after the first one.
    pub retries: u64,
    /// Attempts that the spent retry budget prevented.
    pub retries_over_budget: u64,
    /// Choices of a [`WorkerChoice`] that were not candidates: the calls wait.
    pub stray_choices: u64,
}

/// Routes calls to registered workers, which dial in; or to brokers, which it dials.
///
/// To a client, a broker is a worker that offers everything its workers offer.
///
/// After each `handle_*` or verb, poll [`Self::poll_output`] until it is empty. When no more input is at hand, poll
/// [`Self::poll_transmit`] until it is empty, then do the disconnects among the outputs. Then wait for a message or for
/// [`Self::poll_timeout`]. Handle messages at hand before timeouts, so that a process that was frozen does not treat
/// its peers as dead.
#[derive(Debug)]
pub struct Dispatcher {
    router: Router,
    exits: Exits<Output>,
    closing: Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Accepts no new call. Open calls may still end, until the second instant.
    Draining {
        since: Instant,
        until: Instant,
    },
    /// Has said goodbye. Some workers' connections remain, until this instant.
    Leaving {
        until: Instant,
    },
    Closed,
}

impl Dispatcher {
    /// A dispatcher that workers dial.
    pub fn new(config: DispatcherConfig) -> Self {
        let introduction = introduction(&config, Role::Dispatcher);
        let links = Links::accepting(introduction, config.heartbeats, Role::Worker, PLACE);
        Self::with_router(Router::new(config, false), links)
    }

    /// A client's dispatcher, which dials `brokers` brokers: the peers 0, 1, 2 …
    pub fn dialing(now: Instant, config: DispatcherConfig, brokers: u64) -> Self {
        let dials = Dials::new(brokers, config.backoff, config.seed);
        let links = Links::dialing(now, introduction(&config, Role::Client), config.heartbeats, dials);
        Self::with_router(Router::new(config, true), links)
    }

    /// Names the brokers' endpoints for the logs, in the brokers' order.
    pub fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        self.exits.links.name_endpoints(endpoints);
    }

    fn with_router(router: Router, links: Links) -> Self {
        Self { router, exits: Exits::new(links), closing: Closing::No }
    }

    /// Starts a call, which ends with exactly one [`Output::Ended`] unless it is cancelled.
    ///
    /// The id must be new in this life of the process and, as far as chance allows, in earlier ones: count from a
    /// random number. Waiting calls are served in the order of their ids.
    pub fn call(&mut self, now: Instant, id: CallId, spec: CallSpec) {
        if self.add(id, spec) {
            self.start(now, id);
        }
    }

    /// Adds a call that no worker gets before [`Self::start`]; `false` if it has ended at once. It ends by its deadline
    /// like any other, and does not count among the waiting calls.
    pub(crate) fn add(&mut self, id: CallId, spec: CallSpec) -> bool {
        if self.closing != Closing::No {
            let failure = CallFailure::Closed { maybe_executed: false };
            self.exits.report(Output::Ended(id, Err(failure), Receipt::NONE));
            return false;
        }
        self.router.add(&mut self.exits, id, spec)
    }

    /// Starts a call that was added, or stopped.
    pub(crate) fn start(&mut self, now: Instant, id: CallId) {
        self.router.start(now, &mut self.exits, id);
    }

    /// Takes a call that waits for a worker out of its line, until [`Self::start`]; `false` if it does not wait.
    pub(crate) fn stop(&mut self, id: CallId) -> bool {
        self.router.stop(id)
    }

    /// Acknowledges a reply to its worker, which may send as many bytes again.
    ///
    /// An owner that passes replies on releases them when they have left. So replies that its callers do not take stay
    /// with their workers.
    pub fn release(&mut self, now: Instant, receipt: Receipt) {
        self.exits.links.release(now, receipt);
    }

    /// Ends a call whose unread partial replies exceed what its owner keeps.
    pub fn overflow(&mut self, now: Instant, id: CallId) {
        let received = self.router.get(id).map_or(0, Call::partials);
        self.router.abandon(now, &mut self.exits, id, CallFailure::PartialsUnread { received });
    }

    /// Cancels a call. No further output mentions it.
    pub fn cancel(&mut self, now: Instant, id: CallId) {
        self.router.cancel(now, &mut self.exits, id);
    }

    /// Accepts no new call, lets open calls end, and closes; at the latest after the timeout.
    pub fn drain(&mut self, now: Instant, timeout: Duration) {
        if self.closing == Closing::No {
            self.closing = Closing::Draining { since: now, until: now + timeout };
        }
    }

    /// Says goodbye to every worker and ends every call.
    ///
    /// [`Output::Closed`] follows when the workers have gone, or after half a second.
    pub fn close(&mut self, now: Instant) {
        if self.has_said_goodbye() {
            return;
        }
        self.closing = Closing::Leaving { until: now + GOODBYE_GRACE };
        self.exits.links.stop_dialing();
        self.router.close(&mut self.exits, Which::All);
        self.exits.links.close(now);
        self.exits.links.leave(now);
        self.settle(now);
    }

    /// Handles a message from a peer.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: impl Into<Inbound>) {
        self.exits.links.handle_message(now, from, message.into());
        self.settle(now);
    }

    /// Counts an unreadable message.
    pub fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if self.exits.links.handle_malformed(now, from, malformed) {
            self.release(now, Receipt { from, bytes: malformed.window_bytes });
            self.router.handle_unreadable(now, &mut self.exits, from, malformed);
        }
        self.settle(now);
    }

    /// Handles the connection of a worker that has yet to introduce itself, in good time.
    pub fn handle_accepted(&mut self, now: Instant, peer: Peer) {
        self.exits.links.handle_accepted(now, peer);
        self.settle(now);
    }

    /// Handles the connection that [`Output::Dial`] asked for.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.exits.links.handle_dialed(now, peer);
        self.settle(now);
    }

    /// Handles the end of a peer's connection.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.exits.links.handle_disconnected(now, peer);
        self.settle(now);
    }

    /// What the end of a worker concerns: methods and requests.
    pub fn weight(&self, peer: Peer) -> usize {
        self.router.weight(peer)
    }

    /// Handles messages that the transport did not take; the peer's connection is gone.
    ///
    /// Requests among them have not left: they go elsewhere, idempotent or not.
    pub fn handle_unsent(&mut self, now: Instant, transmit: Transmit) {
        self.exits.links.handle_unsent(now, transmit);
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        if planted(Fault::HeartbeatsWithheld) {
            return;
        }
        self.exits.links.handle_heartbeats(now);
    }

    /// Handles due timeouts: first those of peers, then those of calls, a bounded number of each.
    ///
    /// While more are due, [`Self::poll_timeout`] is due at once, so that transmits leave in between.
    pub fn handle_timeout(&mut self, now: Instant) {
        if planted(Fault::RetriedForTime) {
            self.router.retry_all(now, &mut self.exits);
        }
        let router = &self.router;
        let weight = |peer| router.weight(peer);
        // A call must not end at its deadline if its worker is lost by then.
        let by = self.exits.links.handle_timeout(now, weight);
        self.settle(now);
        self.router.make_changes(now, &mut self.exits);
        self.router.follow_changes(now, &mut self.exits);
        for _ in 0..if planted(Fault::ExpiriesUnbounded) { usize::MAX } else { EXPIRY_BOUND } {
            if !self.router.handle_timeout(now, by, &mut self.exits) {
                break;
            }
        }
        if self.router.poll_timeout().is_none_or(|at| at > now) {
            self.router.serve_unserved(now, &mut self.exits);
        }
        match self.closing {
            Closing::Draining { until, .. } if until <= now || self.router.is_idle() => self.close(now),
            Closing::Leaving { until } if until <= now => self.exits.links.hang_up_all(now),
            _ => {}
        }
        self.settle(now);
    }

    /// Gives the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.exits.links.poll_transmit();
        if transmit.is_none() {
            self.router.end_turn();
        }
        transmit
    }

    /// Takes back a transmit that was sent: the next messages then need no new memory.
    pub fn recycle(&mut self, sent: Transmit) {
        self.exits.links.recycle(sent);
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.router.poll_timeout(), self.exits.links.poll_timeout(), self.closes_at()].into_iter().flatten().min()
    }

    /// Gives the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.exits.poll()
    }

    /// The counters so far.
    pub fn counters(&self) -> DispatcherCounters {
        let (links, calls) = (self.exits.links.counters(), self.router.counters());
        DispatcherCounters {
            unsolicited_replies: calls.unsolicited_replies,
            late_replies: calls.late_replies,
            malformed_messages: links.malformed,
            unregistered_messages: links.unregistered,
            unexpected_messages: links.unexpected,
            expired_leases: links.expired_leases,
            retries: calls.retries,
            retries_over_budget: calls.retries_over_budget,
            stray_choices: calls.stray_choices,
        }
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.router.workers().iter().map(|(peer, entry)| WorkerStatus { peer, entry })
    }

    /// The registered worker with this number.
    pub fn worker(&self, peer: Peer) -> Option<WorkerStatus<'_>> {
        self.router.workers().get(peer).map(|entry| WorkerStatus { peer, entry })
    }

    /// The services that live workers offer, sorted.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.router.workers().services().map(|name| &**name)
    }

    /// The merged offer of all callable workers: with credits, and not draining.
    ///
    /// Where workers disagree about a method, the offer lists only what they share. It leaves out what exceeds this
    /// dispatcher's introduction.
    pub(crate) fn listing(&self) -> Listing {
        self.router.workers().listing()
    }

    /// Changes whenever [`Self::listing`] may have changed.
    pub(crate) fn revision(&self) -> u64 {
        self.router.workers().revision()
    }

    /// Whether a call may have run so far.
    pub(crate) fn maybe_executed(&self, id: CallId) -> bool {
        self.router.get(id).is_some_and(Call::maybe_executed)
    }

    /// Whether a call waits for a worker.
    pub(crate) fn is_waiting(&self, id: CallId) -> bool {
        self.router.get(id).is_some_and(Call::is_waiting)
    }

    /// The places of waiting calls' lines, which changes of offers look at.
    #[cfg(test)]
    pub(crate) fn waiting_places(&self) -> usize {
        self.router.waiting_places()
    }

    /// Ends the calls that are with no worker.
    pub(crate) fn release_waiting(&mut self) {
        self.router.close(&mut self.exits, Which::NotInFlight);
    }

    /// Whether [`Output::Closed`] was given, or is about to be.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing == Closing::Closed
    }

    /// Whether the dispatcher keeps nothing: no call, worker, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.router.is_empty() && self.exits.is_empty() && self.closes_at().is_none()
    }

    /// Acts on what the links report.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.exits.links.poll_event(now) {
            self.handle_event(now, event);
        }
        if matches!(self.closing, Closing::Leaving { .. }) && self.exits.links.are_gone() {
            self.closing = Closing::Closed;
            self.exits.report(Output::Closed);
        }
    }

    fn handle_event(&mut self, now: Instant, event: LinkEvent) {
        let Self { router, exits, .. } = self;
        match event {
            LinkEvent::Introduced(peer, ready) => self.handle_ready(now, peer, ready),
            LinkEvent::Received(from, message, bytes) => self.handle_received(now, Receipt { from, bytes }, message),
            LinkEvent::Draining(peer) => {
                exits.links.note_draining(now, peer);
                router.set_draining(now, exits, peer);
            }
            LinkEvent::Doubted(peer) => router.set_doubted(now, exits, peer, true),
            LinkEvent::Heard(peer) => router.set_doubted(now, exits, peer, false),
            LinkEvent::Room(peer) => router.note_room(now, exits, peer),
            LinkEvent::Ended(peer, end) => router.remove_worker(now, exits, peer, &end),
            LinkEvent::Dial(peer) => exits.report(Output::Dial(peer)),
            LinkEvent::Disconnect(peer) => exits.report(Output::Disconnect(peer)),
            // Dispatchers pass nothing on to workers.
            LinkEvent::PartialLeft(..) | LinkEvent::Released(_) => {}
        }
    }

    fn handle_received(&mut self, now: Instant, receipt: Receipt, message: Message) {
        let Self { router, exits, .. } = self;
        let from = receipt.from;
        // A reply is released with what becomes of it.
        let receipt = match message.reply() {
            Some(_) => {
                router.begin(receipt);
                Receipt::NONE
            }
            None => receipt,
        };
        match message {
            Message::Partial(reply) => router.handle_partial(now, exits, from, reply),
            Message::Final(reply) => router.handle_final(now, exits, from, reply),
            Message::Error(reply) => router.handle_error(now, exits, from, reply),
            Message::Credit(credits) => router.set_credits(now, exits, from, credits),
            Message::Offer(change) => router.change_offer(now, exits, from, change),
            _ => exits.links.drop_unexpected(from, "a message that workers do not send"),
        }
        let of_reply = router.take_receipt();
        exits.links.release(now, of_reply);
        exits.links.release(now, receipt);
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, mut ready: Ready) {
        if self.has_said_goodbye() {
            return self.exits.links.reject(now, from, "the client or broker is closing".to_owned());
        }
        let offer = Offer::take(&mut ready);
        if let Err(detail) = self.router.workers().check_room(from, &offer) {
            return self.exits.links.reject(now, from, detail);
        }
        self.exits.links.accept(now, from, &ready);
        self.router.register(now, &mut self.exits, from, &ready, offer);
    }

    fn has_said_goodbye(&self) -> bool {
        matches!(self.closing, Closing::Leaving { .. } | Closing::Closed)
    }

    /// When closing goes on by itself.
    fn closes_at(&self) -> Option<Instant> {
        match self.closing {
            // Due at once: the end of the last call leaves before the goodbye.
            Closing::Draining { since, .. } if self.router.is_idle() => Some(since),
            Closing::Draining { until, .. } | Closing::Leaving { until } => Some(until),
            Closing::No | Closing::Closed => None,
        }
    }
}

/// A registered worker, as its dispatcher knows it.
#[derive(Debug)]
pub struct WorkerStatus<'a> {
    /// Its connection.
    pub peer: Peer,
    entry: &'a WorkerEntry,
}

impl WorkerStatus<'_> {
    /// The incarnation of the worker's process.
    pub fn incarnation(&self) -> Uuid {
        self.entry.incarnation
    }

    /// The instant of its registration.
    pub fn registered_at(&self) -> Instant {
        self.entry.registered_at
    }

    /// Whether it accepts no new request.
    pub fn is_draining(&self) -> bool {
        self.entry.draining
    }

    /// The number of its requests.
    pub fn in_flight(&self) -> usize {
        self.entry.in_flight.len()
    }

    /// The requests that it takes at once.
    pub fn credits(&self) -> u32 {
        self.entry.credits()
    }

    /// The services it offers, sorted.
    pub fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entry.services()
    }
}

/// A dispatcher's introduction.
fn introduction(config: &DispatcherConfig, role: Role) -> Ready {
    Ready {
        role,
        incarnation: config.incarnation,
        capabilities: Capabilities::BATCH.and(Capabilities::OFFERS),
        interval: config.heartbeats.interval,
        payload_bytes_max: config.limits.payload_bytes_max as u64,
        credits: 0,
        window_bytes: config.window_bytes,
        codecs: Codec::available().collect(),
        services: Vec::new(),
    }
}

/// What a client learns that has connected here.
const PLACE: &str =
    "a client that binds, or the backend of a broker; clients connect to a broker's frontend, its first endpoint";

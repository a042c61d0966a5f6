//! The dispatcher: routes calls to registered workers. A client that binds hosts one; so does a broker.

mod attempts;
mod workers;

use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::info;
use uuid::Uuid;

use super::{
    calls::{Call, CallEnd, CallFailure, CallSpec, CallState, Calls, LineId, Waits},
    dials::Dials,
    fault::{Fault, count_step, planted},
    frame::{self, Inbound, Limits, Malformed, TooLarge},
    hold::Receipt,
    link::GOODBYE_GRACE,
    links::{End, LinkEvent, Links},
    liveness::Heartbeats,
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Ready,
        Request, Role,
    },
    outbox::Transmit,
    registry::{LeastRecentlyUsed, Listing, Outlook, PoolId, Registry, Route, WorkerChoice, WorkerEntry},
    retry::{BackoffConfig, Cost, RetryBudget, RetryConfig, Setback, may_retry},
    timer::{EXPIRY_BOUND, Timer, TimerTable},
    window::WINDOW_BYTES,
};

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
    /// Messages of unregistered peers: dropped, with their connection.
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
    config: DispatcherConfig,
    registry: Registry,
    calls: Calls,
    timers: TimerTable,
    links: Links,
    outputs: VecDeque<Output>,
    /// The receipt of the current message, unless the owner has it.
    receipt: Receipt,
    counters: DispatcherCounters,
    closing: Closing,
    random: fastrand::Rng,
    budget: RetryBudget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Accepts no new call; open calls may still end.
    Draining {
        since: Instant,
    },
    /// Has said goodbye; some workers' connections remain.
    Leaving,
    Closed,
}

impl Dispatcher {
    /// A dispatcher that workers dial.
    pub fn new(config: DispatcherConfig) -> Self {
        let (introduction, heartbeats) = (workers::introduction(&config, Role::Dispatcher), config.heartbeats);
        let place = "a client that binds, or the backend of a broker";
        Self::with_links(config, Links::accepting(introduction, heartbeats, Role::Worker, place))
    }

    /// A client's dispatcher, which dials `brokers` brokers: the peers 0, 1, 2 …
    pub fn dialing(now: Instant, config: DispatcherConfig, brokers: u64) -> Self {
        let (introduction, heartbeats) = (workers::introduction(&config, Role::Client), config.heartbeats);
        let links = Links::dialing(now, introduction, heartbeats, Dials::new(brokers, config.backoff, config.seed));
        Self::with_links(config, links)
    }

    /// Names the brokers' endpoints for the logs, in the brokers' order.
    pub fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        self.links.name_endpoints(endpoints);
    }

    fn with_links(config: DispatcherConfig, links: Links) -> Self {
        Self {
            random: fastrand::Rng::with_seed(config.seed),
            budget: RetryBudget::new(config.retry),
            registry: Registry::new(&config.limits),
            config,
            calls: Calls::default(),
            timers: TimerTable::default(),
            links,
            outputs: VecDeque::new(),
            receipt: Receipt::NONE,
            counters: DispatcherCounters::default(),
            closing: Closing::No,
        }
    }

    /// Starts a call, which ends with exactly one [`Output::Ended`] unless it is cancelled.
    ///
    /// The id must be new in this life of the process and, as far as chance allows, in earlier ones: count from a
    /// random number. Waiting calls are served in the order of their ids.
    pub fn call(&mut self, now: Instant, id: CallId, spec: CallSpec) {
        if let Err(failure) = self.admit(&spec) {
            return self.outputs.push_back(Output::Ended(id, Err(failure), Receipt::NONE));
        }
        let lateness = if planted(Fault::DeadlineLate) { self.config.heartbeats.interval } else { Duration::ZERO };
        let deadline_at = spec.deadline + lateness;
        self.timers.arm(Timer::Deadline(id), deadline_at);
        self.calls.insert(id, spec, deadline_at);
        self.budget.deposit();
        if self.advance(now, id) {
            return;
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.has_waited = true;
        }
        self.wait(id);
        let waiting = self.calls.waiting_count();
        if waiting > self.config.waiting_max {
            let waiting_max = Some(self.config.waiting_max);
            self.end_unsent(self.calls.crowding(id), CallFailure::Overloaded { waiting: waiting - 1, waiting_max });
        }
    }

    /// Acknowledges a reply to its worker, which may send as many bytes again.
    ///
    /// An owner that passes replies on releases them when they have left. So replies that its callers do not take stay
    /// with their workers.
    pub fn release(&mut self, now: Instant, receipt: Receipt) {
        self.links.take(now, receipt.from, receipt.bytes);
    }

    /// Ends a call whose unread partial replies exceed what its owner keeps.
    pub fn overflow(&mut self, now: Instant, id: CallId) {
        let received = match self.calls.get(id).map(|call| call.state) {
            Some(CallState::InFlight { partials, .. }) => partials,
            _ => 0,
        };
        self.give_up(now, id, CallFailure::PartialsUnread { received });
    }

    /// Cancels a call. No further output mentions it.
    pub fn cancel(&mut self, now: Instant, id: CallId) {
        if let Some(call) = self.take(id) {
            self.recall(now, id, &call);
        }
    }

    /// Accepts no new call, lets open calls end, and closes; at the latest after the timeout.
    pub fn drain(&mut self, now: Instant, timeout: Duration) {
        if self.closing == Closing::No {
            self.closing = Closing::Draining { since: now };
            let leave_at = if self.calls.len() == 0 { now } else { now + timeout };
            self.timers.set(Timer::Leave, leave_at);
        }
    }

    /// Says goodbye to every worker and ends every call.
    ///
    /// [`Output::Closed`] follows when the workers have gone, or after half a second.
    pub fn close(&mut self, now: Instant) {
        if self.has_said_goodbye() {
            return;
        }
        self.closing = Closing::Leaving;
        self.links.stop_dialing();
        for id in self.calls.ids() {
            let maybe_executed = self.calls.get(id).is_some_and(Call::maybe_executed);
            self.end(id, Err(CallFailure::Closed { maybe_executed }));
        }
        self.links.leave(now);
        self.timers.set(Timer::Leave, now + GOODBYE_GRACE);
        self.settle(now);
    }

    /// Handles a message from a peer.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: impl Into<Inbound>) {
        self.links.handle_message(now, from, message.into());
        self.settle(now);
    }

    /// Counts an unreadable message.
    pub fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if self.links.handle_malformed(now, from, malformed) {
            self.links.take(now, from, malformed.window_bytes);
            self.handle_unreadable_reply(now, from, malformed);
        }
        self.settle(now);
    }

    /// Handles the connection that [`Output::Dial`] asked for.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.links.handle_dialed(now, peer);
        self.settle(now);
    }

    /// Handles the end of a peer's connection.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.links.handle_disconnected(now, peer);
        self.settle(now);
    }

    /// Handles messages that the transport did not take; the peer's connection is gone.
    ///
    /// Requests among them have not left: they go elsewhere, idempotent or not.
    pub fn handle_unsent(&mut self, now: Instant, transmit: Transmit) {
        self.links.handle_unsent(now, transmit);
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        if planted(Fault::HeartbeatsWithheld) {
            return;
        }
        self.links.handle_heartbeats(now);
    }

    /// Handles due timeouts: all those of peers, then a bounded number of calls.
    ///
    /// While more are due, [`Self::poll_timeout`] is due at once, so that transmits leave in between.
    pub fn handle_timeout(&mut self, now: Instant) {
        if planted(Fault::RetriedForTime) {
            let in_flight = self.registry.iter().flat_map(|(_, worker)| worker.in_flight.keys().copied());
            for id in in_flight.collect::<Vec<_>>() {
                self.lose_worker_of(now, id, Setback::MaybeExecuted);
            }
        }
        self.links.handle_timeout(now);
        self.settle(now);
        for _ in 0..if planted(Fault::ExpiriesUnbounded) { usize::MAX } else { EXPIRY_BOUND } {
            let Some(timer) = self.timers.expire(now) else { break };
            self.handle_timer(now, timer);
            self.settle(now);
        }
    }

    /// Gives the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.links.poll_transmit()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.links.poll_timeout()].into_iter().flatten().min()
    }

    /// Gives the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The counters so far.
    pub fn counters(&self) -> DispatcherCounters {
        let links = self.links.counters();
        DispatcherCounters {
            malformed_messages: links.malformed,
            unregistered_messages: links.unregistered,
            unexpected_messages: links.unexpected,
            expired_leases: links.expired_leases,
            stray_choices: self.registry.stray_choices(),
            ..self.counters
        }
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.registry.iter().map(|(peer, entry)| WorkerStatus { peer, entry })
    }

    /// The services that live workers offer, sorted.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.registry.services().map(|name| &**name)
    }

    /// The merged offer of all callable workers: with credits, and not draining.
    ///
    /// Where workers disagree about a method, the offer lists only what they share. It leaves out what exceeds this
    /// dispatcher's introduction.
    pub(crate) fn listing(&self) -> Listing {
        self.registry.listing()
    }

    /// Changes whenever [`Self::listing`] may have changed.
    pub(crate) fn revision(&self) -> u64 {
        self.registry.revision()
    }

    /// Whether a call may have run so far.
    pub(crate) fn maybe_executed(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(Call::maybe_executed)
    }

    /// Whether a call waits for a worker.
    pub(crate) fn is_waiting(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(|call| matches!(call.state, CallState::Waiting(_)))
    }

    /// Ends the calls that are with no worker.
    pub(crate) fn release_waiting(&mut self) {
        for id in self.calls.ids() {
            if let Some(call) = self.calls.get(id).filter(|call| !call.is_in_flight()) {
                let maybe_executed = call.maybe_executed;
                self.end(id, Err(CallFailure::Closed { maybe_executed }));
            }
        }
    }

    /// Whether the dispatcher keeps nothing: no call, worker, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
            && self.registry.keeps_nothing()
            && self.timers.is_empty()
            && self.links.is_empty()
            && self.outputs.is_empty()
    }

    fn handle_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Deadline(id) => self.handle_deadline(now, id),
            Timer::Retry(id) => self.retry(now, id),
            Timer::Leave if !self.has_said_goodbye() => self.close(now),
            Timer::Leave => self.finish_leaving(now),
            Timer::Heartbeat(_) | Timer::Lease(_) | Timer::Dial(_) | Timer::Overrun(_) | Timer::Offers => {}
        }
    }

    fn handle_partial(&mut self, now: Instant, from: Peer, reply: PartialReply) {
        let call = self.calls.get_mut(reply.call);
        let Some(CallState::InFlight { worker, partials }) = call.map(|call| &mut call.state) else {
            return self.count_stray(from, reply.call);
        };
        if *worker != from {
            return self.count_stray(from, reply.call);
        }
        match reply.sequence.cmp(partials) {
            Ordering::Equal => {
                *partials = partials.saturating_add(1);
                if !planted(Fault::PartialLost) {
                    let receipt = self.take_receipt();
                    self.outputs.push_back(Output::Partial(reply.call, reply.payload, receipt));
                }
            }
            Ordering::Less => self.counters.late_replies += 1,
            Ordering::Greater => {
                let (sent, received) = (reply.sequence.saturating_add(1), *partials);
                self.give_up(now, reply.call, CallFailure::PartialsLost { sent, received });
            }
        }
    }

    fn handle_final(&mut self, now: Instant, from: Peer, reply: FinalReply) {
        match self.registry.return_credit(from, reply.call) {
            Some(true) => {
                let end = self.check_partials(reply.call, reply.partials).map(|()| reply.payload);
                self.end(reply.call, end);
            }
            Some(false) if planted(Fault::StaleReplyAccepted) => {
                self.outputs.push_back(Output::Ended(reply.call, Ok(reply.payload), Receipt::NONE));
            }
            None if planted(Fault::UnsolicitedAccepted) => self.end(reply.call, Ok(reply.payload)),
            Some(false) => self.counters.late_replies += 1,
            None => self.counters.unsolicited_replies += 1,
        }
        self.serve_waiting(now, from);
    }

    fn handle_error(&mut self, now: Instant, from: Peer, reply: ErrorReply) {
        match self.registry.return_credit(from, reply.call) {
            Some(true) => self.end_with_error(now, from, reply),
            Some(false) => self.counters.late_replies += 1,
            None => self.counters.unsolicited_replies += 1,
        }
        self.serve_waiting(now, from);
    }

    fn handle_unreadable_reply(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        let is_in_flight = |id: &CallId| self.registry.get(from).is_some_and(|it| it.in_flight.contains_key(id));
        let Some(id) = malformed.call.filter(is_in_flight) else { return };
        let reason = malformed.to_string();
        // A final reply ends the request at the worker; after a partial one, the worker still runs it.
        if malformed.ends_request() {
            self.registry.return_credit(from, id);
            self.end(id, Err(CallFailure::UnreadableReply { reason }));
            self.serve_waiting(now, from);
        } else {
            self.give_up(now, id, CallFailure::UnreadableReply { reason });
        }
    }

    fn count_stray(&mut self, from: Peer, id: CallId) {
        match self.registry.get(from).is_some_and(|worker| worker.in_flight.contains_key(&id)) {
            true => self.counters.late_replies += 1,
            false => self.counters.unsolicited_replies += 1,
        }
    }

    /// Takes the receipt of the current reply, for the owner.
    fn take_receipt(&mut self) -> Receipt {
        std::mem::replace(&mut self.receipt, Receipt::NONE)
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

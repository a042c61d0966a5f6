//! The worker: introduces itself on every connection, takes requests, and answers each exactly once.

mod backlog;
mod executions;
mod services;

use std::time::{Duration, Instant};

use tracing::info;
use uuid::Uuid;

use super::{
    dials::Dials,
    exits::Exits,
    fault::{Fault, planted},
    frame::{Inbound, Limits, Malformed},
    hold::{HoldLimits, Receipt},
    link::{Departure, GOODBYE_GRACE, Link},
    links::{LinkEvent, Links},
    liveness::Heartbeats,
    message::{Capabilities, Codec, ErrorCode, Message, Payload, Peer, Ready, Request, Role, ServiceOffer},
    outbox::Transmit,
    retry::BackoffConfig,
    timer::{EXPIRY_BOUND, Execution},
};
use executions::Executions;

/// The default time limit of a drain, of a worker and of a broker.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The configuration of a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// This life of the process.
    pub incarnation: Uuid,
    /// The seed of the back-off's jitter.
    pub seed: u64,
    /// The worker's own interval and liveness.
    pub heartbeats: Heartbeats,
    /// The wait between dials.
    pub backoff: BackoffConfig,
    /// The sizes to refuse.
    pub limits: Limits,
    /// Requests that run at once, and that each dispatcher may send at once.
    pub credits: u32,
    /// Receive window per dispatcher, in bytes; 0, or more than 64 MiB, means 64 MiB.
    pub window_bytes: u64,
    /// Bytes held of the requests of one dispatcher, and of all.
    pub hold_limits: HoldLimits,
    /// The time limit of a drain.
    pub drain_timeout: Duration,
    /// The offered services.
    pub services: Vec<ServiceOffer>,
    /// The signatures of the offered methods, by service and method.
    pub signatures: Vec<Vec<Signature>>,
}

/// A method's signature, beyond its offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The readable signature.
    pub text: String,
    /// Fingerprints of callers that lack the last arguments, which have defaults. (`PROTOCOL.md` §7)
    pub older: Vec<u64>,
}

impl From<String> for Signature {
    fn from(text: String) -> Self {
        Self { text, older: Vec::new() }
    }
}

impl WorkerConfig {
    /// The worker's introduction.
    pub fn introduction(&self) -> Ready {
        Ready {
            role: Role::Worker,
            incarnation: self.incarnation,
            capabilities: Capabilities::BATCH,
            interval: self.heartbeats.interval,
            payload_bytes_max: self.limits.payload_bytes_max as u64,
            credits: self.credits,
            window_bytes: self.window_bytes,
            codecs: Codec::available().collect(),
            services: self.services.clone(),
        }
    }
}

/// An output of a worker.
#[derive(Debug, PartialEq)]
pub enum WorkerOutput {
    /// Connect to that dispatcher; answer with `handle_dialed` or `handle_disconnected`.
    Dial(Peer),
    /// End the connection to that dispatcher once everything sent on it is on its way.
    Hangup(Peer),
    /// The dispatcher has answered the introduction.
    Registered(Peer),
    /// The dispatcher is lost; it will be dialed again unless the worker leaves.
    Unregistered(Peer),
    /// Run a procedure; answer with `finish`, even when it is aborted.
    Start(Box<Start>),
    /// A partial reply of the procedure is on its way, with a payload of this many bytes: there is room for another.
    PartialSent(Execution, usize),
    /// Nobody wants the procedure's outcome any more: stop it if possible.
    Abort(Execution),
    /// The worker has left: nothing runs, and no peer is connected.
    Left,
}

/// A request to run.
#[derive(Debug, PartialEq)]
pub struct Start {
    /// Its name in `finish` and `partial`.
    pub execution: Execution,
    /// The requesting dispatcher.
    pub peer: Peer,
    /// The index of the service in [`WorkerConfig::services`].
    pub service: usize,
    /// The index of the method in its service.
    pub method: usize,
    /// The instant by which it must have ended.
    pub deadline: Instant,
    /// The largest payload of its reply, in bytes.
    pub reply_bytes_max: usize,
    /// The request as received.
    pub request: Request,
}

/// How a procedure ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With a value.
    Reply(Payload),
    /// With an error.
    Error {
        /// What went wrong.
        code: ErrorCode,
        /// A sentence for people.
        detail: String,
        /// The method's own error, if it is one.
        payload: Payload,
    },
    /// Without an outcome: it was stopped halfway, because it was aborted or its runtime has ended.
    Aborted,
    /// Without a start, for the same reasons.
    NotStarted,
}

/// The counters of a worker since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Requests received.
    pub requests: u64,
    /// Unreadable messages: answered if they named a call, otherwise dropped.
    pub malformed_messages: u64,
    /// Messages of a kind that this role or state does not accept: dropped.
    pub unexpected_messages: u64,
    /// Dispatchers that fell silent.
    pub expired_leases: u64,
    /// Dispatchers disconnected because all together held more than `total_bytes_max`.
    pub shed_dispatchers: u64,
    /// Dials after the first one of each dispatcher.
    pub redials: u64,
    /// Outcomes without a caller any more: dropped.
    pub unwanted_replies: u64,
}

/// Serves the requests of one or several dispatchers, each over one connection at a time.
///
/// A [`Peer`] here is one of the dispatchers that the worker connects to. The poll order is that of
/// [`Dispatcher`](super::dispatch::Dispatcher).
#[derive(Debug)]
pub struct Worker {
    executions: Executions,
    exits: Exits<WorkerOutput>,
    heartbeats: Heartbeats,
    drain_timeout: Duration,
    leaving: Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Finishes running requests, until this instant.
    Draining {
        until: Instant,
    },
    /// Has said goodbye to all dispatchers. Hangs up at this instant, except on large replies, which have until the
    /// end of the drain.
    Goodbye {
        until: Instant,
        drain_until: Instant,
    },
    Left,
}

/// A request that does not run: the error to answer it with.
type Refusal = (ErrorCode, String);

impl Worker {
    /// A worker that connects to `dispatchers` dispatchers, the peers 0, 1, 2 …
    pub fn new(now: Instant, config: WorkerConfig, dispatchers: u64) -> Self {
        let (heartbeats, drain_timeout, hold_limits) = (config.heartbeats, config.drain_timeout, config.hold_limits);
        let dials = Dials::new(dispatchers, config.backoff, config.seed);
        let links = Links::dialing(now, config.introduction(), heartbeats, dials).holding(hold_limits);
        Self {
            executions: Executions::new(config),
            exits: Exits::new(links),
            heartbeats,
            drain_timeout,
            leaving: Leaving::No,
        }
    }

    /// Names the dispatchers' endpoints for the logs, in the dispatchers' order.
    pub fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        self.exits.links.name_endpoints(endpoints);
    }

    /// Handles the connection that [`WorkerOutput::Dial`] asked for.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.exits.links.handle_dialed(now, peer);
        self.settle(now);
    }

    /// Handles a connection that has ended, or could not be made.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.exits.links.handle_disconnected(now, peer);
        self.settle(now);
    }

    /// Handles a message from a dispatcher.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: impl Into<Inbound>) {
        self.exits.links.handle_message(now, from, message.into());
        self.settle(now);
    }

    /// Counts an unreadable message, and answers it if it names a call.
    pub fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if self.exits.links.handle_malformed(now, from, malformed) {
            self.exits.links.release(now, Receipt { from, bytes: malformed.window_bytes });
            self.executions.handle_malformed(now, &mut self.exits, from, malformed);
        }
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        self.exits.links.handle_heartbeats(now);
    }

    /// Handles due timeouts: first those of peers, then those of requests, a bounded number of each.
    ///
    /// While more are due, [`Self::poll_timeout`] is due at once, so that transmits leave in between.
    pub fn handle_timeout(&mut self, now: Instant) {
        let by = self.exits.links.handle_timeout(now, |_| 0);
        self.settle(now);
        for _ in 0..EXPIRY_BOUND {
            if !self.executions.handle_timeout(now, by, &mut self.exits) {
                break;
            }
            self.settle(now);
        }
        match self.leaving {
            Leaving::Draining { until } if until <= now => self.give_up_executions(now),
            Leaving::Goodbye { until, drain_until } if until <= now => self.give_up_goodbyes(now, drain_until),
            _ => {}
        }
        self.settle(now);
    }

    /// Handles the end of a procedure.
    pub fn finish(&mut self, now: Instant, execution: Execution, finish: Finish) {
        self.executions.finish(now, &mut self.exits, execution, finish);
        self.settle(now);
    }

    /// Sends a procedure's partial reply; `false` if nobody waits for it any more.
    ///
    /// [`WorkerOutput::PartialSent`] follows when the dispatcher has room for it.
    pub fn partial(&mut self, now: Instant, execution: Execution, payload: Payload) -> bool {
        let is_wanted = self.executions.partial(now, &mut self.exits, execution, payload);
        self.settle(now);
        is_wanted
    }

    /// Drains the worker: accepts no new request, finishes running ones, says goodbye.
    ///
    /// [`WorkerOutput::Left`] follows, at the latest after the drain timeout.
    pub fn drain(&mut self, now: Instant) {
        if self.leaving != Leaving::No {
            return;
        }
        info!(open = self.executions.len(), "this worker drains: it finishes its calls and accepts no others");
        self.leaving = Leaving::Draining { until: now + self.drain_timeout };
        self.executions.drain();
        let links = &mut self.exits.links;
        links.stop_dialing();
        // A dispatcher that has not answered may have read READY, and sent requests: it gets DRAIN when it answers.
        links.peers().into_iter().for_each(|peer| links.send(now, peer, Message::Drain));
        self.settle(now);
    }

    /// Gives the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.exits.links.poll_transmit()
    }

    /// Takes back a transmit that was sent: the next messages then need no new memory.
    pub fn recycle(&mut self, sent: Transmit) {
        self.exits.links.recycle(sent);
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [self.executions.poll_timeout(), self.exits.links.poll_timeout(), self.leaves_at()];
        timeouts.into_iter().flatten().min()
    }

    /// Gives the next output.
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.exits.poll()
    }

    /// The counters so far.
    pub fn counters(&self) -> WorkerCounters {
        let links = self.exits.links.counters();
        WorkerCounters {
            requests: self.executions.received(),
            malformed_messages: links.malformed,
            unexpected_messages: links.unexpected + links.unregistered,
            expired_leases: links.expired_leases,
            shed_dispatchers: links.shed,
            redials: links.redials,
            unwanted_replies: self.executions.unwanted_replies(),
        }
    }

    /// The dispatchers that have answered.
    pub fn registered(&self) -> impl Iterator<Item = Peer> {
        self.executions.peers()
    }

    /// Whether a drain has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Bytes held of dispatchers and for them: waiting requests, and the replies that they have not taken.
    pub fn held_bytes(&self) -> u64 {
        self.exits.links.held_bytes()
    }

    /// Running procedures, and requests that wait to run.
    pub fn executions(&self) -> usize {
        self.executions.len()
    }

    /// Whether the worker keeps nothing: no connection, execution, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty() && self.executions.is_empty() && self.leaves_at().is_none()
    }

    /// Counts as many partial replies of an execution as can be counted.
    #[cfg(test)]
    pub(super) fn skip_partials(&mut self, execution: Execution) {
        self.executions.skip_partials(execution);
    }

    /// Acts on the events of the links, and takes the next step of leaving.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.exits.links.poll_event(now) {
                self.handle_event(now, event);
            }
            self.go_on_leaving(now);
            if !self.exits.links.has_events() {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: LinkEvent) {
        let Self { executions, exits, .. } = self;
        match event {
            LinkEvent::Introduced(peer, ready) => self.handle_ready(now, peer, &ready),
            LinkEvent::Received(from, message, bytes) => {
                let receipt = Receipt { from, bytes };
                match message {
                    Message::Request(request) => return executions.handle_request(now, exits, request, receipt),
                    Message::Cancel(call) => executions.handle_cancel(now, exits, from, call),
                    _ => exits.links.drop_unexpected(from, "a message of a kind that dispatchers do not send"),
                }
                exits.links.release(now, receipt);
            }
            LinkEvent::PartialLeft(peer, call, bytes) => {
                if let Some(execution) = executions.execution_of(peer, call) {
                    exits.report(WorkerOutput::PartialSent(execution, bytes));
                }
            }
            LinkEvent::Ended(peer, ..) => executions.lose_peer(exits, peer),
            LinkEvent::Dial(peer) => exits.report(WorkerOutput::Dial(peer)),
            LinkEvent::Disconnect(peer) => exits.report(WorkerOutput::Hangup(peer)),
            LinkEvent::Draining(peer) => exits.links.drop_unexpected(peer, "DRAIN, which dispatchers do not send"),
            LinkEvent::Room(_) => executions.start_waiting(now, exits),
            // A worker passes nothing on, and no dispatcher is doubted.
            LinkEvent::Released(_) | LinkEvent::Doubted(_) | LinkEvent::Heard(_) => {}
        }
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: &Ready) {
        self.exits.links.accept(now, from, ready);
        if !self.executions.add_peer(from) {
            return;
        }
        self.exits.report(WorkerOutput::Registered(from));
        if self.is_leaving() {
            self.exits.links.send(now, from, Message::Drain);
        }
        if matches!(self.leaving, Leaving::Goodbye { .. }) {
            self.say_goodbye_to(now, from);
        }
    }

    /// Says goodbye once nothing runs and no reply is kept; the worker has left once all peers have gone.
    fn go_on_leaving(&mut self, now: Instant) {
        if let Leaving::Draining { until } = self.leaving {
            let is_done = self.executions.is_empty() && !self.executions.peers().any(|peer| self.is_holding(peer));
            if is_done || planted(Fault::DrainCutShort) {
                self.say_goodbye(now, until);
            }
        }
        if matches!(self.leaving, Leaving::Goodbye { .. }) && self.exits.links.are_gone() {
            self.leaving = Leaving::Left;
            self.exits.report(WorkerOutput::Left);
        }
    }

    /// Whether replies to that dispatcher are kept until its window has room.
    fn is_holding(&self, peer: Peer) -> bool {
        self.exits.links.outflow(peer).is_some_and(|outflow| !outflow.is_empty())
    }

    fn say_goodbye(&mut self, now: Instant, drain_until: Instant) {
        self.leaving = Leaving::Goodbye { until: now + GOODBYE_GRACE, drain_until };
        self.registered().collect::<Vec<_>>().into_iter().for_each(|peer| self.say_goodbye_to(now, peer));
    }

    fn say_goodbye_to(&mut self, now: Instant, peer: Peer) {
        self.exits.links.say_goodbye(now, peer);
        self.executions.remove_peer(peer);
    }

    /// Answers requests that still run, and leaves.
    fn give_up_executions(&mut self, now: Instant) {
        self.executions.give_up(now, &mut self.exits);
        // A goodbye would overtake the kept replies, and report their requests as not started.
        let peers = self.exits.links.peers();
        let holding: Vec<_> = peers.into_iter().filter(|peer| self.is_holding(*peer)).collect();
        holding.into_iter().for_each(|peer| self.exits.links.hang_up(now, peer, Departure::Disconnected));
        self.say_goodbye(now, now);
    }

    /// Stops waiting for the goodbye to be read, except where a large reply may still be on its way.
    fn give_up_goodbyes(&mut self, now: Instant, drain_until: Instant) {
        let expiry = self.heartbeats.own_expiry();
        let is_recent = |until| now < until + expiry;
        let may_be_sending = now < drain_until && self.executions.sending_until().is_some_and(is_recent);
        for peer in self.exits.links.peers() {
            // A dispatcher that still reads a large reply keeps sending heartbeats; a silent one expires.
            let is_said = self.exits.links.get(peer).is_some_and(Link::is_leaving);
            if !(may_be_sending && is_said) {
                self.exits.links.hang_up(now, peer, Departure::Goodbye);
            }
        }
        self.leaving = Leaving::Goodbye { until: drain_until, drain_until };
    }

    /// When leaving goes on by itself.
    fn leaves_at(&self) -> Option<Instant> {
        match self.leaving {
            Leaving::Draining { until } | Leaving::Goodbye { until, .. } => Some(until),
            Leaving::No | Leaving::Left => None,
        }
    }
}

/// The longest remaining time that is tracked; a request that asks for more gets this much.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

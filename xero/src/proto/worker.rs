//! The worker: introduces itself on every connection, takes requests, and answers each exactly once.

mod backlog;
mod executions;
mod leaving;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    dials::Dials,
    fault::{Fault, planted},
    frame::{self, Inbound, Limits, Malformed},
    hold::HoldLimits,
    link::{Departure, GOODBYE_GRACE, Link},
    links::{LinkEvent, Links, sending_time},
    liveness::Heartbeats,
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Ready,
        Request, Role, ServiceOffer, listed,
    },
    outbox::Transmit,
    retry::BackoffConfig,
    timer::{Execution, Timer, TimerTable},
    window::Outflow,
};
use backlog::Backlog;

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
    config: WorkerConfig,
    links: Links,
    /// The requests of each dispatcher that has answered and has not received a goodbye.
    requests: BTreeMap<Peer, BTreeMap<CallId, Execution>>,
    executions: BTreeMap<Execution, Task>,
    /// Requests that have not started: beyond the credits, when several dispatchers spend them at the same time, or
    /// from a dispatcher whose window is full of replies.
    backlog: Backlog,
    running: usize,
    timers: TimerTable,
    outputs: VecDeque<WorkerOutput>,
    counters: WorkerCounters,
    sequence: u64,
    leaving: Leaving,
    /// The end of the time for a drain.
    leave_by: Instant,
    /// Until when large replies may be on their way, or when the last small one was sent; `None` before any reply.
    sending_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Finishes running requests.
    Draining,
    /// Has said goodbye to all dispatchers.
    Goodbye,
    Left,
}

#[derive(Debug)]
struct Task {
    /// The waiting caller; `None` if nobody waits any more.
    caller: Option<(Peer, CallId)>,
    partials: u32,
    /// What its request counts while it is held: until it starts.
    held: Option<Held>,
    /// Why it was aborted, if it was.
    aborted: Option<ErrorCode>,
    /// The request, until it starts.
    waiting: Option<Box<Start>>,
}

/// A held request.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    is_acknowledged: bool,
}

impl Worker {
    /// A worker that connects to `dispatchers` dispatchers, the peers 0, 1, 2 …
    pub fn new(now: Instant, config: WorkerConfig, dispatchers: u64) -> Self {
        let dials = Dials::new(dispatchers, config.backoff, config.seed);
        Self {
            links: Links::dialing(now, config.introduction(), config.heartbeats, dials).holding(config.hold_limits),
            config,
            requests: BTreeMap::new(),
            executions: BTreeMap::new(),
            backlog: Backlog::default(),
            running: 0,
            timers: TimerTable::default(),
            outputs: VecDeque::new(),
            counters: WorkerCounters::default(),
            sequence: 0,
            leaving: Leaving::No,
            leave_by: now,
            sending_until: None,
        }
    }

    /// Names the dispatchers' endpoints for the logs, in the dispatchers' order.
    pub fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        self.links.name_endpoints(endpoints);
    }

    /// Handles the connection that [`WorkerOutput::Dial`] asked for.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.links.handle_dialed(now, peer);
        self.settle(now);
    }

    /// Handles a connection that has ended, or could not be made.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.links.handle_disconnected(now, peer);
        self.settle(now);
    }

    /// Handles a message from a dispatcher.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: impl Into<Inbound>) {
        self.links.handle_message(now, from, message.into());
        self.settle(now);
    }

    /// Counts an unreadable message, and answers it if it names a call.
    pub fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if self.links.handle_malformed(now, from, malformed) {
            self.links.take(now, from, malformed.window_bytes);
            let call = malformed.call.filter(|call| malformed.is_request() && !self.has_request(from, *call));
            if let Some(call) = call {
                self.refuse(now, from, call, malformed.code, malformed.to_string());
            }
        }
        self.settle(now);
    }

    /// Sends due heartbeats, and nothing else.
    ///
    /// For a driver that was held up: it puts off other timeouts until it has read the messages that may answer them.
    pub fn handle_heartbeats(&mut self, now: Instant) {
        self.links.handle_heartbeats(now);
    }

    /// Handles due timeouts.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.links.handle_timeout(now);
        self.settle(now);
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Overrun(execution) => self.abort(now, execution, ErrorCode::DeadlineExceeded),
                Timer::Leave => self.force_leave(now),
                Timer::Deadline(_) | Timer::Retry(_) | Timer::Offers => {}
                Timer::Heartbeat(_) | Timer::Lease(_) | Timer::Dial(_) => {}
            }
            self.settle(now);
        }
    }

    /// Handles the end of a procedure.
    pub fn finish(&mut self, now: Instant, execution: Execution, finish: Finish) {
        let Some(task) = self.executions.remove(&execution) else { return };
        self.timers.stop(Timer::Overrun(execution));
        self.running -= usize::from(task.waiting.is_none());
        match task.caller {
            Some((peer, call)) => {
                self.answer(now, peer, call, &task, finish);
                self.forget_request(now, peer, task.held);
            }
            None => self.counters.unwanted_replies += 1,
        }
        self.start_waiting(now);
        self.settle(now);
    }

    /// Sends a procedure's partial reply; `false` if nobody waits for it any more.
    ///
    /// [`WorkerOutput::PartialSent`] follows when the dispatcher has room for it.
    pub fn partial(&mut self, now: Instant, execution: Execution, payload: Payload) -> bool {
        let Some(task) = self.executions.get_mut(&execution).filter(|task| task.aborted.is_none()) else {
            return false;
        };
        let Some((peer, call)) = task.caller else { return false };
        let sequence = task.partials;
        let Some(partials) = sequence.checked_add(1) else {
            // The final reply could not count them.
            self.abort(now, execution, ErrorCode::InvalidReply);
            self.settle(now);
            return false;
        };
        task.partials = partials;
        self.links.send(now, peer, Message::Partial(PartialReply { call, sequence, payload }));
        self.settle(now);
        true
    }

    /// Drains the worker: accepts no new request, finishes running ones, says goodbye.
    ///
    /// [`WorkerOutput::Left`] follows, at the latest after the drain timeout.
    pub fn drain(&mut self, now: Instant) {
        if self.leaving != Leaving::No {
            return;
        }
        self.leaving = Leaving::Draining;
        self.leave_by = now + self.config.drain_timeout;
        self.timers.set(Timer::Leave, self.leave_by);
        self.links.stop_dialing();
        // A dispatcher that has not answered may have read READY, and sent requests: it gets DRAIN when it answers.
        self.links.peers().into_iter().for_each(|peer| self.links.send(now, peer, Message::Drain));
        self.settle(now);
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
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_front()
    }

    /// The counters so far.
    pub fn counters(&self) -> WorkerCounters {
        let links = self.links.counters();
        WorkerCounters {
            malformed_messages: links.malformed,
            unexpected_messages: links.unexpected + links.unregistered,
            expired_leases: links.expired_leases,
            redials: links.redials,
            ..self.counters
        }
    }

    /// The dispatchers that have answered.
    pub fn registered(&self) -> impl Iterator<Item = Peer> {
        self.requests.keys().copied()
    }

    /// Whether a drain has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Bytes held of dispatchers and for them: waiting requests, and the replies that they have not taken.
    pub fn held_bytes(&self) -> u64 {
        self.links.held_bytes()
    }

    /// Running procedures, and requests that wait to run.
    pub fn executions(&self) -> usize {
        self.executions.len()
    }

    /// Whether the worker keeps nothing: no connection, execution, timer or message to send.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
            && self.executions.is_empty()
            && self.backlog.is_empty()
            && self.running == 0
            && self.timers.is_empty()
            && self.outputs.is_empty()
    }

    /// Counts as many partial replies of an execution as can be counted.
    #[cfg(test)]
    pub(super) fn skip_partials(&mut self, execution: Execution) {
        self.executions.entry(execution).and_modify(|task| task.partials = u32::MAX);
    }

    /// Acts on the events of the links, and takes the next step of leaving.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.links.poll_event() {
                self.handle_event(now, event);
            }
            self.finish_drain(now);
            if !self.links.has_events() {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::Introduced(peer, ready) => self.handle_ready(now, peer, &ready),
            LinkEvent::Received(peer, message, bytes) => self.handle_received(now, peer, message, bytes),
            LinkEvent::PartialLeft(peer, call, bytes) => {
                let execution = self.requests.get(&peer).and_then(|requests| requests.get(&call));
                self.outputs.extend(execution.map(|execution| WorkerOutput::PartialSent(*execution, bytes)));
            }
            LinkEvent::Ended(peer, ..) => self.disown(peer),
            LinkEvent::Dial(peer) => self.outputs.push_back(WorkerOutput::Dial(peer)),
            LinkEvent::Disconnect(peer) => self.outputs.push_back(WorkerOutput::Hangup(peer)),
            LinkEvent::Draining(peer) => self.links.drop_unexpected(peer, "DRAIN, which dispatchers do not send"),
            LinkEvent::Room(_) => self.start_waiting(now),
            // A worker passes nothing on, and no dispatcher is doubted.
            LinkEvent::Released(_) | LinkEvent::Doubted(_) | LinkEvent::Heard(_) => {}
        }
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: &Ready) {
        self.links.accept(now, from, ready);
        if self.requests.contains_key(&from) {
            return;
        }
        self.requests.insert(from, BTreeMap::new());
        self.outputs.push_back(WorkerOutput::Registered(from));
        if self.leaving != Leaving::No {
            self.links.send(now, from, Message::Drain);
        }
        if self.leaving == Leaving::Goodbye {
            self.say_goodbye_to(now, from);
        }
    }

    fn handle_received(&mut self, now: Instant, from: Peer, message: Message, bytes: u64) {
        match message {
            Message::Request(request) => return self.handle_request(now, from, request, bytes),
            Message::Cancel(call) => self.handle_cancel(now, from, call),
            _ => self.links.drop_unexpected(from, "a message of a kind that dispatchers do not send"),
        }
        self.links.take(now, from, bytes);
    }
}

/// The longest remaining time that is tracked; a request that asks for more gets this much.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

//! The worker: introduces itself on every connection, takes requests, and answers each exactly once.

mod executions;
mod leaving;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    fault::{Fault, planted},
    frame::{self, Limits, Malformed},
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

/// How long a drain may take, of a worker and of a broker, unless they are told otherwise.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a worker is made with.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// This life of the process.
    pub incarnation: Uuid,
    /// What the back-off's jitter is drawn from.
    pub seed: u64,
    /// The worker's own interval and liveness.
    pub heartbeats: Heartbeats,
    /// How long to wait between dials.
    pub backoff: BackoffConfig,
    /// Sizes that are refused.
    pub limits: Limits,
    /// How many requests run at once, and how many each dispatcher may send at once.
    pub credits: u32,
    /// How many bytes may be under way to here from each dispatcher, unacknowledged; 0, or more than 64 MiB, stands for
    /// 64 MiB.
    pub window_bytes: u64,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// What the worker offers.
    pub services: Vec<ServiceOffer>,
    /// The signatures of the offered methods, by service and method.
    pub signatures: Vec<Vec<Signature>>,
}

/// What a worker knows of a method's signature beyond its offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The signature as people read it.
    pub text: String,
    /// Fingerprints of callers whose last arguments are missing and have defaults. (`PROTOCOL.md` §7)
    pub older: Vec<u64>,
}

impl From<String> for Signature {
    fn from(text: String) -> Self {
        Self { text, older: Vec::new() }
    }
}

impl WorkerConfig {
    /// How the worker introduces itself.
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

/// What a worker tells its owner.
#[derive(Debug, PartialEq)]
pub enum WorkerOutput {
    /// Connect to that dispatcher; answer with `handle_dialed` or `handle_disconnected`.
    Dial(Peer),
    /// End the connection to that dispatcher once what was sent is on its way.
    Hangup(Peer),
    /// The dispatcher has answered the introduction.
    Registered(Peer),
    /// The dispatcher is lost; it will be dialed again unless the worker leaves.
    Unregistered(Peer),
    /// Run a procedure; answer with `finish`, also when it is aborted.
    Start(Box<Start>),
    /// A partial reply of the procedure, with a payload of so many bytes, is on its way: there is room for another.
    PartialSent(Execution, usize),
    /// The procedure's outcome is no longer wanted: stop it if that is possible.
    Abort(Execution),
    /// The worker has left: nothing runs and nobody is connected.
    Left,
}

/// A request that is to be run.
#[derive(Debug, PartialEq)]
pub struct Start {
    /// What to call it in `finish` and `partial`.
    pub execution: Execution,
    /// The dispatcher that asks for it.
    pub peer: Peer,
    /// Where the service is in [`WorkerConfig::services`].
    pub service: usize,
    /// Where the method is in its service.
    pub method: usize,
    /// When it must have ended by.
    pub deadline: Instant,
    /// The largest payload that it may answer with, in bytes.
    pub reply_bytes_max: usize,
    /// The request as it came.
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
    /// Not at all: it was stopped on the way, because it had been aborted or its runtime has ended.
    Aborted,
    /// Not at all: it was never started, for the same reasons.
    NotStarted,
}

/// What a worker has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Requests that came in.
    pub requests: u64,
    /// Messages that could not be read: answered where they named a call, else dropped.
    pub malformed_messages: u64,
    /// Messages of a kind that this role or state does not take: dropped.
    pub unexpected_messages: u64,
    /// Dispatchers that fell silent.
    pub expired_leases: u64,
    /// Dials after the first one of each dispatcher.
    pub redials: u64,
    /// Outcomes whose caller had gone: dropped.
    pub unwanted_replies: u64,
}

/// Serves the requests of one or several dispatchers, each over one connection at a time.
///
/// A [`Peer`] here is one of the dispatchers that the worker was told to connect to. The poll order is the one of
/// [`Dispatcher`](super::dispatch::Dispatcher).
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    links: Links,
    /// The requests of each dispatcher that has answered and not been told goodbye.
    requests: BTreeMap<Peer, BTreeMap<CallId, Execution>>,
    executions: BTreeMap<Execution, Task>,
    /// Requests beyond the credits, when several dispatchers spend them at the same time.
    backlog: VecDeque<Execution>,
    running: usize,
    timers: TimerTable,
    outputs: VecDeque<WorkerOutput>,
    counters: WorkerCounters,
    sequence: u64,
    leaving: Leaving,
    /// When a drain must have ended.
    leave_by: Instant,
    /// Until when large answers may be on their way, or when the last small one was sent; `None` before any.
    sending_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Finishing what runs.
    Draining,
    /// Goodbye is said to everyone.
    Goodbye,
    Left,
}

#[derive(Debug)]
struct Task {
    /// Who waits for the outcome; `None` once nobody does.
    caller: Option<(Peer, CallId)>,
    partials: u32,
    /// Why it was aborted, if it was.
    aborted: Option<ErrorCode>,
    /// The request, until it is started.
    waiting: Option<Box<Start>>,
}

impl Worker {
    /// A worker that will connect to `dispatchers` many dispatchers, the peers 0, 1, 2 …
    pub fn new(now: Instant, config: WorkerConfig, dispatchers: u64) -> Self {
        let dials = (dispatchers, config.backoff, config.seed);
        Self {
            links: Links::dialing(now, config.introduction(), config.heartbeats, dials),
            config,
            requests: BTreeMap::new(),
            executions: BTreeMap::new(),
            backlog: VecDeque::new(),
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

    /// The connection asked for by [`WorkerOutput::Dial`] stands.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.links.handle_dialed(now, peer);
        self.settle(now);
    }

    /// The connection has ended, or could not be made.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.links.handle_disconnected(now, peer);
        self.settle(now);
    }

    /// Takes a message from a dispatcher.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: Message) {
        self.links.handle_message(now, from, message);
        self.settle(now);
    }

    /// Takes note of a message that could not be read, and answers it where it names a call.
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

    /// Does what is due.
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

    /// A procedure has ended.
    pub fn finish(&mut self, now: Instant, execution: Execution, finish: Finish) {
        let Some(task) = self.executions.remove(&execution) else { return };
        self.timers.stop(Timer::Overrun(execution));
        self.running -= usize::from(task.waiting.is_none());
        match task.caller {
            Some((peer, call)) => self.answer(now, peer, call, &task, finish),
            None => self.counters.unwanted_replies += 1,
        }
        self.start_waiting();
        self.settle(now);
    }

    /// A procedure has a partial reply; [`WorkerOutput::PartialSent`] follows when the dispatcher has room for it.
    /// `false` when nobody waits for it any more.
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

    /// Takes nothing new, finishes what runs, says goodbye; [`WorkerOutput::Left`] follows, at the latest when the
    /// drain timeout has passed.
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

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.links.poll_transmit()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.links.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to tell the owner.
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_front()
    }

    /// What has been counted so far.
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

    /// Procedures that run, and requests that wait to.
    pub fn executions(&self) -> usize {
        self.executions.len()
    }

    /// Whether nothing is kept: no connection, no execution, no timer, nothing to send.
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

    /// Acts on what the links report, and takes the next step of leaving.
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
            LinkEvent::Received(peer, message) => self.handle_received(now, peer, message),
            LinkEvent::PartialLeft(peer, call, bytes) => {
                let execution = self.requests.get(&peer).and_then(|requests| requests.get(&call));
                self.outputs.extend(execution.map(|execution| WorkerOutput::PartialSent(*execution, bytes)));
            }
            LinkEvent::Ended(peer, ..) => self.disown(peer),
            LinkEvent::Dial(peer) => self.outputs.push_back(WorkerOutput::Dial(peer)),
            LinkEvent::Disconnect(peer) => self.outputs.push_back(WorkerOutput::Hangup(peer)),
            LinkEvent::Draining(peer) => self.links.drop_unexpected(peer, "DRAIN, which dispatchers do not send"),
            LinkEvent::Room(_) => {}
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

    fn handle_received(&mut self, now: Instant, from: Peer, message: Message) {
        self.links.take(now, from, message.window_bytes());
        match message {
            Message::Request(request) => self.handle_request(now, from, request),
            Message::Cancel(call) => self.handle_cancel(now, from, call),
            _ => self.links.drop_unexpected(from, "a message of a kind that dispatchers do not send"),
        }
    }
}

/// The longest deadline that is kept track of; a request that asks for more has this long.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

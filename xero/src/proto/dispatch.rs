//! The dispatcher: routes calls to registered workers. A client that binds hosts one; so does a broker.

use std::{
    cmp::Ordering,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info, trace};
use uuid::Uuid;

use super::{
    calls::{Call, CallEnd, CallFailure, CallSpec, CallState, Calls},
    frame::{self, Limits, Malformed, TooLarge},
    liveness::{Heartbeats, Liveness},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Ready,
        Request, Role,
    },
    outbox::{Outbox, Transmit},
    registry::{LeastRecentlyUsed, Need, Registry, Route, WorkerChoice, WorkerEntry},
    retry::{Setback, may_retry},
    timer::{Timer, TimerTable},
};

/// The longest interval that is believed of a peer; with a longer one, the dead would be kept for too long.
pub const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The shortest interval that is believed of a peer.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// How long a closing dispatcher waits for its workers to take the goodbye.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// What a dispatcher is made with.
#[derive(Debug)]
pub struct DispatcherConfig {
    /// This life of the process.
    pub incarnation: Uuid,
    /// The dispatcher's own interval and liveness.
    pub heartbeats: Heartbeats,
    /// Sizes that are refused.
    pub limits: Limits,
    /// How many calls may wait for a worker before further ones fail as overloaded.
    pub waiting_max: usize,
    /// How often a call is tried in all.
    pub attempts_max: u8,
    /// Who is asked next.
    pub choice: Box<dyn WorkerChoice>,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            incarnation: Uuid::nil(),
            heartbeats: Heartbeats::default(),
            limits: Limits::default(),
            waiting_max: 10_000,
            attempts_max: 3,
            choice: Box::new(LeastRecentlyUsed),
        }
    }
}

/// What a dispatcher tells its owner.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// A partial reply of a call.
    Partial(CallId, Payload),
    /// A call has ended; nothing more comes of it.
    Ended(CallId, CallEnd),
    /// A worker has registered, or offers something new.
    WorkerJoined(Peer),
    /// A registered worker is gone.
    WorkerLeft(Peer, Departure),
    /// Nothing is to be received from that connection any more: end it once what was sent is on its way.
    Disconnect(Peer),
    /// The dispatcher has said goodbye to everyone.
    Closed,
}

/// Why a worker is no longer registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It said goodbye.
    Goodbye,
    /// Its connection ended.
    Disconnected,
    /// Its lease expired.
    Expired,
}

/// What a dispatcher has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatcherCounters {
    /// Replies to requests that the worker did not have: dropped.
    pub unsolicited_replies: u64,
    /// Replies that came after their call had ended, and partial replies that came again: dropped.
    pub late_replies: u64,
    /// Messages that could not be read: dropped.
    pub malformed_messages: u64,
    /// Messages of peers that are not registered: dropped, with their connection.
    pub unregistered_messages: u64,
    /// Messages of a kind that this role does not take: dropped.
    pub unexpected_messages: u64,
    /// Leases that expired.
    pub expired_leases: u64,
    /// Attempts after the first one.
    pub retries: u64,
}

/// Routes calls to registered workers.
///
/// After each `handle_*` or verb, poll [`Self::poll_output`] until it is empty; when nothing more is at hand, poll
/// [`Self::poll_transmit`] until it is empty, then do the disconnects that came as outputs, then wait for a message or
/// for [`Self::poll_timeout`]. Messages at hand are handled before timeouts, so that a process that was itself frozen
/// does not take its peers for dead.
#[derive(Debug)]
pub struct Dispatcher {
    config: DispatcherConfig,
    registry: Registry,
    calls: Calls,
    timers: TimerTable,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    counters: DispatcherCounters,
    closing: Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Goodbye is said; the workers' connections are not all gone yet.
    Leaving,
    Closed,
}

impl Dispatcher {
    /// A dispatcher without workers.
    pub fn new(config: DispatcherConfig) -> Self {
        Self {
            config,
            registry: Registry::default(),
            calls: Calls::default(),
            timers: TimerTable::default(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            counters: DispatcherCounters::default(),
            closing: Closing::No,
        }
    }

    /// Starts a call. It ends with exactly one [`Output::Ended`] unless it is cancelled.
    ///
    /// The id must not have been used before, in this life of the process or, as far as chance allows, in an earlier
    /// one: count from a random number. Waiting calls are served in the order of their ids.
    pub fn call(&mut self, now: Instant, id: CallId, spec: CallSpec) {
        if let Err(failure) = self.admit(&spec) {
            return self.outputs.push_back(Output::Ended(id, Err(failure)));
        }
        self.timers.set(Timer::Deadline(id), spec.deadline);
        self.calls.insert(id, spec);
        let is_sent = self.advance(now, id);
        let waiting = self.calls.waiting_count();
        if !is_sent && waiting > self.config.waiting_max {
            self.end(id, Err(CallFailure::Overloaded { waiting: waiting - 1 }));
        }
    }

    /// The owner cannot keep the call's partial replies any longer: they are not read. Ends the call.
    pub fn overflow(&mut self, now: Instant, id: CallId) {
        let received = match self.calls.get(id).map(|call| call.state) {
            Some(CallState::InFlight { partials, .. }) => partials,
            _ => 0,
        };
        self.give_up(now, id, CallFailure::PartialsUnread { received });
    }

    /// The caller no longer wants the call. Nothing more is told of it.
    pub fn cancel(&mut self, now: Instant, id: CallId) {
        if let Some(call) = self.take(id) {
            self.recall(now, id, &call);
        }
    }

    /// Says goodbye to every worker and ends every call. [`Output::Closed`] follows when the workers have gone, or
    /// after half a second.
    pub fn close(&mut self, now: Instant) {
        if self.closing != Closing::No {
            return;
        }
        self.closing = Closing::Leaving;
        for id in self.calls.ids() {
            let maybe_executed = self.calls.get(id).is_some_and(Call::maybe_executed);
            self.end(id, Err(CallFailure::Closed { maybe_executed }));
        }
        for peer in self.registry.iter().map(|(peer, _)| peer).collect::<Vec<_>>() {
            self.send(now, peer, Message::Goodbye);
        }
        self.timers.set(Timer::Leave, now + GOODBYE_GRACE);
        self.finish_closing();
    }

    /// Takes a message from a peer.
    pub fn handle_message(&mut self, now: Instant, from: Peer, message: Message) {
        let Some(worker) = self.registry.get_mut(from) else { return self.handle_stranger(now, from, message) };
        worker.liveness.received(now);
        match message {
            Message::Ready(ready) => self.handle_ready(now, from, ready),
            Message::Partial(reply) => self.handle_partial(now, from, reply),
            Message::Final(reply) => self.handle_final(now, from, reply),
            Message::Error(reply) => self.handle_error(now, from, reply),
            Message::Credit(credits) => {
                self.registry.set_credits(from, credits);
                self.outputs.push_back(Output::WorkerJoined(from));
                self.serve_waiting(now);
            }
            Message::Heartbeat => trace!(peer = from.0, "heartbeat"),
            Message::Drain => self.handle_drain(from),
            Message::Goodbye => self.handle_goodbye(now, from),
            Message::Request(_) | Message::Cancel(_) | Message::Event(_) | Message::Subscribe(_) => {
                self.counters.unexpected_messages += 1;
                debug!(peer = from.0, "dropped a message of a kind that workers do not send");
            }
        }
    }

    /// Takes note of a message that could not be read.
    pub fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        self.counters.malformed_messages += 1;
        debug!(peer = from.0, %malformed, "dropped a message that cannot be read");
        let Some(worker) = self.registry.get_mut(from) else { return self.turn_away(from, malformed.to_string()) };
        worker.liveness.received(now);
        let Some(id) = malformed.call.filter(|id| worker.in_flight.contains_key(id)) else { return };
        // A final reply is the worker's last word on the request; after a partial one, it is still at work.
        let is_over = malformed.ends_request();
        let reason = malformed.to_string();
        if is_over {
            self.registry.return_credit(from, id);
            self.end(id, Err(CallFailure::UnreadableReply { reason }));
            self.serve_waiting(now);
        } else {
            self.give_up(now, id, CallFailure::UnreadableReply { reason });
        }
    }

    /// A peer's connection has ended.
    pub fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.outbox.forget(peer);
        self.remove_worker(now, peer, Departure::Disconnected);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Heartbeat(peer) => self.heartbeat(now, peer),
                Timer::Lease(peer) => self.check_lease(now, peer),
                Timer::Deadline(id) => self.handle_deadline(now, id),
                Timer::Leave => self.finish_leaving(now),
                Timer::Dial(_) | Timer::Overrun(_) => {}
            }
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.poll()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next thing to tell the owner.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What has been counted so far.
    pub fn counters(&self) -> DispatcherCounters {
        self.counters
    }

    /// The registered workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.registry.iter().map(|(peer, entry)| WorkerStatus { peer, entry })
    }

    /// The services that live workers offer, sorted.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.registry.services().into_iter()
    }

    /// Whether nothing is kept: no call, no worker, no timer, nothing to send.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
            && self.registry.iter().next().is_none()
            && self.timers.is_empty()
            && self.outbox.is_empty()
            && self.outputs.is_empty()
    }

    fn admit(&self, spec: &CallSpec) -> Result<(), CallFailure> {
        if self.closing != Closing::No {
            return Err(CallFailure::Closed { maybe_executed: false });
        }
        let request = request_of(spec, CallId(0), 1, Duration::ZERO);
        frame::check(&Message::Request(request), &self.config.limits).map_err(CallFailure::TooLarge)
    }

    /// Sends a waiting call if somebody can take it; `false` when it goes on waiting.
    fn advance(&mut self, now: Instant, id: CallId) -> bool {
        let Some(call) = self.calls.get(id) else { return true };
        let spec = &call.spec;
        if spec.deadline <= now {
            self.handle_deadline(now, id);
            return true;
        }
        let need = Need {
            service: &spec.service,
            method: &spec.method,
            fingerprint: spec.fingerprint,
            avoid: call.refused_by,
        };
        let fail_fast = spec.fail_fast;
        match self.registry.route(&mut *self.config.choice, need) {
            Route::Worker { peer, idempotent } => self.send_request(now, id, peer, idempotent),
            Route::UnknownMethod => {
                let offered = self.registry.methods_of(&spec.service).into_iter().map(str::to_owned).collect();
                self.end_unsent(id, CallFailure::UnknownMethod { offered });
            }
            Route::NoWorker if fail_fast => {
                let offered = self.offered_services();
                self.end_unsent(id, CallFailure::NoWorker { offered });
            }
            Route::AllBusy if fail_fast => {
                let waiting = self.calls.waiting_count().saturating_sub(1);
                self.end_unsent(id, CallFailure::Overloaded { waiting });
            }
            Route::NoWorker | Route::AllBusy => return false,
        }
        true
    }

    fn send_request(&mut self, now: Instant, id: CallId, peer: Peer, idempotent: bool) {
        let worker_max = self.registry.get(peer).map_or(u64::MAX, |worker| worker.payload_bytes_max);
        let Some(call) = self.calls.send(id, peer) else { return };
        call.spec.idempotent |= idempotent;
        let size = call.spec.payload.bytes.len();
        if size as u64 > worker_max {
            let limit = usize::try_from(worker_max).unwrap_or(usize::MAX);
            let too_large = TooLarge { what: "payload for this worker", size, limit, setter: "payload_bytes_max" };
            return self.end_unsent(id, CallFailure::TooLarge(too_large));
        }
        if call.attempts > 1 {
            self.counters.retries += 1;
        }
        let remaining = call.spec.deadline.saturating_duration_since(now);
        let request = request_of(&call.spec, id, call.attempts, remaining);
        self.registry.take_credit(peer, id);
        self.send(now, peer, Message::Request(request));
    }

    /// Ends a call whose request cannot be sent. That hides no earlier attempt, which may have run.
    fn end_unsent(&mut self, id: CallId, failure: CallFailure) {
        let failure = match self.calls.get(id) {
            Some(Call { maybe_executed: true, attempts, .. }) => {
                CallFailure::WorkerLost { maybe_executed: true, attempts: *attempts }
            }
            _ => failure,
        };
        self.end(id, Err(failure));
    }

    /// Sends waiting calls, oldest first, while somebody can take them.
    fn serve_waiting(&mut self, now: Instant) {
        let mut blocked = Vec::new();
        while let Some(id) = self.calls.oldest_waiting(&blocked) {
            if !self.advance(now, id)
                && let Some(call) = self.calls.get(id)
            {
                blocked.push(call.route());
            }
        }
    }

    fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Ready(ready) if ready.role == Role::Worker && self.closing == Closing::No => {
                self.handle_ready(now, from, ready);
            }
            Message::Ready(ready) if ready.role == Role::Worker => self.turn_away(from, "closing".to_owned()),
            Message::Ready(ready) => {
                self.turn_away(from, format!("a {:?} has connected where workers are expected", ready.role));
            }
            _ => {
                self.counters.unregistered_messages += 1;
                self.outputs.push_back(Output::Disconnect(from));
            }
        }
    }

    /// Tells a peer that cannot be registered why, and lets it go.
    fn turn_away(&mut self, from: Peer, detail: String) {
        info!(peer = from.0, detail, "turned a peer away");
        let (call, code, payload) = (CallId(0), ErrorCode::Malformed, Payload::default());
        let error = ErrorReply { call, partials: 0, code, maybe_executed: false, detail, payload };
        self.outbox.push(from, Message::Error(error));
        self.outputs.push_back(Output::Disconnect(from));
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: Ready) {
        let interval = ready.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let heartbeats = self.config.heartbeats;
        let liveness = Liveness::new(now, heartbeats.interval, heartbeats.expiry(interval));
        info!(peer = from.0, incarnation = %ready.incarnation, credits = ready.credits, "worker registered");
        if ready.capabilities.contains(Capabilities::BATCH) {
            self.outbox.allow_batches(from, ready.payload_bytes_max);
        }
        self.registry.register(now, from, ready, liveness);
        self.timers.set(Timer::Lease(from), liveness.expires_at());
        self.timers.set(Timer::Heartbeat(from), liveness.heartbeat_at());
        self.send(now, from, Message::Ready(self.introduction()));
        self.outputs.push_back(Output::WorkerJoined(from));
        self.serve_waiting(now);
    }

    fn introduction(&self) -> Ready {
        Ready {
            role: Role::Dispatcher,
            incarnation: self.config.incarnation,
            capabilities: Capabilities::BATCH,
            interval: self.config.heartbeats.interval,
            payload_bytes_max: self.config.limits.payload_bytes_max as u64,
            credits: 0,
            window_bytes: 0,
            codecs: Codec::ALL.to_vec(),
            services: Vec::new(),
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
                *partials += 1;
                self.outputs.push_back(Output::Partial(reply.call, reply.payload));
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
            Some(false) => self.counters.late_replies += 1,
            None => self.counters.unsolicited_replies += 1,
        }
        self.serve_waiting(now);
    }

    fn handle_error(&mut self, now: Instant, from: Peer, reply: ErrorReply) {
        match self.registry.return_credit(from, reply.call) {
            Some(true) => self.end_with_error(now, from, reply),
            Some(false) => self.counters.late_replies += 1,
            None => self.counters.unsolicited_replies += 1,
        }
        self.serve_waiting(now);
    }

    fn end_with_error(&mut self, now: Instant, from: Peer, reply: ErrorReply) {
        let id = reply.call;
        let maybe_executed = reply.maybe_executed || self.calls.get(id).is_some_and(|call| call.maybe_executed);
        let setback = match reply.maybe_executed {
            true => Setback::MaybeExecuted,
            false => Setback::NotStarted,
        };
        match reply.code {
            ErrorCode::Refused | ErrorCode::Overloaded => self.set_back(now, id, from, setback, reply),
            ErrorCode::DeadlineExceeded => self.end(id, Err(CallFailure::DeadlineExceeded { maybe_executed })),
            _ => self.end(id, Err(CallFailure::Remote(ErrorReply { maybe_executed, ..reply }))),
        }
    }

    /// An attempt came to nothing with the worker still there: try elsewhere, or end the call with what was said.
    fn set_back(&mut self, now: Instant, id: CallId, from: Peer, setback: Setback, reply: ErrorReply) {
        let attempts_max = self.config.attempts_max;
        let Some(call) = self.calls.get_mut(id) else { return };
        call.maybe_executed |= setback == Setback::MaybeExecuted;
        if may_retry(setback, call.spec.idempotent, call.attempts, attempts_max) && self.closing == Closing::No {
            call.refused_by = Some(from);
            self.calls.wait(id);
            self.advance(now, id);
        } else {
            let maybe_executed = call.maybe_executed;
            self.end(id, Err(CallFailure::Remote(ErrorReply { maybe_executed, ..reply })));
        }
    }

    fn check_partials(&self, id: CallId, sent: u32) -> Result<(), CallFailure> {
        match self.calls.get(id).map(|call| call.state) {
            Some(CallState::InFlight { partials, .. }) if partials != sent => {
                Err(CallFailure::PartialsLost { sent, received: partials })
            }
            _ => Ok(()),
        }
    }

    fn count_stray(&mut self, from: Peer, id: CallId) {
        match self.registry.get(from).is_some_and(|worker| worker.in_flight.contains_key(&id)) {
            true => self.counters.late_replies += 1,
            false => self.counters.unsolicited_replies += 1,
        }
    }

    fn handle_drain(&mut self, from: Peer) {
        info!(peer = from.0, "worker drains");
        self.registry.set_draining(from);
    }

    fn handle_goodbye(&mut self, now: Instant, from: Peer) {
        self.outputs.push_back(Output::Disconnect(from));
        self.remove_worker(now, from, Departure::Goodbye);
    }

    fn remove_worker(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let Some(worker) = self.registry.remove(peer) else { return };
        info!(peer = peer.0, ?departure, in_flight = worker.in_flight.len(), "worker left");
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        self.outbox.forget(peer);
        self.outputs.push_back(Output::WorkerLeft(peer, departure));
        // A worker that drains ends what it has read before it says goodbye; the rest it has not read (§10).
        let setback = match departure == Departure::Goodbye && worker.draining {
            true => Setback::NotStarted,
            false => Setback::MaybeExecuted,
        };
        for (id, wanted) in worker.in_flight {
            if wanted {
                self.lose_worker_of(now, id, setback);
            }
        }
        self.finish_closing();
    }

    fn lose_worker_of(&mut self, now: Instant, id: CallId, setback: Setback) {
        let attempts_max = self.config.attempts_max;
        let Some(call) = self.calls.get_mut(id) else { return };
        call.maybe_executed |= setback == Setback::MaybeExecuted;
        let (attempts, maybe_executed) = (call.attempts, call.maybe_executed);
        let may_retry = may_retry(setback, call.spec.idempotent, attempts, attempts_max);
        if may_retry && self.closing == Closing::No {
            self.calls.wait(id);
            self.advance(now, id);
        } else {
            self.end(id, Err(CallFailure::WorkerLost { maybe_executed, attempts }));
        }
    }

    fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let Some(worker) = self.registry.get(peer) else { return };
        // Nothing follows a goodbye. A timer that is set again without anything sent would be due at once, for ever.
        if self.closing != Closing::No {
            return;
        }
        if worker.liveness.heartbeat_at() <= now {
            self.send(now, peer, Message::Heartbeat);
        }
        if let Some(worker) = self.registry.get(peer) {
            self.timers.set(Timer::Heartbeat(peer), worker.liveness.heartbeat_at());
        }
    }

    fn check_lease(&mut self, now: Instant, peer: Peer) {
        let Some(worker) = self.registry.get(peer) else { return };
        let expires_at = worker.liveness.expires_at();
        if expires_at > now {
            return self.timers.set(Timer::Lease(peer), expires_at);
        }
        self.counters.expired_leases += 1;
        self.outputs.push_back(Output::Disconnect(peer));
        self.remove_worker(now, peer, Departure::Expired);
    }

    fn handle_deadline(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let maybe_executed = call.maybe_executed();
        let offered = self.offered_services();
        let failure = match offered.iter().any(|service| **service == *call.spec.service) {
            false if !maybe_executed => CallFailure::NoWorker { offered },
            _ => CallFailure::DeadlineExceeded { maybe_executed },
        };
        self.give_up(now, id, failure);
    }

    /// Ends a call that a worker may still be at work on.
    fn give_up(&mut self, now: Instant, id: CallId, failure: CallFailure) {
        if let Some(call) = self.take(id) {
            self.recall(now, id, &call);
            self.outputs.push_back(Output::Ended(id, Err(failure)));
        }
    }

    /// Asks the worker to stop working on a call that has ended.
    fn recall(&mut self, now: Instant, id: CallId, call: &Call) {
        if let CallState::InFlight { worker, .. } = call.state {
            self.registry.abandon(worker, id);
            self.send(now, worker, Message::Cancel(id));
        }
    }

    fn end(&mut self, id: CallId, end: CallEnd) {
        if self.take(id).is_some() {
            self.outputs.push_back(Output::Ended(id, end));
        }
    }

    fn take(&mut self, id: CallId) -> Option<Call> {
        self.timers.stop(Timer::Deadline(id));
        self.calls.remove(id)
    }

    fn send(&mut self, now: Instant, to: Peer, message: Message) {
        // Nothing follows a goodbye (`PROTOCOL.md` §10).
        if self.closing != Closing::No && !matches!(message, Message::Goodbye) {
            return;
        }
        if let Some(worker) = self.registry.get_mut(to) {
            worker.liveness.sent(now);
            self.outbox.push(to, message);
        }
    }

    fn offered_services(&self) -> Vec<String> {
        self.registry.services().into_iter().map(str::to_owned).collect()
    }

    fn finish_leaving(&mut self, now: Instant) {
        for peer in self.registry.iter().map(|(peer, _)| peer).collect::<Vec<_>>() {
            self.outputs.push_back(Output::Disconnect(peer));
            self.remove_worker(now, peer, Departure::Goodbye);
        }
        self.finish_closing();
    }

    fn finish_closing(&mut self) {
        if self.closing == Closing::Leaving && self.registry.iter().next().is_none() {
            self.closing = Closing::Closed;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(Output::Closed);
        }
    }
}

/// A registered worker, as its dispatcher sees it.
#[derive(Debug)]
pub struct WorkerStatus<'a> {
    /// Its connection.
    pub peer: Peer,
    entry: &'a WorkerEntry,
}

impl WorkerStatus<'_> {
    /// This life of the worker's process.
    pub fn incarnation(&self) -> Uuid {
        self.entry.incarnation
    }

    /// When it registered.
    pub fn registered_at(&self) -> Instant {
        self.entry.registered_at
    }

    /// Whether it takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.entry.draining
    }

    /// The requests it has.
    pub fn in_flight(&self) -> usize {
        self.entry.in_flight.len()
    }

    /// The requests it takes at once.
    pub fn credits(&self) -> u32 {
        self.entry.credits()
    }

    /// The services it offers, sorted.
    pub fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entry.services()
    }
}

fn request_of(spec: &CallSpec, call: CallId, attempt: u8, remaining: Duration) -> Request {
    Request {
        call,
        attempt,
        idempotent: spec.idempotent,
        service: Arc::clone(&spec.service),
        method: Arc::clone(&spec.method),
        fingerprint: spec.fingerprint,
        remaining,
        metadata: spec.metadata.clone(),
        payload: spec.payload.clone(),
    }
}

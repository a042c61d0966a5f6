//! The life of a call: placed with a worker or in a line, attempted, set back, ended.

mod workers;

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    DispatcherConfig, Output,
    attempts::Attempts,
    changes::Changes,
    placement::{Placement, Prospects, Start, is_hopeless},
};
use crate::proto::{
    calls::{Call, CallEnd, CallFailure, CallSpec, CallState, WaitPolicy},
    exits::Exits,
    fault::{Fault, count_step, planted},
    frame::{self, Limits, Malformed, OfferRoom, TooLarge},
    hold::Receipt,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, Names, PartialReply, Peer},
    registry::{Outlook, Registry, Route},
    retry::{Cost, Setback},
    timer::{EXPIRY_BOUND, Timer, TimerTable},
};

/// The calls of a dispatcher and the workers that may take them.
#[derive(Debug)]
pub(super) struct Router {
    placement: Placement,
    /// Deadlines and back-offs of calls.
    timers: TimerTable,
    attempts: Attempts,
    changes: Changes,
    limits: Limits,
    waiting_max: usize,
    /// Whether its workers are brokers, of which another may have what one lacks.
    asks_brokers: bool,
    /// Zero, unless a fault is planted.
    lateness: Duration,
    /// Where waiting calls are served once the expired ones have ended.
    unserved: BTreeSet<Start>,
    /// When waiting calls follow changed offers again.
    follows_at: Option<Instant>,
    /// The receipt of the current message, unless the owner has it.
    receipt: Receipt,
    counters: RouterCounters,
}

/// The counters of a dispatcher's calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RouterCounters {
    /// Replies to requests that the worker did not have.
    pub(super) unsolicited_replies: u64,
    /// Replies after the end of their call, and repeated partial replies.
    pub(super) late_replies: u64,
    /// Attempts after the first one.
    pub(super) retries: u64,
    /// Attempts that the spent retry budget prevented.
    pub(super) retries_over_budget: u64,
    /// Choices of the policy that were not candidates.
    pub(super) stray_choices: u64,
}

impl Router {
    pub(super) fn new(config: DispatcherConfig, asks_brokers: bool) -> Self {
        let DispatcherConfig { seed, heartbeats, limits, offers_bytes_max, waiting_max, retry, choice, .. } = config;
        // Brokers are few, and chosen by the user.
        let offers_max = if asks_brokers { u64::MAX } else { offers_bytes_max };
        Self {
            placement: Placement::new(Registry::new(&limits, offers_max), choice),
            timers: TimerTable::default(),
            attempts: Attempts::new(retry, seed),
            changes: Changes::new(OfferRoom::of(&limits), offers_max),
            limits,
            waiting_max,
            asks_brokers,
            lateness: if planted(Fault::DeadlineLate) { heartbeats.interval } else { Duration::ZERO },
            unserved: BTreeSet::new(),
            follows_at: None,
            receipt: Receipt::NONE,
            counters: RouterCounters::default(),
        }
    }

    /// Starts to handle a message: its receipt goes to the owner with the first reply that is reported.
    pub(super) fn begin(&mut self, receipt: Receipt) {
        self.receipt = receipt;
    }

    /// Takes the receipt of the current message.
    pub(super) fn take_receipt(&mut self) -> Receipt {
        std::mem::replace(&mut self.receipt, Receipt::NONE)
    }

    /// Adds a call, which begins with [`Self::start`]; `false` if it has ended at once.
    pub(super) fn add(&mut self, exits: &mut Exits<Output>, id: CallId, spec: CallSpec) -> bool {
        let CallSpec { service, method, metadata, payload, .. } = &spec;
        if let Err(limit) = frame::check_request(service, method, metadata, payload.bytes.len(), &self.limits) {
            exits.report(Output::Ended(id, Err(CallFailure::TooLarge(limit)), Receipt::NONE));
            return false;
        }
        let deadline_at = spec.deadline + self.lateness;
        self.timers.arm(Timer::Deadline(id), deadline_at);
        self.placement.calls_mut().insert(id, spec, deadline_at);
        true
    }

    /// Starts a call: sends it to a worker, or puts it in line. One that was stopped has its place there.
    pub(super) fn start(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId) {
        let is_new = self.get(id).is_some_and(|call| !call.has_waited);
        if is_new {
            self.attempts.note_call();
        }
        if self.advance(now, exits, id) {
            return;
        }
        if let Some(call) = self.get_mut(id) {
            call.has_waited = true;
        }
        self.placement.enqueue(id);
        let waiting = self.placement.calls().waiting_count();
        if waiting > self.waiting_max && is_new {
            let failure = CallFailure::Overloaded { waiting: waiting - 1, waiting_max: Some(self.waiting_max) };
            self.end_unsent(exits, self.placement.calls().crowding(id), failure);
        }
    }

    /// Takes a waiting call out of its line, until [`Self::start`]; `false` if it does not wait.
    pub(super) fn stop(&mut self, id: CallId) -> bool {
        let is_waiting = self.get(id).is_some_and(Call::is_waiting);
        if is_waiting {
            self.placement.dequeue(id);
        }
        is_waiting
    }

    /// Ends a call that a worker may still run.
    pub(super) fn abandon(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId, failure: CallFailure) {
        if self.cancel(now, exits, id) {
            self.report_end(exits, id, Err(failure));
        }
    }

    /// Ends a call without a report; `false` if it has ended.
    pub(super) fn cancel(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId) -> bool {
        let Some(state) = self.remove(id) else { return false };
        if let CallState::InFlight { worker, .. } = state {
            self.placement.registry.abandon(worker, id);
            if !planted(Fault::CancelDropped) {
                exits.links.send(now, worker, Message::Cancel(id));
            }
        }
        true
    }

    /// Ends all calls, or those that are with no worker.
    pub(super) fn close(&mut self, exits: &mut Exits<Output>, which: Which) {
        for id in self.placement.calls().ids() {
            let Some(call) = self.get(id) else { continue };
            if which == Which::All || !call.is_in_flight() {
                let maybe_executed = call.maybe_executed();
                self.end(exits, id, Err(CallFailure::Closed { maybe_executed }));
            }
        }
    }

    pub(super) fn handle_partial(&mut self, now: Instant, exits: &mut Exits<Output>, from: Peer, reply: PartialReply) {
        let id = reply.call;
        let Some(partials) = self.get_mut(id).and_then(|call| call.partials_from(from)) else {
            return match self.has_request(from, id) {
                true => self.counters.late_replies += 1,
                false => self.counters.unsolicited_replies += 1,
            };
        };
        match reply.sequence.cmp(partials) {
            Ordering::Equal => {
                *partials = partials.saturating_add(1);
                if !planted(Fault::PartialLost) {
                    let receipt = self.take_receipt();
                    exits.report(Output::Partial(id, reply.payload, receipt));
                }
            }
            Ordering::Less => self.counters.late_replies += 1,
            Ordering::Greater => {
                let (sent, received) = (reply.sequence.saturating_add(1), *partials);
                self.abandon(now, exits, id, CallFailure::PartialsLost { sent, received });
            }
        }
    }

    pub(super) fn handle_final(&mut self, now: Instant, exits: &mut Exits<Output>, from: Peer, reply: FinalReply) {
        match self.placement.registry.return_credit(from, reply.call) {
            Some(true) => {
                let received = self.get(reply.call).map_or(0, Call::partials);
                let end = match reply.partials == received {
                    true => Ok(reply.payload),
                    false => Err(CallFailure::PartialsLost { sent: reply.partials, received }),
                };
                self.end(exits, reply.call, end);
            }
            Some(false) if planted(Fault::StaleReplyAccepted) => {
                exits.report(Output::Ended(reply.call, Ok(reply.payload), Receipt::NONE));
            }
            Some(false) => self.counters.late_replies += 1,
            None if planted(Fault::UnsolicitedAccepted) => self.end(exits, reply.call, Ok(reply.payload)),
            None => self.counters.unsolicited_replies += 1,
        }
        self.finish_reply(now, exits, from);
    }

    pub(super) fn handle_error(&mut self, now: Instant, exits: &mut Exits<Output>, from: Peer, mut reply: ErrorReply) {
        if reply.code.is_of_broker() && !self.asks_brokers {
            reply.detail = format!("the worker has answered with code {}, which only brokers send", reply.code as u8);
            reply.code = ErrorCode::Malformed;
        }
        match self.placement.registry.return_credit(from, reply.call) {
            Some(true) => {
                // Whoever sends partial replies has started, whatever it says.
                reply.maybe_executed |= self.get(reply.call).is_some_and(Call::has_begun);
                self.end_with_error(now, exits, from, reply);
            }
            Some(false) => self.counters.late_replies += 1,
            None => self.counters.unsolicited_replies += 1,
        }
        self.finish_reply(now, exits, from);
    }

    pub(super) fn handle_unreadable(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        from: Peer,
        malformed: &Malformed,
    ) {
        let Some(id) = malformed.call.filter(|id| self.has_request(from, *id)) else { return };
        let failure = CallFailure::UnreadableReply { reason: malformed.to_string() };
        // A final reply ends the request at the worker; after a partial one, the worker still runs it.
        if malformed.ends_request() {
            self.placement.registry.return_credit(from, id);
            self.end(exits, id, Err(failure));
            self.serve_waiting(now, exits, from);
        } else {
            self.abandon(now, exits, id, failure);
        }
    }

    /// Serves calls that wait where others had expired; for when no timer is due.
    pub(super) fn serve_unserved(&mut self, now: Instant, exits: &mut Exits<Output>) {
        for start in std::mem::take(&mut self.unserved) {
            self.serve(now, exits, start);
        }
    }

    /// Notes that what the turn has written is on its way.
    pub(super) fn end_turn(&mut self) {
        self.placement.registry.end_turn();
    }

    /// Handles one timer of a call that was due by then; `false` if there is none.
    pub(super) fn handle_timeout(&mut self, now: Instant, by: Instant, exits: &mut Exits<Output>) -> bool {
        match self.timers.expire(by) {
            Some(Timer::Deadline(id)) => self.handle_deadline(now, exits, id),
            Some(Timer::Retry(id)) => self.retry(now, exits, id),
            Some(_) => {}
            None => return false,
        }
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let follows_at = self.follows_at.filter(|_| self.placement.is_behind());
        [self.timers.next(), self.changes.due_at(), follows_at].into_iter().flatten().min()
    }

    /// Treats every request in flight as lost with its worker.
    pub(super) fn retry_all(&mut self, now: Instant, exits: &mut Exits<Output>) {
        let in_flight = self.placement.registry.iter().flat_map(|(_, worker)| worker.requests());
        for (id, _) in in_flight.collect::<Vec<_>>() {
            self.lose_worker_of(now, exits, id, Setback::MaybeExecuted);
        }
    }

    pub(super) fn counters(&self) -> RouterCounters {
        let (retries_over_budget, stray_choices) =
            (self.attempts.over_budget(), self.placement.registry.stray_choices());
        RouterCounters { retries_over_budget, stray_choices, ..self.counters }
    }

    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        self.placement.calls().get(id)
    }

    /// What the end of a worker concerns: methods and requests.
    pub(super) fn weight(&self, peer: Peer) -> usize {
        let worker = self.placement.registry.get(peer);
        worker.map_or(0, |worker| worker.method_count() + worker.in_flight.len())
    }

    pub(super) fn workers(&self) -> &Registry {
        &self.placement.registry
    }

    #[cfg(test)]
    pub(super) fn waiting_places(&self) -> usize {
        self.placement.calls().waiting_places()
    }

    /// Whether no call is open.
    pub(super) fn is_idle(&self) -> bool {
        self.placement.calls().len() == 0
    }

    /// Whether there is no call, worker or timer.
    pub(super) fn is_empty(&self) -> bool {
        self.is_idle() && self.placement.registry.keeps_nothing() && self.timers.is_empty() && self.changes.is_empty()
    }

    /// Sends an unplaced call if a worker can take it; `false` if it must wait, or wait on.
    fn advance(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId) -> bool {
        let Some(call) = self.get(id) else { return true };
        if call.spec.deadline <= now {
            self.handle_deadline(now, exits, id);
            return true;
        }
        let policy = call.spec.wait_policy;
        let is_full = |peer| exits.links.is_window_full(peer);
        let Some(route) = self.placement.route(id, &is_full) else { return true };
        match route {
            Route::Worker { peer, idempotent } => self.send_request(now, exits, id, peer, idempotent),
            Route::AllBusy if policy == WaitPolicy::Never => {
                let waiting = self.placement.calls().waiting_count();
                self.end_unsent(exits, id, CallFailure::Overloaded { waiting, waiting_max: None });
            }
            Route::Nobody(outlook) if is_hopeless(&outlook, policy) => self.end_hopeless(exits, id, outlook),
            Route::AllBusy | Route::Nobody(_) => return false,
        }
        true
    }

    fn send_request(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId, peer: Peer, idempotent: bool) {
        let Some(call) = self.placement.assign(id, peer, idempotent) else { return };
        if call.has_waited {
            exits.report(Output::Forwarded(id));
        }
        let request = call.request(id, now);
        self.counters.retries += u64::from(call.attempts > 1);
        self.placement.registry.take_credit(peer, id);
        self.placement.registry.note_written(peer);
        exits.links.send(now, peer, Message::Request(request));
        if exits.links.is_clogged(peer) {
            self.placement.registry.set_clogged(peer, true);
        }
    }

    /// Sends waiting calls to a worker with new free credit or room in its window, and to those like it: owners take
    /// turns, each one's oldest call first.
    pub(super) fn serve_waiting(&mut self, now: Instant, exits: &mut Exits<Output>, worker: Peer) {
        if let Some(pool) = self.placement.registry.pool_of(worker) {
            self.serve(now, exits, Start::Pool(pool));
        }
    }

    /// Sends the calls that wait there and that a worker can take. Returns how many queues and calls it has looked at.
    fn serve(&mut self, now: Instant, exits: &mut Exits<Output>, start: Start) -> usize {
        if self.placement.calls().waiting_count() == 0 || planted(Fault::WaitingNotServed) {
            return 0;
        }
        if planted(Fault::EverybodyWalked) {
            for id in self.placement.calls().ids() {
                if self.get(id).is_some_and(Call::is_waiting) {
                    count_step();
                    self.advance(now, exits, id);
                }
            }
            return 0;
        }
        let mut walk = self.placement.walk_from(&start);
        let mut expired = 0;
        loop {
            let is_full = |peer| exits.links.is_window_full(peer);
            let Some(step) = self.placement.next(&mut walk, &is_full) else { return walk.looks };
            // A line may stand in several of the queues, so its call may have gone already.
            let waiting = self.get(step.call()).filter(|call| call.is_waiting());
            let Some((owner, deadline)) = waiting.map(|call| (call.spec.owner, call.spec.deadline)) else {
                self.placement.go_on(&mut walk, step, true);
                continue;
            };
            count_step();
            expired += usize::from(deadline <= now);
            if expired > EXPIRED_MAX && !planted(Fault::ExpiriesUnbounded) {
                self.unserved.insert(start);
                return walk.looks;
            }
            // If not, no worker has room for it, or the policy chooses none: a line behind it may still be served.
            let has_gone = self.advance(now, exits, step.call());
            if has_gone {
                self.placement.calls_mut().note_served(owner);
            }
            self.placement.go_on(&mut walk, step, !has_gone);
        }
    }

    /// Follows changed offers that are still to be followed.
    pub(super) fn follow_changes(&mut self, now: Instant, exits: &mut Exits<Output>) {
        if self.placement.is_behind() {
            self.follow_offers(now, exits);
        }
    }

    /// Sends the waiting calls that changed offers let a worker take, and ends those that no worker can take any more.
    ///
    /// Offers that change fast while many calls wait are followed a little later: until then, calls wait where they did.
    /// The pause is in proportion to the cost.
    fn follow_offers(&mut self, now: Instant, exits: &mut Exits<Output>) -> usize {
        if self.follows_at.is_some_and(|at| at > now) {
            return 0;
        }
        let Prospects { stations, looks } = self.placement.follow_offers(LOOKS_MAX);
        let ended = self.end_hopeless_calls(now, exits);
        let walked = if stations.is_empty() { 0 } else { self.serve(now, exits, Start::Stations(stations)) };
        let looks = looks + END_LOOKS * ended + walked;
        let has_cost = looks >= LOOKS_MAX / 8 || self.placement.is_behind();
        self.follows_at = has_cost.then(|| now + (PRICE * looks as u32).min(PAUSE_MAX));
        looks
    }

    /// Ends a bounded number of calls that no worker can take any more. Returns how many it has looked at.
    fn end_hopeless_calls(&mut self, now: Instant, exits: &mut Exits<Output>) -> usize {
        let mut count = 0;
        while count < EXPIRY_BOUND {
            let calls = self.placement.next_hopeless(EXPIRY_BOUND - count);
            if calls.is_empty() {
                break;
            }
            count += calls.len();
            for id in calls.into_iter().flatten() {
                self.advance(now, exits, id);
            }
        }
        count
    }

    /// Acknowledges a reply that the owner did not get, and uses the credit that is free again.
    fn finish_reply(&mut self, now: Instant, exits: &mut Exits<Output>, worker: Peer) {
        let receipt = self.take_receipt();
        exits.links.release(now, receipt);
        self.serve_waiting(now, exits, worker);
    }

    fn end_with_error(&mut self, now: Instant, exits: &mut Exits<Output>, from: Peer, reply: ErrorReply) {
        let id = reply.call;
        let Some(call) = self.get(id) else { return };
        let is_elsewhere = || self.placement.registry.is_offered_beside(from, &call.spec.service, &call.spec.method);
        let may_go_on = match reply.code {
            ErrorCode::Refused | ErrorCode::Overloaded => true,
            // The broker has lost its last worker for the service, and announced that before: another broker, or
            // waiting, helps.
            ErrorCode::NoWorker => self.asks_brokers && call.spec.wait_policy != WaitPolicy::Never,
            // It no longer has the method or the service, but another one has.
            ErrorCode::UnknownMethod | ErrorCode::UnknownService => !reply.maybe_executed && is_elsewhere(),
            _ => false,
        };
        let maybe_executed = reply.maybe_executed || call.maybe_executed;
        match reply.code {
            _ if may_go_on => self.set_back(now, exits, from, reply),
            ErrorCode::DeadlineExceeded => self.end(exits, id, Err(CallFailure::DeadlineExceeded { maybe_executed })),
            // The worker's word on its own attempt hides no earlier attempt, which may have run.
            _ if !reply.maybe_executed => self.end_unsent(exits, id, CallFailure::Remote(reply)),
            _ => self.end(exits, id, Err(CallFailure::Remote(reply))),
        }
    }

    /// Handles a failed attempt whose worker still lives: tries elsewhere, or ends the call with the worker's error.
    fn set_back(&mut self, now: Instant, exits: &mut Exits<Output>, from: Peer, reply: ErrorReply) {
        let id = reply.call;
        let setback = if reply.maybe_executed { Setback::MaybeExecuted } else { Setback::NotStarted };
        let is_leaving = self.placement.registry.get(from).is_none_or(|worker| worker.draining);
        let cost = match (setback, reply.code) {
            (Setback::NotStarted, _) if is_leaving => Cost::Nothing,
            // It had announced that before; one that has not could cause requests without end.
            (Setback::NotStarted, ErrorCode::NoWorker | ErrorCode::UnknownMethod | ErrorCode::UnknownService)
                if !self.is_offered_by(from, id) =>
            {
                Cost::Time
            }
            _ => Cost::Attempt,
        };
        let Some(call) = self.placement.calls_mut().get_mut(id) else { return };
        match self.attempts.next(call, setback, cost) {
            Some(backoff) => {
                call.refused_by = Some(from);
                self.attempt_again(now, exits, id, backoff);
            }
            None => {
                let maybe_executed = call.maybe_executed;
                self.end(exits, id, Err(CallFailure::Remote(ErrorReply { maybe_executed, ..reply })));
            }
        }
    }

    fn lose_worker_of(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId, setback: Setback) {
        let Some(call) = self.placement.calls_mut().get_mut(id) else { return };
        let setback = if call.has_begun() { Setback::MaybeExecuted } else { setback };
        let cost = if setback == Setback::NotStarted { Cost::Nothing } else { Cost::Attempt };
        match self.attempts.next(call, setback, cost) {
            Some(backoff) => self.attempt_again(now, exits, id, backoff),
            None => {
                let (attempts, maybe_executed) = (call.attempts, call.maybe_executed);
                self.end(exits, id, Err(CallFailure::WorkerLost { maybe_executed, attempts }));
            }
        }
    }

    /// After the back-off, sends the call to a worker or puts it in line.
    fn attempt_again(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId, backoff: Duration) {
        if backoff.is_zero() {
            return self.retry(now, exits, id);
        }
        let until = now + backoff;
        if let Some(call) = self.get_mut(id) {
            call.state = CallState::BackingOff { until };
            self.timers.arm(Timer::Retry(id), until);
        }
    }

    fn retry(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId) {
        let Some(call) = self.get_mut(id) else { return };
        call.state = CallState::Unplaced;
        if !self.advance(now, exits, id) {
            self.placement.enqueue(id);
        }
    }

    fn handle_deadline(&mut self, now: Instant, exits: &mut Exits<Output>, id: CallId) {
        let Some(call) = self.get(id) else { return };
        let maybe_executed = call.maybe_executed();
        let failure = match self.placement.registry.is_offered(&call.spec.service) {
            // Its worker is gone, and no other came: that says more than a passed deadline.
            _ if call.maybe_executed && !call.is_in_flight() => {
                CallFailure::WorkerLost { maybe_executed, attempts: call.attempts }
            }
            false if !maybe_executed => {
                let offered = self.placement.registry.service_names();
                self.no_worker(offered)
            }
            _ => CallFailure::DeadlineExceeded { maybe_executed },
        };
        self.abandon(now, exits, id, failure);
    }

    /// Ends a call that no worker can take, now or later.
    fn end_hopeless(&mut self, exits: &mut Exits<Output>, id: CallId, outlook: Outlook) {
        let Some(call) = self.get(id) else { return };
        let (service, codec) = (Arc::clone(&call.spec.service), call.spec.payload.codec);
        let size = call.spec.payload.bytes.len();
        let (maybe_executed, goes_back) = (call.maybe_executed, call.spec.wait_policy == WaitPolicy::WhileOffered);
        // A call that a worker could once take is not at fault, and may find a worker elsewhere.
        let is_new = call.attempts == 0 && !call.has_waited;
        let offered = match outlook {
            Outlook::NoMethod => self.placement.registry.method_names(&service),
            _ => self.placement.registry.service_names(),
        };
        match outlook {
            Outlook::NoCodec(read) => self.end_unsent(exits, id, CallFailure::CodecNotRead { codec, read }),
            Outlook::TooLarge(limit) if !goes_back || is_new => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let too_large = TooLarge { what: "payload for this worker", size, limit, setter: "payload_bytes_max" };
                self.end_unsent(exits, id, CallFailure::TooLarge(too_large));
            }
            Outlook::NoMethod if !goes_back || is_new => {
                self.end_unsent(exits, id, CallFailure::UnknownMethod { offered });
            }
            _ if goes_back => self.end(exits, id, Err(CallFailure::NotOffered { maybe_executed, offered })),
            _ => self.end_unsent(exits, id, self.no_worker(offered)),
        }
    }

    fn no_worker(&self, offered: Names) -> CallFailure {
        CallFailure::NoWorker { offered, is_connected: !self.placement.registry.has_no_worker() }
    }

    /// Ends a call whose request cannot be sent. The failure keeps the mark of an earlier attempt that may have run.
    fn end_unsent(&mut self, exits: &mut Exits<Output>, id: CallId, failure: CallFailure) {
        let failure = match self.get(id) {
            Some(Call { maybe_executed: true, attempts, .. }) => {
                CallFailure::WorkerLost { maybe_executed: true, attempts: *attempts }
            }
            _ => failure,
        };
        self.end(exits, id, Err(failure));
    }

    /// Ends a call that no worker runs any more.
    fn end(&mut self, exits: &mut Exits<Output>, id: CallId, end: CallEnd) {
        if self.remove(id).is_some() {
            if planted(Fault::EndedTwice) {
                exits.report(Output::Ended(id, end.clone(), Receipt::NONE));
            }
            self.report_end(exits, id, end);
        }
    }

    fn report_end(&mut self, exits: &mut Exits<Output>, id: CallId, end: CallEnd) {
        let receipt = self.take_receipt();
        exits.report(Output::Ended(id, end, receipt));
    }

    /// Removes a call and its timers. Returns its last state.
    fn remove(&mut self, id: CallId) -> Option<CallState> {
        let removed = self.placement.remove(id);
        let call = removed.as_ref()?;
        if !planted(Fault::DeadlineKept) {
            self.timers.disarm(Timer::Deadline(id), call.deadline_at);
        }
        if let CallState::BackingOff { until } = call.state {
            self.timers.disarm(Timer::Retry(id), until);
        }
        Some(call.state)
    }

    fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.placement.calls_mut().get_mut(id)
    }

    /// Whether a worker offers the call's method, as far as it has said.
    fn is_offered_by(&self, worker: Peer, id: CallId) -> bool {
        let Some(call) = self.get(id) else { return false };
        let (service, method) = (&call.spec.service, &call.spec.method);
        match self.changes.draft_of(worker) {
            Some(draft) => draft.offers(service, method),
            None => self.placement.registry.offers(worker, service, method),
        }
    }

    /// Whether a worker has the request, for a caller that may already have its answer.
    fn has_request(&self, worker: Peer, id: CallId) -> bool {
        self.placement.registry.get(worker).is_some_and(|worker| worker.in_flight.contains_key(&id))
    }
}

/// The calls to end when a dispatcher closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those that no worker has.
    NotInFlight,
}

/// Expired calls that are ended where a worker meets them. More are left to their timers, which are due, so that no
/// message ends thousands of calls.
const EXPIRED_MAX: usize = 16;

/// The calls, lines and stations to look at before messages leave again: some milliseconds.
const LOOKS_MAX: usize = 20_000;

/// The pause for each of them, if they are many: about twice what that takes.
const PRICE: Duration = Duration::from_micros(1);

/// What the end of a hopeless call costs, in looks.
const END_LOOKS: usize = 8;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

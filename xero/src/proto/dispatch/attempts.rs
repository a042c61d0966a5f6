//! The life of a call: admitted, attempted, set back, ended.

use super::*;

impl Dispatcher {
    pub(super) fn admit(&self, spec: &CallSpec) -> Result<(), CallFailure> {
        if self.closing != Closing::No {
            return Err(CallFailure::Closed { maybe_executed: false });
        }
        let request = request_of(spec, CallId(0), 1, Duration::ZERO);
        frame::check(&Message::Request(request), &self.config.limits).map_err(CallFailure::TooLarge)
    }

    /// Sends a waiting call if somebody can take it; `false` when it goes on waiting.
    pub(super) fn advance(&mut self, now: Instant, id: CallId) -> bool {
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
            bytes: spec.payload.bytes.len(),
            avoid: call.refused_by,
        };
        let (waits, maybe_executed) = (spec.waits, call.maybe_executed);
        let window_has_room = |peer| self.links.outflow(peer).is_none_or(|outflow| !outflow.is_full());
        match self.registry.route(&mut *self.config.choice, need, &window_has_room) {
            Route::Worker { peer, idempotent } => self.send_request(now, id, peer, idempotent),
            Route::UnknownMethod => {
                let offered = self.registry.methods_of(&spec.service).into_iter().map(str::to_owned).collect();
                self.end_unsent(id, CallFailure::UnknownMethod { offered });
            }
            Route::NoWorker if waits == Waits::WhileOffered => {
                let offered = self.offered_services();
                self.end(id, Err(CallFailure::NotOffered { maybe_executed, offered }));
            }
            Route::NoWorker if waits == Waits::Never => {
                let offered = self.offered_services();
                self.end_unsent(id, CallFailure::NoWorker { offered });
            }
            Route::AllBusy if waits == Waits::Never => {
                let waiting = self.calls.waiting_count().saturating_sub(1);
                self.end_unsent(id, CallFailure::Overloaded { waiting, waiting_max: None });
            }
            Route::NoWorker | Route::AllBusy => return false,
        }
        true
    }

    pub(super) fn send_request(&mut self, now: Instant, id: CallId, peer: Peer, idempotent: bool) {
        let worker_max = self.registry.get(peer).map_or(u64::MAX, |worker| worker.payload_bytes_max);
        let Some(call) = self.calls.send(id, peer) else { return };
        call.declared_idempotent = idempotent;
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
        let mut request =
            request_of(&call.spec, id, call.spec.attempts_before.saturating_add(call.attempts), remaining);
        request.idempotent = call.is_idempotent();
        if call.has_waited {
            self.outputs.push_back(Output::Forwarded(id));
        }
        self.registry.take_credit(peer, id);
        self.links.send(now, peer, Message::Request(request));
    }

    /// Ends a call whose request cannot be sent. That hides no earlier attempt, which may have run.
    pub(super) fn end_unsent(&mut self, id: CallId, failure: CallFailure) {
        let failure = match self.calls.get(id) {
            Some(Call { maybe_executed: true, attempts, .. }) => {
                CallFailure::WorkerLost { maybe_executed: true, attempts: *attempts }
            }
            _ => failure,
        };
        self.end(id, Err(failure));
    }

    /// Sends waiting calls to a worker that has got free credit: owners take turns, each one's oldest call first.
    pub(super) fn serve_waiting(&mut self, now: Instant, worker: Peer) {
        if self.calls.waiting_count() == 0 || planted(Fault::WaitingNotServed) {
            return;
        }
        let services = self.registry.services_of(worker);
        let mut oldest: BTreeSet<_> = services.flat_map(|service| self.calls.oldest_waiting(service)).collect();
        while self.registry.is_available(worker)
            && let Some((turn, id)) = oldest.pop_first()
        {
            if let Some(later) = self.calls.precedence(id).filter(|later| later.0 > turn) {
                oldest.insert(later);
                continue;
            }
            let place = self.calls.place(id);
            if self.advance(now, id)
                && let Some((service, line)) = place
            {
                oldest.extend(self.calls.next_waiting(&service, &line));
            }
        }
    }

    pub(super) fn end_with_error(&mut self, now: Instant, from: Peer, reply: ErrorReply) {
        let id = reply.call;
        let maybe_executed = reply.maybe_executed || self.calls.get(id).is_some_and(|call| call.maybe_executed);
        let setback = match reply.maybe_executed {
            true => Setback::MaybeExecuted,
            false => Setback::NotStarted,
        };
        match reply.code {
            ErrorCode::Refused | ErrorCode::Overloaded => self.set_back(now, id, from, setback, reply),
            // The broker has lost its last worker for the service, and has said so before: another one, or waiting, helps.
            ErrorCode::NoWorker if self.is_client() && self.waits(id) => {
                self.set_back(now, id, from, setback, reply);
            }
            ErrorCode::DeadlineExceeded => self.end(id, Err(CallFailure::DeadlineExceeded { maybe_executed })),
            // What this worker says of its own attempt hides no earlier one, which may have run.
            _ if !reply.maybe_executed => self.end_unsent(id, CallFailure::Remote(reply)),
            _ => self.end(id, Err(CallFailure::Remote(reply))),
        }
    }

    /// An attempt came to nothing with the worker still there: try elsewhere, or end the call with what was said.
    pub(super) fn set_back(&mut self, now: Instant, id: CallId, from: Peer, setback: Setback, reply: ErrorReply) {
        let is_leaving = self.registry.get(from).is_none_or(|worker| worker.draining);
        let cost = match (setback, reply.code) {
            (Setback::NotStarted, _) if is_leaving => Cost::Nothing,
            (Setback::NotStarted, ErrorCode::NoWorker) => Cost::Time,
            _ => Cost::Attempt,
        };
        if self.may_attempt_again(id, setback, cost) {
            if let Some(call) = self.calls.get_mut(id) {
                call.refused_by = Some(from);
            }
            self.attempt_again(now, id);
        } else {
            let maybe_executed = self.calls.get(id).is_some_and(|call| call.maybe_executed);
            self.end(id, Err(CallFailure::Remote(ErrorReply { maybe_executed, ..reply })));
        }
    }

    pub(super) fn check_partials(&self, id: CallId, sent: u32) -> Result<(), CallFailure> {
        match self.calls.get(id).map(|call| call.state) {
            Some(CallState::InFlight { partials, .. }) if partials != sent => {
                Err(CallFailure::PartialsLost { sent, received: partials })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn lose_worker_of(&mut self, now: Instant, id: CallId, setback: Setback) {
        let cost = if setback == Setback::NotStarted { Cost::Nothing } else { Cost::Attempt };
        if self.may_attempt_again(id, setback, cost) {
            self.attempt_again(now, id);
        } else if let Some(call) = self.calls.get(id) {
            let (attempts, maybe_executed) = (call.attempts, call.maybe_executed);
            self.end(id, Err(CallFailure::WorkerLost { maybe_executed, attempts }));
        }
    }

    /// Takes note of an attempt that came to nothing, and says whether there may be another.
    fn may_attempt_again(&mut self, id: CallId, setback: Setback, cost: Cost) -> bool {
        let is_over = self.has_said_goodbye();
        let Some(call) = self.calls.get_mut(id) else { return false };
        call.maybe_executed |= setback == Setback::MaybeExecuted;
        let is_free = cost != Cost::Attempt;
        if is_free {
            call.charged = call.charged.saturating_sub(1);
        }
        let attempts_max = self.config.retry.attempts_max;
        if is_over || !may_retry(setback, call.is_idempotent(), call.charged, attempts_max) {
            return false;
        }
        call.wait = match cost {
            Cost::Nothing => Duration::ZERO,
            Cost::Time | Cost::Attempt => self.config.retry.backoff.draw(u32::from(call.attempts), &mut self.random),
        };
        let is_affordable = is_free || self.budget.withdraw();
        self.counters.retries_over_budget += u64::from(!is_affordable);
        is_affordable
    }

    fn waits(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(|call| call.spec.waits != Waits::Never)
    }

    /// Gives calls back that wait for a service which nobody offers any more.
    pub(super) fn return_unoffered(&mut self, now: Instant, services: impl IntoIterator<Item = Arc<str>>) {
        for service in services {
            if !self.registry.is_offered(&service) {
                for id in self.calls.waiting_for(&service) {
                    if self.calls.get(id).is_some_and(|call| call.spec.waits != Waits::UntilDeadline) {
                        self.advance(now, id);
                    }
                }
            }
        }
    }

    /// Sends the call to a worker, or lets it wait for one, once its back-off has passed.
    fn attempt_again(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.state = CallState::BackingOff;
        match call.wait.is_zero() {
            true => self.retry(now, id),
            false => self.timers.set(Timer::Retry(id), now + call.wait),
        }
    }

    pub(super) fn retry(&mut self, now: Instant, id: CallId) {
        self.calls.wait(id);
        self.advance(now, id);
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let maybe_executed = call.maybe_executed();
        let offered = self.offered_services();
        let failure = match offered.iter().any(|service| **service == *call.spec.service) {
            // The worker that had it is gone, and no other came: that says more than that time has passed.
            _ if call.maybe_executed && !call.is_in_flight() => {
                CallFailure::WorkerLost { maybe_executed, attempts: call.attempts }
            }
            false if !maybe_executed => CallFailure::NoWorker { offered },
            _ => CallFailure::DeadlineExceeded { maybe_executed },
        };
        self.give_up(now, id, failure);
    }

    /// Ends a call that a worker may still be at work on.
    pub(super) fn give_up(&mut self, now: Instant, id: CallId, failure: CallFailure) {
        if let Some(call) = self.take(id) {
            self.recall(now, id, &call);
            self.outputs.push_back(Output::Ended(id, Err(failure)));
        }
    }

    /// Asks the worker to stop working on a call that has ended.
    pub(super) fn recall(&mut self, now: Instant, id: CallId, call: &Call) {
        if let CallState::InFlight { worker, .. } = call.state {
            self.registry.abandon(worker, id);
            if !planted(Fault::CancelDropped) {
                self.links.send(now, worker, Message::Cancel(id));
            }
        }
    }

    pub(super) fn end(&mut self, id: CallId, end: CallEnd) {
        if self.take(id).is_some() {
            if planted(Fault::EndedTwice) {
                self.outputs.push_back(Output::Ended(id, end.clone()));
            }
            self.outputs.push_back(Output::Ended(id, end));
        }
    }

    pub(super) fn take(&mut self, id: CallId) -> Option<Call> {
        if !planted(Fault::DeadlineKept) {
            self.timers.stop(Timer::Deadline(id));
        }
        self.timers.stop(Timer::Retry(id));
        let call = self.calls.remove(id);
        if let Closing::Draining { since } = self.closing
            && self.calls.len() == 0
        {
            // Due at once.
            self.timers.set(Timer::Leave, since);
        }
        call
    }

    pub(super) fn offered_services(&self) -> Vec<String> {
        self.registry.services().into_iter().map(str::to_owned).collect()
    }
}

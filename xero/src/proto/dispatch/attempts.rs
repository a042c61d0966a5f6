//! The life of a call: admitted, attempted, set back, ended.

use super::*;

impl Dispatcher {
    pub(super) fn admit(&self, spec: &CallSpec) -> Result<(), CallFailure> {
        if self.closing != Closing::No {
            return Err(CallFailure::Closed { maybe_executed: false });
        }
        let CallSpec { service, method, metadata, payload, .. } = spec;
        frame::check_request(service, method, metadata, payload.bytes.len(), &self.config.limits)
            .map_err(CallFailure::TooLarge)
    }

    /// Sends an unplaced call if a worker can take it; `false` if it must wait, or wait on.
    pub(super) fn advance(&mut self, now: Instant, id: CallId) -> bool {
        let Some(call) = self.calls.get(id) else { return true };
        if call.spec.deadline <= now {
            self.handle_deadline(now, id);
            return true;
        }
        let waits = call.spec.waits;
        match self.registry.route(&mut *self.config.choice, &call.need()) {
            Route::Worker { peer, idempotent } => self.send_request(now, id, peer, idempotent),
            Route::AllBusy if waits == Waits::Never => {
                let waiting = self.calls.waiting_count();
                self.end_unsent(id, CallFailure::Overloaded { waiting, waiting_max: None });
            }
            Route::Nobody(outlook) if is_hopeless(&outlook, waits) => self.end_hopeless(id, outlook),
            Route::AllBusy | Route::Nobody(_) => return false,
        }
        true
    }

    /// Ends a call that no worker can take, now or later.
    fn end_hopeless(&mut self, id: CallId, outlook: Outlook) {
        let Some(call) = self.calls.get(id) else { return };
        let (service, codec) = (&call.spec.service, call.spec.payload.codec);
        let (maybe_executed, goes_back) = (call.maybe_executed, call.spec.waits == Waits::WhileOffered);
        // A call that a worker could once take is not at fault, and may find a worker elsewhere.
        let is_new = call.attempts == 0 && !call.has_waited;
        let offered = match outlook {
            Outlook::NoMethod => self.registry.method_names(service),
            _ => self.registry.service_names(),
        };
        match outlook {
            Outlook::NoCodec(read) => self.end_unsent(id, CallFailure::CodecNotRead { codec, read }),
            Outlook::NoMethod if !goes_back || is_new => self.end_unsent(id, CallFailure::UnknownMethod { offered }),
            _ if goes_back => self.end(id, Err(CallFailure::NotOffered { maybe_executed, offered })),
            _ => self.end_unsent(id, CallFailure::NoWorker { offered }),
        }
    }

    /// Puts a call in line that no worker can take now.
    pub(super) fn wait(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let (service, method) = (Arc::clone(&call.spec.service), Arc::clone(&call.spec.method));
        let method = self.registry.hold_line(&service, &method);
        match self.calls.wait(id, method) {
            Some(line) => self.target(line),
            None => self.registry.release_line(method),
        }
    }

    fn send_request(&mut self, now: Instant, id: CallId, peer: Peer, idempotent: bool) {
        let worker_max = self.registry.get(peer).map_or(u64::MAX, |worker| worker.payload_bytes_max);
        self.stop_waiting(id);
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
        if call.has_waited {
            self.outputs.push_back(Output::Forwarded(id));
        }
        self.registry.take_credit(peer, id);
        self.links.send(now, peer, Message::Request(request_of(call, id, now)));
        self.note_room(peer);
    }

    /// Ends a call whose request cannot be sent. The failure keeps the mark of an earlier attempt that may have run.
    pub(super) fn end_unsent(&mut self, id: CallId, failure: CallFailure) {
        let failure = match self.calls.get(id) {
            Some(Call { maybe_executed: true, attempts, .. }) => {
                CallFailure::WorkerLost { maybe_executed: true, attempts: *attempts }
            }
            _ => failure,
        };
        self.end(id, Err(failure));
    }

    /// Sends waiting calls to a worker with new free credit, and to those like it: owners take turns, each one's oldest
    /// call first.
    pub(super) fn serve_waiting(&mut self, now: Instant, worker: Peer) {
        if let Some(pool) = self.registry.pool_of(worker) {
            self.serve_pool(now, pool);
        }
    }

    fn serve_pool(&mut self, now: Instant, pool: PoolId) {
        if self.calls.waiting_count() == 0 || planted(Fault::WaitingNotServed) {
            return;
        }
        if planted(Fault::EverybodyWalked) {
            self.calls.ids().into_iter().for_each(|_| count_step());
        }
        let mut behind = None;
        while self.registry.is_free(pool)
            && let Some(place) = self.calls.next_waiting(pool, behind)
        {
            count_step();
            let (_, id) = place.0;
            let owner = self.calls.get(id).map(|call| call.spec.owner);
            match self.advance(now, id) {
                true => owner.into_iter().for_each(|owner| self.calls.note_served(owner)),
                // No worker has room for it, or the policy chooses none: a line behind it may still be served.
                false => behind = Some(place),
            }
        }
    }

    /// Follows changed offers of methods that calls wait for: sends the calls that a worker can take now, and ends
    /// those that no worker can take any more.
    pub(super) fn follow_offers(&mut self, now: Instant) {
        let lines: Vec<_> = self.registry.take_changed().flat_map(|method| self.calls.lines_of(method)).collect();
        lines.iter().for_each(|line| self.target(*line));
        let mut free = BTreeSet::new();
        for line in lines {
            let Some(need) = self.calls.need_of(line) else { continue };
            match self.registry.targets(&need) {
                Ok(pools) => free.extend(pools.into_iter().filter(|pool| self.registry.is_free(*pool))),
                Err(outlook) => self.end_line(now, line, &outlook),
            }
        }
        free.into_iter().for_each(|pool| self.serve_pool(now, pool));
    }

    fn end_line(&mut self, now: Instant, line: LineId, outlook: &Outlook) {
        let calls = self.calls.in_line(line);
        let waits = calls.first().and_then(|id| self.calls.get(*id)).map(|call| call.spec.waits);
        if waits.is_some_and(|waits| is_hopeless(outlook, waits)) && !planted(Fault::NobodyAwaited) {
            for id in calls {
                self.advance(now, id);
            }
        }
    }

    /// Puts a line into the queues of the workers that can take its calls.
    fn target(&mut self, line: LineId) {
        let targets = self.calls.need_of(line).map(|need| self.registry.targets(&need));
        self.calls.retarget(line, targets.and_then(Result::ok).unwrap_or_default());
    }

    fn stop_waiting(&mut self, id: CallId) {
        if let Some(method) = self.calls.stop_waiting(id) {
            self.registry.release_line(method);
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
            // The broker has lost its last worker for the service, and announced that before: another broker, or
            // waiting, helps.
            ErrorCode::NoWorker if self.is_client() && self.waits(id) => {
                self.set_back(now, id, from, setback, reply);
            }
            ErrorCode::DeadlineExceeded => self.end(id, Err(CallFailure::DeadlineExceeded { maybe_executed })),
            // The broker no longer has the method, but another one has.
            ErrorCode::UnknownMethod if self.is_client() && !reply.maybe_executed && self.is_elsewhere(id, from) => {
                self.set_back(now, id, from, setback, reply);
            }
            // The worker's word on its own attempt hides no earlier attempt, which may have run.
            _ if !reply.maybe_executed => self.end_unsent(id, CallFailure::Remote(reply)),
            _ => self.end(id, Err(CallFailure::Remote(reply))),
        }
    }

    /// Handles a failed attempt whose worker still lives: tries elsewhere, or ends the call with the worker's error.
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

    /// Records a failed attempt, and says whether another may follow.
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
            _ if call.spec.waits == Waits::Never && !planted(Fault::FailFastBacksOff) => Duration::ZERO,
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

    fn is_elsewhere(&self, id: CallId, from: Peer) -> bool {
        let spec = self.calls.get(id).map(|call| &call.spec);
        spec.is_some_and(|spec| self.registry.is_offered_beside(from, &spec.service, &spec.method))
    }

    /// After the back-off, sends the call to a worker or puts it in line.
    fn attempt_again(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.wait.is_zero() {
            return self.retry(now, id);
        }
        let until = now + call.wait;
        call.state = CallState::BackingOff { until };
        self.timers.arm(Timer::Retry(id), until);
    }

    pub(super) fn retry(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.state = CallState::Unplaced;
        if !self.advance(now, id) {
            self.wait(id);
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let maybe_executed = call.maybe_executed();
        let failure = match self.registry.is_offered(&call.spec.service) {
            // Its worker is gone, and no other came: that says more than a passed deadline.
            _ if call.maybe_executed && !call.is_in_flight() => {
                CallFailure::WorkerLost { maybe_executed, attempts: call.attempts }
            }
            false if !maybe_executed => CallFailure::NoWorker { offered: self.registry.service_names() },
            _ => CallFailure::DeadlineExceeded { maybe_executed },
        };
        self.give_up(now, id, failure);
    }

    /// Ends a call that a worker may still run.
    pub(super) fn give_up(&mut self, now: Instant, id: CallId, failure: CallFailure) {
        if let Some(call) = self.take(id) {
            self.recall(now, id, &call);
            let receipt = self.take_receipt();
            self.outputs.push_back(Output::Ended(id, Err(failure), receipt));
        }
    }

    /// Asks the worker to stop a call that has ended.
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
                self.outputs.push_back(Output::Ended(id, end.clone(), Receipt::NONE));
            }
            let receipt = self.take_receipt();
            self.outputs.push_back(Output::Ended(id, end, receipt));
        }
    }

    pub(super) fn take(&mut self, id: CallId) -> Option<Call> {
        self.stop_waiting(id);
        let call = self.calls.remove(id);
        if let Some(call) = &call {
            if !planted(Fault::DeadlineKept) {
                self.timers.disarm(Timer::Deadline(id), call.deadline_at);
            }
            if let CallState::BackingOff { until } = call.state {
                self.timers.disarm(Timer::Retry(id), until);
            }
        }
        if let Closing::Draining { since } = self.closing
            && self.calls.len() == 0
        {
            // Due at once.
            self.timers.set(Timer::Leave, since);
        }
        call
    }
}

/// Whether a call should not wait for a better outlook. A service may still appear, which is worth a wait; a worker
/// with the service but without the method, or the codec, shows a mistake.
fn is_hopeless(outlook: &Outlook, waits: Waits) -> bool {
    *outlook != Outlook::NoService || waits != Waits::UntilDeadline
}

/// The request of one attempt. It carries the declaration that will decide its retry.
fn request_of(call: &Call, id: CallId, now: Instant) -> Request {
    let spec = &call.spec;
    Request {
        call: id,
        attempt: spec.attempts_before.saturating_add(call.attempts),
        idempotent: call.is_idempotent(),
        as_declared: spec.idempotent.is_none(),
        fail_fast: spec.waits == Waits::Never,
        service: Arc::clone(&spec.service),
        method: Arc::clone(&spec.method),
        fingerprint: spec.fingerprint,
        remaining: spec.deadline.saturating_duration_since(now),
        metadata: spec.metadata.clone(),
        payload: spec.payload.clone(),
    }
}

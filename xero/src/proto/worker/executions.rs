//! The life of a request: admitted, started, aborted, answered.

use super::*;

impl Worker {
    pub(super) fn handle_request(&mut self, now: Instant, from: Peer, request: Request, bytes: u64) {
        let call = request.call;
        // An answer would end the call that runs under this id.
        if self.has_request(from, call) {
            self.links.take(now, from, bytes);
            return self.links.drop_unexpected(from, "a request whose call is in flight already");
        }
        if self.is_overrun(from) {
            return self.let_go(now, from);
        }
        self.counters.requests += 1;
        let (service, method, reply_bytes_max) = match self.admit(from, &request) {
            Ok(admitted) => admitted,
            Err((code, detail)) => {
                self.links.take(now, from, bytes);
                return self.refuse(now, from, call, code, detail);
            }
        };
        self.links.hold_request(from, bytes);
        let is_acknowledged = self.links.may_hold(from);
        if is_acknowledged {
            self.links.take(now, from, bytes);
        }
        self.sequence += 1;
        let execution = Execution(self.sequence);
        let deadline = now + request.remaining.min(DEADLINE_MAX);
        let start = Box::new(Start { execution, peer: from, service, method, deadline, reply_bytes_max, request });
        let (waiting, held) = (Some(start), Some(Held { bytes, is_acknowledged }));
        let task = Task { caller: Some((from, call)), partials: 0, held, aborted: None, waiting };
        self.executions.insert(execution, task);
        self.timers.set(Timer::Overrun(execution), deadline);
        if let Some(requests) = self.requests.get_mut(&from) {
            requests.insert(call, execution);
        }
        self.backlog.push(from, execution);
        self.start_waiting(now);
    }

    /// Finds the requested procedure, or says why it cannot run.
    pub(super) fn admit(&self, from: Peer, request: &Request) -> Result<(usize, usize, usize), (ErrorCode, String)> {
        let Some(requests) = self.requests.get(&from) else {
            return Err((ErrorCode::Refused, "not registered".to_owned()));
        };
        if self.leaving != Leaving::No {
            return Err((ErrorCode::Refused, "the worker drains".to_owned()));
        }
        if requests.len() + self.links.outflow(from).map_or(0, Outflow::held_ends) >= self.config.credits as usize {
            let credits = self.config.credits;
            let detail = format!("the worker takes {credits} requests at once; its `concurrency` raises that");
            return Err((ErrorCode::Overloaded, detail));
        }
        if request.remaining.is_zero() {
            return Err((ErrorCode::DeadlineExceeded, String::new()));
        }
        if self.links.is_full() {
            let max = self.config.hold_limits.total_bytes_max;
            let detail = format!("the worker holds {max} bytes of its peers; its `total_bytes_max` raises that");
            return Err((ErrorCode::Overloaded, detail));
        }
        let (service, method) = self.find(request)?;
        Ok((service, method, self.links.reply_bytes_max(from)))
    }

    pub(super) fn find(&self, request: &Request) -> Result<(usize, usize), (ErrorCode, String)> {
        let services = &self.config.services;
        let Some(service) = services.iter().position(|offer| offer.name == request.service) else {
            let known = listed(services.iter().map(|offer| &*offer.name));
            let detail = format!("no service `{}` here; this worker offers {known}", request.service);
            return Err((ErrorCode::UnknownService, detail));
        };
        let methods = &services[service].methods;
        let Some(method) = methods.iter().position(|offer| offer.name == request.method) else {
            let known = listed(methods.iter().map(|offer| &*offer.name));
            let detail = format!("service `{}` has no method `{}`; it has {known}", request.service, request.method);
            return Err((ErrorCode::UnknownMethod, detail));
        };
        let fingerprint = methods[method].fingerprint;
        let checked = !request.payload.codec.is_self_describing() && request.fingerprint != 0 && fingerprint != 0;
        let signature = self.config.signatures.get(service).and_then(|signatures| signatures.get(method));
        let is_older = signature.is_some_and(|signature| signature.older.contains(&request.fingerprint));
        if checked && request.fingerprint != fingerprint && !is_older {
            let text = signature.map(|signature| signature.text.clone());
            return Err((ErrorCode::SignatureMismatch, text.unwrap_or_default()));
        }
        Ok((service, method))
    }

    pub(super) fn handle_cancel(&mut self, now: Instant, from: Peer, call: CallId) {
        // A cancel that crosses the final reply finds nothing, which is fine.
        if let Some(execution) = self.requests.get(&from).and_then(|requests| requests.get(&call)).copied() {
            self.abort(now, execution, ErrorCode::Cancelled);
        }
    }

    /// Stops an execution. A running one is answered when it has stopped; a waiting one now.
    pub(super) fn abort(&mut self, now: Instant, execution: Execution, code: ErrorCode) {
        let Some(task) = self.executions.get_mut(&execution) else { return };
        if task.aborted.is_some() {
            return;
        }
        task.aborted = Some(code);
        if let Some(start) = &task.waiting {
            self.backlog.remove(start.peer, execution);
            self.finish(now, execution, Finish::Aborted);
        } else {
            self.outputs.push_back(WorkerOutput::Abort(execution));
        }
    }

    /// Ends the holding of a request: its dispatcher may send as many bytes again.
    pub(super) fn forget_request(&mut self, now: Instant, from: Peer, held: Option<Held>) {
        let Some(Held { bytes, is_acknowledged }) = held else { return };
        self.links.forget_request(from, bytes);
        if !is_acknowledged {
            self.links.take(now, from, bytes);
        }
    }

    /// Starts waiting requests while fewer than the credits run.
    ///
    /// A dispatcher with untaken replies beyond its limit gets none started, because another reply would be held as well.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        while self.running < self.config.credits as usize {
            let (links, max) = (&self.links, self.config.hold_limits.peer_bytes_max);
            let takes_replies = |peer| {
                links.outflow(peer).is_none_or(|outflow| outflow.held_bytes() <= max) || planted(Fault::StartedUnread)
            };
            let Some(execution) = self.backlog.pop(takes_replies) else { return };
            let Some(task) = self.executions.get_mut(&execution) else { continue };
            let (Some(start), held) = (task.waiting.take(), task.held.take()) else { continue };
            self.running += 1;
            self.forget_request(now, start.peer, held);
            self.outputs.push_back(WorkerOutput::Start(start));
        }
    }

    pub(super) fn answer(&mut self, now: Instant, peer: Peer, call: CallId, task: &Task, finish: Finish) {
        let Some(requests) = self.requests.get_mut(&peer) else { return };
        requests.remove(&call);
        let reply_bytes_max = self.links.reply_bytes_max(peer);
        let bytes = match &finish {
            Finish::Reply(payload) | Finish::Error { payload, .. } => payload.bytes.len(),
            Finish::Aborted | Finish::NotStarted => 0,
        };
        // Large replies queue behind each other on a slow link; small ones cross any link within the expiry.
        self.sending_until = Some(self.sending_until.map_or(now, |until| until.max(now)) + sending_time(bytes));
        let partials = task.partials;
        let too_large = |size| (ErrorCode::TooLarge, frame::reply_too_large(size, reply_bytes_max), Payload::default());
        let (code, detail, payload) = match finish {
            Finish::Reply(payload) | Finish::Error { payload, .. } if payload.bytes.len() > reply_bytes_max => {
                too_large(payload.bytes.len())
            }
            Finish::Reply(payload) => {
                return self.links.send(now, peer, Message::Final(FinalReply { call, partials, payload }));
            }
            Finish::Error { code, detail, payload } => (code, detail, payload),
            Finish::Aborted => match task.aborted {
                Some(code) => (code, String::new(), Payload::default()),
                None if planted(Fault::StoppedAsCancelled) => (ErrorCode::Cancelled, String::new(), Payload::default()),
                // Another worker can run it again, if it may run twice.
                None => (ErrorCode::Refused, "the procedure's runtime has ended".to_owned(), Payload::default()),
            },
            Finish::NotStarted => {
                let detail = "the worker could not start the procedure in time".to_owned();
                return self.refuse(now, peer, call, task.aborted.unwrap_or(ErrorCode::Refused), detail);
            }
        };
        let maybe_executed = task.waiting.is_none() && code != ErrorCode::InvalidArguments;
        self.links.send(
            now,
            peer,
            Message::Error(ErrorReply { call, partials, code, maybe_executed, detail, payload }),
        );
    }

    /// Answers a request that does not start, unless its dispatcher takes no answer.
    pub(super) fn refuse(&mut self, now: Instant, to: Peer, call: CallId, code: ErrorCode, detail: String) {
        if self.is_overrun(to) {
            return self.let_go(now, to);
        }
        self.links.send(now, to, Message::Error(ErrorReply::not_started(call, code, detail)));
    }

    /// Disconnects a dispatcher that keeps sending requests without reading replies: its queue would grow for ever.
    fn let_go(&mut self, now: Instant, from: Peer) {
        self.links.drop_unexpected(from, "a dispatcher that sends requests and reads no replies");
        self.links.hang_up(now, from, Departure::Disconnected);
    }

    fn is_overrun(&self, peer: Peer) -> bool {
        self.links.outflow(peer).is_some_and(|outflow| outflow.is_overrun(self.config.credits))
    }

    pub(super) fn has_request(&self, from: Peer, call: CallId) -> bool {
        self.requests.get(&from).is_some_and(|requests| requests.contains_key(&call))
    }
}

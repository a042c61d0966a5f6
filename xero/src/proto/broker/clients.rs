//! The clients' side: registrations, requests in, replies out.

use super::*;

impl Broker {
    pub(super) fn handle_client_event(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::Introduced(peer, ready) => self.handle_ready(now, peer, &ready),
            // The client has not read the goodbye yet, which answers its request.
            LinkEvent::Received(peer, ..) if self.front.get(peer).is_some_and(Link::is_leaving) => {}
            LinkEvent::Received(peer, Message::Request(request), bytes) => {
                self.handle_request(now, peer, request, bytes)
            }
            LinkEvent::Received(peer, Message::Cancel(call), _) => self.handle_cancel(now, peer, call),
            LinkEvent::Received(peer, _, bytes) => {
                self.front.take(now, peer, bytes);
                self.front.drop_unexpected(peer, "a message that clients do not send");
            }
            LinkEvent::Released(receipt) => self.dispatcher.release(now, receipt),
            LinkEvent::Draining(peer) => {
                self.front.drop_unexpected(peer, "a message that clients do not send");
            }
            LinkEvent::Ended(peer, end) => self.remove_client(now, peer, end.departure),
            LinkEvent::Disconnect(peer) => self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, peer)),
            // Clients dial us; partial replies kept for them leave by themselves.
            LinkEvent::Dial(_) | LinkEvent::Room(_) | LinkEvent::PartialLeft(..) => {}
            // These concern workers.
            LinkEvent::Doubted(_) | LinkEvent::Heard(_) => {}
        }
    }

    pub(super) fn handle_malformed_of_client(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if !self.front.handle_malformed(now, from, malformed) {
            return;
        }
        self.front.take(now, from, malformed.window_bytes);
        let is_open = |call: &CallId| self.clients.get(&from).is_some_and(|client| client.requests.contains_key(call));
        if let Some(call) = malformed.call.filter(|call| malformed.is_request() && !is_open(call)) {
            self.refuse(now, from, call, malformed.code, malformed.to_string());
        }
    }

    /// Disconnects a client that keeps sending requests without reading replies: its queue would grow for ever.
    fn let_go(&mut self, now: Instant, from: Peer) {
        self.front.drop_unexpected(from, "a client that sends requests and reads no replies");
        self.front.hang_up(now, from, Departure::Disconnected);
    }

    fn is_overrun(&self, peer: Peer) -> bool {
        self.front.outflow(peer).is_some_and(|outflow| outflow.is_overrun(self.credits))
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: &Ready) {
        if self.leaving != Leaving::No && !self.clients.contains_key(&from) {
            return self.front.turn_away(now, from, "closing".to_owned());
        }
        self.front.accept(now, from, ready);
        self.hasten_offers(from);
        let incarnation = ready.incarnation;
        self.clients.entry(from).or_insert_with(|| ClientEntry { incarnation, requests: BTreeMap::new() });
        self.outputs.push_back(BrokerOutput::ClientJoined(from));
    }

    fn handle_request(&mut self, now: Instant, from: Peer, request: Request, bytes: u64) {
        if self.is_overrun(from) {
            return self.let_go(now, from);
        }
        let held_ends = self.front.outflow(from).map_or(0, Outflow::held_ends);
        let Some(client) = self.clients.get_mut(&from) else { return };
        let call = request.call;
        // An answer would end the open call with this id.
        if client.requests.contains_key(&call) {
            self.front.take(now, from, bytes);
            return self.front.drop_unexpected(from, "a request whose call is open already");
        }
        self.requests += 1;
        if self.leaving != Leaving::No {
            self.front.take(now, from, bytes);
            return self.refuse(now, from, call, ErrorCode::Refused, "the broker drains".to_owned());
        }
        if client.requests.len() + held_ends >= self.credits as usize {
            self.front.take(now, from, bytes);
            let credits = self.credits;
            let detail =
                format!("the broker takes {credits} requests of a client at once; its `client_credits` raises that");
            return self.refuse(now, from, call, ErrorCode::Overloaded, detail);
        }
        if request.remaining.is_zero() {
            self.front.take(now, from, bytes);
            return self.refuse(now, from, call, ErrorCode::DeadlineExceeded, String::new());
        }
        if self.front.is_full() {
            self.front.take(now, from, bytes);
            let max = self.front.hold_limits().total_bytes_max;
            let detail = format!("the broker holds {max} bytes of its clients; its `total_bytes_max` raises that");
            return self.refuse(now, from, call, ErrorCode::Overloaded, detail);
        }
        self.front.hold_request(from, bytes);
        self.calls += 1;
        let id = CallId(self.calls);
        client.requests.insert(call, id);
        self.origins.insert(id, Origin { client: from, call, bytes, is_taken: false, partials: 0 });
        self.dispatcher.call(now, id, spec_of(now, from, request));
        if !self.dispatcher.is_waiting(id) {
            self.note_forwarded(now, id);
        }
    }

    fn handle_cancel(&mut self, now: Instant, from: Peer, call: CallId) {
        // A cancel that crosses the final reply finds nothing, which is fine.
        let Some(id) = self.clients.get(&from).and_then(|client| client.requests.get(&call)).copied() else { return };
        let maybe_executed = self.dispatcher.maybe_executed(id);
        self.dispatcher.cancel(now, id);
        if let Some(origin) = self.take_origin(now, id) {
            let error = ErrorReply {
                partials: origin.partials,
                maybe_executed,
                ..ErrorReply::not_started(call, ErrorCode::Cancelled, String::new())
            };
            self.front.send(now, from, Message::Error(error));
        }
    }

    pub(super) fn pass_partial(&mut self, now: Instant, id: CallId, payload: Payload, receipt: Receipt) {
        let Some(origin) = self.origins.get_mut(&id) else { return self.dispatcher.release(now, receipt) };
        let (to, call, sequence, size) = (origin.client, origin.call, origin.partials, payload.bytes.len());
        if size > self.front.reply_bytes_max(to) {
            // Its place stays empty, so the client sees a gap in the sequence.
            origin.partials = origin.partials.saturating_add(1);
            self.dispatcher.release(now, receipt);
            return debug!(%call, size, "dropped a partial reply that is larger than the client takes");
        }
        if planted(Fault::InnocentUnread) && self.front.outflow(to).is_some_and(|outflow| !outflow.is_empty()) {
            self.dispatcher.overflow(now, id);
            return self.dispatcher.release(now, receipt);
        }
        origin.partials = origin.partials.saturating_add(1);
        self.pass_on(now, to, Message::Partial(PartialReply { call, sequence, payload }), receipt);
    }

    pub(super) fn pass_final(&mut self, now: Instant, id: CallId, payload: Payload, receipt: Receipt) {
        let Some(Origin { mut client, call, partials, .. }) = self.take_origin(now, id) else {
            return self.dispatcher.release(now, receipt);
        };
        if planted(Fault::ReplyToWrongClient) {
            client = self.clients.keys().next().copied().unwrap_or(client);
        }
        let limit = self.front.reply_bytes_max(client);
        let size = payload.bytes.len();
        let message = match size > limit {
            true => Message::Error(ErrorReply {
                partials,
                maybe_executed: true,
                ..ErrorReply::not_started(call, ErrorCode::TooLarge, frame::reply_too_large(size, limit))
            }),
            false => Message::Final(FinalReply { call, partials, payload }),
        };
        self.pass_on(now, client, message, receipt);
    }

    pub(super) fn pass_failure(&mut self, now: Instant, id: CallId, failure: CallFailure, receipt: Receipt) {
        let Some(Origin { client, call, partials, .. }) = self.take_origin(now, id) else {
            return self.dispatcher.release(now, receipt);
        };
        if matches!(failure, CallFailure::NotOffered { .. } | CallFailure::UnknownMethod { .. }) {
            self.hasten_offers(client);
        }
        let error = ErrorReply { call, partials, ..error_of(failure) };
        self.pass_on(now, client, Message::Error(error), receipt);
    }

    /// Passes a reply on, and acknowledges it to its worker once there is room for another.
    fn pass_on(&mut self, now: Instant, to: Peer, message: Message, receipt: Receipt) {
        let receipt = self.front.pass_on(now, to, message, receipt);
        self.dispatcher.release(now, receipt);
    }

    fn take_origin(&mut self, now: Instant, id: CallId) -> Option<Origin> {
        self.take_request(now, id);
        let origin = self.origins.remove(&id)?;
        self.front.forget_request(origin.client, origin.bytes);
        if let Some(client) = self.clients.get_mut(&origin.client) {
            if planted(Fault::ClientCreditLost) {
                return Some(origin);
            }
            client.requests.remove(&origin.call);
        }
        Some(origin)
    }

    /// Answers a request that is not passed on, unless its client takes no answer.
    fn refuse(&mut self, now: Instant, to: Peer, call: CallId, code: ErrorCode, detail: String) {
        if self.is_overrun(to) {
            return self.let_go(now, to);
        }
        self.front.send(now, to, Message::Error(ErrorReply::not_started(call, code, detail)));
    }

    /// Notes that a worker has the request.
    ///
    /// The broker keeps the request until its end, because it may have to go to another worker. So its client may send
    /// as many bytes again only within its limit.
    pub(super) fn note_forwarded(&mut self, now: Instant, id: CallId) {
        if self.origins.get(&id).is_some_and(|origin| self.front.may_hold(origin.client)) {
            self.take_request(now, id);
            if planted(Fault::ForwardedForgotten)
                && let Some(origin) = self.origins.get(&id)
            {
                self.front.forget_request(origin.client, origin.bytes);
            }
        }
    }

    /// Acknowledges a request to its client.
    fn take_request(&mut self, now: Instant, id: CallId) {
        let Some(origin) = self.origins.get_mut(&id).filter(|origin| !origin.is_taken) else { return };
        origin.is_taken = true;
        let (client, bytes) = (origin.client, origin.bytes);
        self.front.take(now, client, bytes);
    }

    fn remove_client(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let Some(client) = self.clients.remove(&peer) else { return };
        for id in client.requests.into_values() {
            self.origins.remove(&id);
            if planted(Fault::VanishedClientServed) {
                continue;
            }
            self.dispatcher.cancel(now, id);
        }
        self.outputs.push_back(BrokerOutput::ClientLeft(peer, departure));
    }
}

/// A failed call's error for its client, without its call id and count of partial replies.
fn error_of(failure: CallFailure) -> ErrorReply {
    let error = |code, maybe_executed, detail| ErrorReply {
        maybe_executed,
        ..ErrorReply::not_started(CallId(0), code, detail)
    };
    let names = |offered: &[Arc<str>]| listed(offered.iter().map(|name| &**name));
    match failure {
        // This broker has used up the attempts; its clients must not start anew.
        CallFailure::Remote(reply) if matches!(reply.code, ErrorCode::Refused | ErrorCode::Overloaded) => {
            error(ErrorCode::WorkerLost, reply.maybe_executed, reply.detail)
        }
        CallFailure::Remote(reply) => reply,
        CallFailure::DeadlineExceeded { maybe_executed } => {
            error(ErrorCode::DeadlineExceeded, maybe_executed, String::new())
        }
        CallFailure::NoWorker { offered } => {
            error(ErrorCode::NoWorker, false, format!("live workers offer {}", names(&offered)))
        }
        CallFailure::NotOffered { maybe_executed, offered } => {
            error(ErrorCode::NoWorker, maybe_executed, format!("live workers offer {}", names(&offered)))
        }
        CallFailure::CodecNotRead { codec, read } => {
            error(ErrorCode::InvalidArguments, false, codec_not_read(codec, &read))
        }
        CallFailure::UnknownMethod { offered } => {
            error(ErrorCode::UnknownMethod, false, format!("the service has {}", names(&offered)))
        }
        CallFailure::WorkerLost { maybe_executed, attempts } => {
            error(ErrorCode::WorkerLost, maybe_executed, format!("attempt {attempts} was the last"))
        }
        CallFailure::Overloaded { waiting, waiting_max } => {
            error(ErrorCode::Overloaded, false, overloaded(waiting, waiting_max, " at the broker"))
        }
        CallFailure::TooLarge(too_large) => error(ErrorCode::TooLarge, false, too_large.to_string()),
        CallFailure::PartialsLost { sent, received } => {
            let detail = format!("of {sent} partial replies, {received} have reached the broker");
            error(ErrorCode::Malformed, true, detail)
        }
        CallFailure::PartialsUnread { .. } => error(ErrorCode::Unread, true, String::new()),
        CallFailure::UnreadableReply { reason } => error(ErrorCode::Malformed, true, reason),
        CallFailure::Closed { maybe_executed } => {
            // A draining broker refuses calls that it has not passed on; calls left at the end of its time may have
            // run.
            let why = if maybe_executed { "the broker's drain timeout has passed" } else { "the broker drains" };
            error(ErrorCode::Refused, maybe_executed, why.to_owned())
        }
    }
}

fn spec_of(now: Instant, from: Peer, request: Request) -> CallSpec {
    let Request {
        attempt,
        idempotent,
        as_declared,
        fail_fast,
        service,
        method,
        fingerprint,
        remaining,
        metadata,
        payload,
        ..
    } = request;
    let (owner, deadline) = (from.0, now + remaining.min(DEADLINE_MAX));
    // The client knew the declaration of all workers; it must hold for the chosen worker too.
    let must_declare = idempotent && as_declared && !planted(Fault::DeclarationNotPassedOn);
    let (idempotent, attempts_before) = ((!must_declare).then_some(idempotent), attempt.saturating_sub(1));
    // Only the client knows other brokers, and a call that waits with it outlives this broker.
    let waits = if fail_fast { Waits::Never } else { Waits::WhileOffered };
    CallSpec {
        service,
        method,
        fingerprint,
        idempotent,
        must_declare,
        waits,
        owner,
        attempts_before,
        deadline,
        metadata,
        payload,
    }
}

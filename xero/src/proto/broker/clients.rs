//! The clients' side: registrations, requests in, replies out.

use super::*;

impl Broker {
    pub(super) fn handle_client(&mut self, now: Instant, from: Peer, message: Message) {
        let Some(client) = self.clients.get_mut(&from) else { return self.handle_stranger(now, from, message) };
        client.liveness.received(now);
        match message {
            Message::Goodbye => {
                self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, from));
                self.remove_client(now, from, Departure::Goodbye);
            }
            // Nothing follows a goodbye; the client reads it and goes.
            _ if client.is_leaving => {}
            Message::Ready(ready) if ready.role == Role::Client => self.handle_ready(now, from, &ready),
            Message::Request(_) if client.replies.is_overrun(self.config.credits) => self.let_go(now, from),
            Message::Request(request) => self.handle_request(now, from, request),
            Message::Cancel(call) => self.handle_cancel(now, from, call),
            Message::Ack(bytes) => {
                client.replies.window_mut().acknowledge(bytes);
                self.send_held(now, from);
            }
            Message::Heartbeat => trace!(peer = from.0, "heartbeat"),
            Message::Patience(time) => {
                client.liveness.excuse(now + time.min(patience(self.config.limits.payload_bytes_max)));
            }
            _ => {
                self.counters.unexpected_messages += 1;
                debug!(peer = from.0, "dropped a message that clients do not send");
            }
        }
    }

    pub(super) fn handle_malformed_of_client(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        self.counters.malformed_messages += 1;
        debug!(peer = from.0, %malformed, "a client's message cannot be read");
        let Some(client) = self.clients.get_mut(&from) else { return self.turn_away(from, malformed.to_string()) };
        client.liveness.received(now);
        let call = malformed.call.filter(|call| !client.requests.contains_key(call));
        self.acknowledge(now, from, malformed.window_bytes);
        let Some(call) = call else { return };
        if malformed.is_request() {
            self.refuse(now, from, call, malformed.code, malformed.to_string());
        }
    }

    /// What is held back for it and under way to it would grow for ever.
    fn let_go(&mut self, now: Instant, from: Peer) {
        self.counters.unexpected_messages += 1;
        debug!(peer = from.0, "dropped a client that asks on and takes no answer");
        self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, from));
        self.remove_client(now, from, Departure::Disconnected);
    }

    fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Ready(ready) if ready.role == Role::Client && self.leaving == Leaving::No => {
                self.handle_ready(now, from, &ready);
            }
            Message::Ready(ready) if ready.role == Role::Client => self.turn_away(from, "closing".to_owned()),
            Message::Ready(ready) => {
                let detail =
                    format!("a {} has connected where clients are expected: the frontend of a broker", ready.role);
                self.turn_away(from, detail);
            }
            _ => {
                self.counters.unregistered_messages += 1;
                self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, from));
            }
        }
    }

    fn turn_away(&mut self, from: Peer, detail: String) {
        info!(peer = from.0, detail, "turned a peer away");
        let error = ErrorReply::not_started(CallId(0), ErrorCode::Malformed, detail);
        self.outbox.push(from, Message::Error(error));
        self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, from));
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: &Ready) {
        let interval = ready.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let heartbeats = self.config.heartbeats;
        let liveness = Liveness::new(now, heartbeats.interval, heartbeats.expiry(interval));
        let peer_max = usize::try_from(ready.payload_bytes_max).unwrap_or(usize::MAX);
        info!(peer = from.0, incarnation = %ready.incarnation, "client registered");
        if ready.capabilities.contains(Capabilities::BATCH) {
            self.outbox.allow_batches(from, ready.payload_bytes_max);
        }
        let client = self.clients.entry(from).or_insert_with(|| ClientEntry {
            liveness,
            incarnation: ready.incarnation,
            reply_bytes_max: 0,
            requests: BTreeMap::new(),
            intake: Intake::default(),
            replies: Outflow::default(),
            is_leaving: false,
        });
        client.liveness = liveness;
        client.reply_bytes_max = peer_max.min(self.config.limits.payload_bytes_max);
        client.replies.window_mut().resize(ready.window_bytes);
        self.timers.set(Timer::Lease(from), liveness.expires_at());
        self.timers.set(Timer::Heartbeat(from), liveness.heartbeat_at());
        self.untold.insert(from);
        self.outputs.push_back(BrokerOutput::ClientJoined(from));
        self.send_held(now, from);
    }

    fn handle_request(&mut self, now: Instant, from: Peer, request: Request) {
        let Some(client) = self.clients.get_mut(&from) else { return };
        let call = request.call;
        // An answer would end the call that is open under this id.
        let bytes = MESSAGE_WINDOW_BYTES + request.payload.bytes.len() as u64;
        if client.requests.contains_key(&call) {
            self.counters.unexpected_messages += 1;
            self.acknowledge(now, from, bytes);
            return debug!(peer = from.0, %call, "dropped a request whose call is open already");
        }
        self.counters.requests += 1;
        if self.leaving != Leaving::No {
            self.acknowledge(now, from, bytes);
            return self.refuse(now, from, call, ErrorCode::Refused, "the broker drains".to_owned());
        }
        if client.requests.len() + client.replies.held_ends() >= self.config.credits as usize {
            self.acknowledge(now, from, bytes);
            let credits = self.config.credits;
            let detail =
                format!("the broker takes {credits} requests of a client at once; its `client_credits` raises that");
            return self.refuse(now, from, call, ErrorCode::Overloaded, detail);
        }
        self.calls += 1;
        let id = CallId(self.calls);
        client.requests.insert(call, id);
        self.origins.insert(id, Origin { client: from, call, bytes, is_taken: false, partials: 0 });
        self.dispatcher.call(now, id, spec_of(now, from, request));
        if !self.dispatcher.is_waiting(id) {
            self.take_request(now, id);
        }
    }

    fn handle_cancel(&mut self, now: Instant, from: Peer, call: CallId) {
        // A cancel that crosses the final reply on its way finds nothing, and that is fine.
        let Some(id) = self.clients.get(&from).and_then(|client| client.requests.get(&call)).copied() else { return };
        let maybe_executed = self.dispatcher.maybe_executed(id);
        self.dispatcher.cancel(now, id);
        if let Some(origin) = self.take_origin(now, id) {
            let error = ErrorReply {
                partials: origin.partials,
                maybe_executed,
                ..ErrorReply::not_started(call, ErrorCode::Cancelled, String::new())
            };
            self.reply(now, from, call, Message::Error(error));
        }
    }

    pub(super) fn pass_partial(&mut self, now: Instant, id: CallId, payload: Payload) {
        let Some(origin) = self.origins.get_mut(&id) else { return };
        let Some(client) = self.clients.get(&origin.client) else { return };
        // What a client does not take is not to pile up here.
        if client.replies.held_bytes() >= HELD_BYTES_MAX || client.replies.held() >= HELD_MAX {
            return self.dispatcher.overflow(now, id);
        }
        let (to, call, sequence, size) = (origin.client, origin.call, origin.partials, payload.bytes.len());
        if size > client.reply_bytes_max {
            // Its place stays empty, and the client sees by the sequence that it is missing.
            origin.partials += 1;
            return debug!(%call, size, "dropped a partial reply that is larger than the client takes");
        }
        origin.partials += 1;
        self.reply(now, to, call, Message::Partial(PartialReply { call, sequence, payload }));
    }

    pub(super) fn pass_final(&mut self, now: Instant, id: CallId, payload: Payload) {
        let Some(Origin { mut client, call, partials, .. }) = self.take_origin(now, id) else { return };
        if planted(Fault::ReplyToWrongClient) {
            client = self.clients.keys().next().copied().unwrap_or(client);
        }
        let limit = self.clients.get(&client).map_or(0, |client| client.reply_bytes_max);
        let size = payload.bytes.len();
        let message = match size > limit {
            true => Message::Error(ErrorReply {
                partials,
                maybe_executed: true,
                ..ErrorReply::not_started(call, ErrorCode::TooLarge, frame::reply_too_large(size, limit))
            }),
            false => Message::Final(FinalReply { call, partials, payload }),
        };
        self.reply(now, client, call, message);
    }

    pub(super) fn pass_failure(&mut self, now: Instant, id: CallId, failure: CallFailure) {
        let Some(Origin { client, call, partials, .. }) = self.take_origin(now, id) else { return };
        if matches!(failure, CallFailure::NotOffered { .. } | CallFailure::UnknownMethod { .. }) {
            self.hasten_offers(client);
        }
        let error = ErrorReply { call, partials, ..error_of(failure) };
        self.reply(now, client, call, Message::Error(error));
    }

    fn take_origin(&mut self, now: Instant, id: CallId) -> Option<Origin> {
        self.take_request(now, id);
        let origin = self.origins.remove(&id)?;
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
        if self.clients.get(&to).is_some_and(|client| client.replies.is_overrun(self.config.credits)) {
            return self.let_go(now, to);
        }
        self.reply(now, to, call, Message::Error(ErrorReply::not_started(call, code, detail)));
    }

    /// Sends a reply when the client has room for it.
    fn reply(&mut self, now: Instant, to: Peer, call: CallId, message: Message) {
        let Some(client) = self.clients.get_mut(&to) else { return };
        if let Some(message) = client.replies.push(call, message) {
            self.send(now, to, message);
        }
    }

    /// Sends what the client has got room for.
    fn send_held(&mut self, now: Instant, to: Peer) {
        while let Some(message) = self.clients.get_mut(&to).and_then(|client| client.replies.poll()) {
            self.send(now, to, message);
        }
    }

    /// A request does not wait here any more: its client may send as much again.
    pub(super) fn take_request(&mut self, now: Instant, id: CallId) {
        let Some(origin) = self.origins.get_mut(&id).filter(|origin| !origin.is_taken) else { return };
        origin.is_taken = true;
        let (client, bytes) = (origin.client, origin.bytes);
        self.acknowledge(now, client, bytes);
    }

    /// Tells a client how much of its payloads has been dealt with, when it is time to.
    fn acknowledge(&mut self, now: Instant, to: Peer, bytes: u64) {
        let window = self.config.window_bytes;
        let told = self.clients.get_mut(&to).and_then(|client| client.intake.take(bytes, window));
        if let Some(bytes) = told {
            self.send(now, to, Message::Ack(bytes));
        }
    }

    pub(super) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        // Nothing follows a goodbye (`PROTOCOL.md` §10).
        let Some(client) = self.clients.get_mut(&to).filter(|client| !client.is_leaving) else { return };
        client.liveness.sent(now);
        self.introduce(to);
        let bytes = message.payload_bytes();
        if bytes >= LARGE_PAYLOAD_BYTES {
            self.outbox.push(to, Message::Patience(patience(bytes)));
        }
        self.outbox.push(to, message);
    }

    pub(super) fn say_goodbye(&mut self, now: Instant, to: Peer) {
        self.send(now, to, Message::Goodbye);
        if let Some(client) = self.clients.get_mut(&to) {
            client.is_leaving = true;
            self.timers.stop(Timer::Heartbeat(to));
        }
    }

    pub(super) fn remove_client(&mut self, now: Instant, peer: Peer, departure: Departure) {
        self.outbox.forget(peer);
        self.untold.remove(&peer);
        let Some(client) = self.clients.remove(&peer) else { return };
        info!(peer = peer.0, ?departure, open = client.requests.len(), "client left");
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        for id in client.requests.into_values() {
            self.origins.remove(&id);
            if planted(Fault::VanishedClientServed) {
                continue;
            }
            self.dispatcher.cancel(now, id);
        }
        self.outputs.push_back(BrokerOutput::ClientLeft(peer, departure));
    }

    pub(super) fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let Some(client) = self.clients.get(&peer) else { return };
        if client.liveness.heartbeat_at() <= now {
            self.send(now, peer, Message::Heartbeat);
        }
        if let Some(client) = self.clients.get(&peer) {
            self.timers.set(Timer::Heartbeat(peer), client.liveness.heartbeat_at());
        }
    }

    pub(super) fn check_lease(&mut self, now: Instant, peer: Peer) {
        let Some(client) = self.clients.get(&peer) else { return };
        if client.liveness.expires_at() > now {
            return self.timers.set(Timer::Lease(peer), client.liveness.check_at(now));
        }
        self.counters.expired_leases += 1;
        self.outputs.push_back(BrokerOutput::Disconnect(Door::Front, peer));
        self.remove_client(now, peer, Departure::Expired);
    }
}

/// How a call failed, as a client reads it; its call and partial replies are still to be filled in.
fn error_of(failure: CallFailure) -> ErrorReply {
    let error = |code, maybe_executed, detail| ErrorReply {
        maybe_executed,
        ..ErrorReply::not_started(CallId(0), code, detail)
    };
    let names = |offered: &[Arc<str>]| listed(offered.iter().map(|name| &**name));
    match failure {
        // This broker has tried elsewhere as often as may be; its clients are not to begin anew.
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
            // What a broker that drains has not passed on is refused; what is left at the end of its time may have run.
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
    // The word of all workers, as the client knew it, is to hold for the one that gets it.
    let must_declare = idempotent && as_declared;
    let (idempotent, attempts_before) = ((!must_declare).then_some(idempotent), attempt.saturating_sub(1));
    // Only the client knows of other brokers, and what waits with it is not lost with this one.
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

/// Replies that are kept for a client that does not take them, in bytes; beyond, its calls with partial replies end.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The same in replies, which may be empty: they cost no more than the bytes do.
const HELD_MAX: usize = 64 << 10;
